"""Times the exported ONNX file against the same network exported from PyTorch, on this CPU.

    python benchmarks/export.py --pictures VOCdevkit/VOC2007/JPEGImages

The network is a full SSD300 of 20 classes with random weights, its heads sized so that scores
spread over the pictures and of every class about 50 a picture, 1000 in all, enter NMS. PyTorch's
file goes from a picture that is resized and normalised already to the network's raw outputs; ours
from the uint8 picture to detections: the resize and NMS come on top. All files run in turns, so
that what else the machine does falls on all. Needs torch, onnxscript (which PyTorch's export
needs), onnx, onnxruntime and openvino. Writes benchmarks/results/export.json.
"""

import argparse
import datetime
import importlib.metadata
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import openvino
import torch
from common import RESULTS
from rich.console import Console
from rich.table import Table

from ssd_jax import config as config_lib
from ssd_jax import weights
from ssd_jax.class_names import PRESETS
from ssd_jax.data.images import decode_image, place_on_canvas
from ssd_jax.detector import Detector
from ssd_jax.engine import JaxEngine
from ssd_jax.export.onnx_detection import add_detection
from ssd_jax.export.onnx_file import IR_VERSION, OPSET
from ssd_jax.export.onnx_graph import FLOAT, INT32, Graph
from ssd_jax.export.write import write
from ssd_jax.priors import VOC300, prior_boxes
from tests.reference.peers_torch import SsdPytorch, randomise

FILE = RESULTS / "export.json"
PACKAGES = ("onnx", "onnxruntime", "openvino", "torch")
MEAN = np.array([123, 117, 104], np.float32)
CANVAS = 500  # pictures come on canvases of one size, as from Detector
CANDIDATES = 50  # scores of a class above the threshold on a picture, 1000 in all: NMS's work
RATIO_BAR, NMS_BAR = 1.10, 0.05

Run = Callable[[int], Any]


def network(inputs: torch.Tensor) -> SsdPytorch:
    """The network, its biases such that `CANDIDATES` scores of a class are above .01 a picture."""
    torch.manual_seed(0)
    ssd = randomise(SsdPytorch(300, 21), inputs, background=0)
    with torch.no_grad():
        logits = ssd(inputs)[1].flatten(0, 1)
        # Where nothing else is likely, a class' score is exp(its logit - the background's).
        lowest = (logits[:, 1:] - logits[:, :1]).topk(CANDIDATES * len(inputs), dim=0).values[-1]
        for convolution in ssd.conf:
            convolution.bias.view(-1, 21)[:, 1:] += math.log(0.01) - lowest
    return ssd


def write_files(ssd: SsdPytorch, example: torch.Tensor, folder: Path) -> None:
    """The files to time: torch, ours, and detection: what follows the network in ours."""
    torch.onnx.export(
        ssd,
        (example,),
        folder / "torch.onnx",
        input_names=["inputs"],
        output_names=["loc", "conf"],
        external_data=False,
    )
    state = {name: value.numpy() for name, value in ssd.state_dict().items()}
    config = config_lib.base()
    config.data.canvas = CANVAS
    variables = weights.from_ssd_pytorch(state).variables
    detector = Detector(JaxEngine(config, PRESETS["voc"], variables))
    write(detector, folder / "ours.onnx", format="onnx")
    graph = Graph()
    add_detection(
        graph,
        "loc",
        "conf",
        prior_boxes(VOC300),
        variances=VOC300.variances,
        batch_of="loc",
        **config.detect.to_dict(),
    )
    planes = {"loc": (FLOAT, [1, 4, 8732]), "conf": (FLOAT, [1, 21, 8732])}
    outputs = {"boxes": (FLOAT, [1, 200, 4]), "scores": (FLOAT, [1, 200])}
    model = onnx.helper.make_model(
        graph.finish("detection", planes, {**outputs, "labels": (INT32, [1, 200])}),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.save(model, folder / "detection.onnx")


def open_file(path: Path, runtime: str) -> Callable[[dict[str, np.ndarray]], Any]:
    """The file as a runtime runs it by default, or OpenVINO in float32."""
    if runtime == "onnxruntime":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda inputs: session.run(None, inputs)
    settings = {"PERFORMANCE_HINT": "LATENCY"}
    if runtime == "openvino float32":
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    return openvino.Core().compile_model(path, "CPU", settings).create_infer_request().infer


def measure(runs: dict[str, Run], rounds: int) -> dict[str, float]:
    """Median seconds of each, run in turns; the number of the round chooses the picture."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(-2, rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            run(number)
            if number >= 0:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}


def time_runtime(
    runtime: str, folder: Path, pictures: list[np.ndarray], inputs: torch.Tensor, ssd, rounds: int
) -> dict[str, Any]:
    """A row of the table: how long each file takes by one runtime."""
    runs: dict[str, Run] = {}
    with torch.no_grad():
        outputs = [[part.mT.numpy() for part in ssd(one)] for one in inputs.split(1)]
    feeds = {
        "torch": [{"inputs": one.numpy()} for one in inputs.split(1)],
        "ours": [
            {"images": canvas[None], "sizes": np.array([size], np.int32)}
            for canvas, size in (place_on_canvas(one, CANVAS) for one in pictures)
        ],
        "detection": [dict(zip(("loc", "conf"), one, strict=True)) for one in outputs],
    }
    for name, of_pictures in feeds.items():
        infer = open_file(folder / f"{name}.onnx", runtime)
        runs[name] = lambda number, infer=infer, feeds=of_pictures: infer(
            feeds[number % len(feeds)]
        )
    seconds = measure(runs, rounds)
    return {
        "runtime": runtime,
        "milliseconds": {name: round(1000 * value, 2) for name, value in seconds.items()},
        "ours_over_torch": round(seconds["ours"] / seconds["torch"], 4),
        "detection_share": round(seconds["detection"] / seconds["ours"], 4),
    }


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path, required=True, help="folder of JPEGs")
    parser.add_argument("--rounds", type=int, default=24, help="runs of each file")
    arguments = parser.parse_args()
    files = sorted(arguments.pictures.glob("*.jpg"))[:8]
    pictures = [decode_image(path.read_bytes(), path.name) for path in files]
    resized = np.stack([cv2.resize(one.astype(np.float32), (300, 300)) - MEAN for one in pictures])
    inputs = torch.from_numpy(resized.transpose(0, 3, 1, 2).copy())
    ssd = network(inputs)
    with tempfile.TemporaryDirectory() as folder:
        write_files(ssd, inputs[:1], Path(folder))
        rows = [
            time_runtime(runtime, Path(folder), pictures, inputs, ssd, arguments.rounds)
            for runtime in ("onnxruntime", "openvino", "openvino float32")
        ]
    table = Table("runtime", "PyTorch's", "ours", "ratio", "NMS's share")
    for row in rows:
        times = row["milliseconds"]
        table.add_row(
            row["runtime"],
            f"{times['torch']} ms",
            f"{times['ours']} ms",
            f"{row['ours_over_torch']:.3f}",
            f"{row['detection_share']:.1%}",
        )
    Console().print(table)
    reached = all(
        row["ours_over_torch"] <= RATIO_BAR and row["detection_share"] <= NMS_BAR for row in rows
    )
    report = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cores": torch.get_num_threads(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "candidates_of_a_class": CANDIDATES,
        "rounds": arguments.rounds,
        "bars": {"ours_over_torch": RATIO_BAR, "detection_share": NMS_BAR, "reached": reached},
        "results": rows,
    }
    FILE.write_text(json.dumps(report, indent=2) + "\n")
    print(f"bars {'reached' if reached else 'NOT reached'}; written to {FILE}")


if __name__ == "__main__":
    main()
