"""Evaluates a trained detector: figures by class, result files, and a report to open.

    python evaluate.py --ckpt runs/shapes
    python evaluate.py --ckpt runs/shapes --best --split train --metrics voc
    python evaluate.py --ckpt hf://owner/name --out results
    python evaluate.py --ckpt runs/shapes --config.detect.iou_threshold=0.6
    python evaluate.py --ckpt runs/shapes --model runs/shapes/model.onnx --runtime openvino
    python evaluate.py --ckpt runs/voc300 --voc_root VOCdevkit --split 2012_test --unannotated

The checkpoint says which data, classes and network; the data's folders can be given anew with
--voc_root, --archives, --root, --data_dir, --annotations and --images where they lie elsewhere now.
With --config.detect.FIELD=VALUE and --config.evaluate.FIELD=VALUE it detects and scores by other
settings than in training, with --config.data.kind=KIND on data of another kind that has the same
classes; the results' folder is named after all that is not as in training. With --model, a file
that export.py made of it is what detects. With --unannotated it only writes what is found, for a
server that knows the objects of the split.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict
from rich.console import Console

from ssd_jax import cli, compilation, export, hub, processes
from ssd_jax.config import differences
from ssd_jax.console import progress_bar
from ssd_jax.data import Dataset, Policies, load_dataset
from ssd_jax.data.policies import check_readable
from ssd_jax.data.settings import PATHS
from ssd_jax.detector import load_checkpoint
from ssd_jax.evaluation import report
from ssd_jax.evaluation.evaluator import (
    Evaluation,
    compile_predict,
    detect,
    evaluate,
    global_batch_size,
    predict_by,
)
from ssd_jax.evaluation.page import render_page
from ssd_jax.evaluation.scores import METRICS, check_metrics
from ssd_jax.evaluation.speed import Speed, measure_speed
from ssd_jax.model import SSD
from ssd_jax.recipe import build_model, build_predict, build_stages
from ssd_jax.sharding import make_mesh, place, shardings
from ssd_jax.training.checkpoints import Meta

connect_processes = cli.define_processes()
CACHE = compilation.define_cache()
CKPT = flags.DEFINE_string(
    "ckpt", None, "The run's folder, as given to train.py, or hf://OWNER/NAME."
)
STEP = flags.DEFINE_integer("step", None, "The checkpoint to evaluate [the newest].")
BEST = flags.DEFINE_bool("best", False, "Evaluate the checkpoint of the highest mAP.")
NAMES = flags.DEFINE_list("metrics", list(METRICS), f"Some of {','.join(METRICS)}.")
SPLIT = flags.DEFINE_string("split", None, "The split [the one evaluated in training].")
OUT = flags.DEFINE_string("out", None, "Folder of the results [CKPT/evaluation/SPLIT].")
UNANNOTATED = flags.DEFINE_bool(
    "unannotated", False, "Only detect and write result files: the split's objects are not public."
)
MODEL, RUNTIME = cli.define_model()
FOLDERS = {
    name: flags.DEFINE_string(name, None, f"config.data.{name}, if not as it was in training.")
    for name in PATHS
}

# By kind of data, the paths that say which data it is; others say where it lies.
OWN_DATA = {"voc_folder": ("root",), "coco_json": ("root", "annotations", "images")}
# Fields of the config; the data's folders have flags of their own.
CHANGEABLE = (
    *("detect.*", "evaluate.*", "data.kind", "data.fraction", "data.name", "data.undecodable"),
    *("data.image_feature", "data.boxes_feature", "data.labels_feature"),
)


def main(arguments: Sequence[str]) -> None:
    """Evaluates by the flags."""
    source = CKPT.value
    if source is None:
        raise ValueError("--ckpt is missing: give a run's folder, such as --ckpt runs/shapes")
    check_metrics(NAMES.value)
    if UNANNOTATED.value and flags.FLAGS["metrics"].present:
        raise ValueError("without annotations nothing is scored: leave out --metrics")
    connect_processes()
    compilation.enable_cache(CACHE.value)
    if MODEL.value and processes.are_several():
        raise ValueError("--model detects in one process: leave out the other ones")
    engine = export.load(MODEL.value, RUNTIME.value) if MODEL.value else None
    if hub.is_address(source) and OUT.value is None:
        raise ValueError(f"--out is missing: results cannot be written to {source}")
    workdir = processes.first_before_others(lambda: hub.folder_of(source))
    variables, meta, step = load_checkpoint(workdir, step=STEP.value, best=BEST.value)
    config = cli.changed(meta.config, arguments, CHANGEABLE)
    check_metrics([config.evaluate.best_metric])
    changes = {name: new for name, (_, new) in differences(meta.config, config).items()}
    if engine is not None and any(name.startswith("detect.") for name in changes):
        raise ValueError(f"{MODEL.value} detects by its own settings: leave out --config.detect.*")
    dataset = open_dataset(config, meta.class_names)
    if engine is not None and engine.class_names != dataset.class_names:
        raise ValueError(
            f"{MODEL.value} has the classes {', '.join(engine.class_names)}, the checkpoint "
            f"{', '.join(dataset.class_names)}: give the file that export.py made of it"
        )

    console = Console(soft_wrap=True, markup=False, quiet=not processes.is_first())
    mesh = make_mesh()
    replicated, _ = shardings(mesh)
    model = build_model(config, meta.class_names)
    if engine is None:
        predict = compile_predict(build_predict(config, model), mesh)
    else:
        predict = predict_by(engine)
    exported = Path(MODEL.value).name if MODEL.value else None
    detected_by = exported or f"step {step}"
    out = (
        Path(OUT.value)
        if OUT.value
        else results_folder(workdir, dataset.split, config, meta, changes)
    )
    if processes.is_first():
        cli.make_folder(out)
    with progress_bar(console) as bar:
        task = bar.add_task(f"evaluating {detected_by}", total=len(dataset))
        detected = detect(
            config,
            predict,
            place(variables, replicated),
            dataset,
            mesh,
            lambda done, _: bar.update(task, completed=done),
        )
    if processes.is_first():  # the rest is figures and files, once
        if UNANNOTATED.value:
            for name in ("report.html", "metrics.json", "ground_truth.json"):
                (out / name).unlink(missing_ok=True)  # they would be of other detections
            report.write_files(out, report.detection_files(detected.results))
            console.print(f"{detected.speed}; detections.json and comp4/ are in {out}")
        else:
            evaluation = evaluate(config, detected, NAMES.value)
            metrics = report.metrics(
                evaluation,
                None if exported else step,
                inclusive_pixels=config.evaluate.inclusive_pixels,
                threshold_inclusive=config.evaluate.threshold_inclusive,
                changes=changes,
                model=exported,
            )
            tell(console, evaluation, detected_by)
            write_figures(console, out, evaluation, metrics)
            speeds = []  # of an exported file: it does not show its stages
            if engine is None:
                batch_sizes = sorted({1, global_batch_size(config, mesh) // mesh.size})
                speeds = measure_speeds(config, model, variables, evaluation, batch_sizes)
            device = mesh.devices.flat[0].device_kind
            page = render_page(evaluation, metrics, speeds=speeds, device=device)
            report.write_files(out, {"report.html": page})
            console.print(f"python -m webbrowser -t {out / 'report.html'}", highlight=False)
    processes.wait_for_work()


def results_folder(
    workdir: Path, split: str, config: ConfigDict, meta: Meta, changes: Mapping[str, Any]
) -> Path:
    """Where the results go: a folder of the run, named after all that is not as in training.

    Args:
      workdir: the run's folder.
      split: what is evaluated.
      config: with the data's folders as the flags have them.
      meta: of the checkpoint.
      changes: the fields that the command line changes.
    """
    name = split
    if MODEL.value:
        name += f"-{Path(MODEL.value).name}-{RUNTIME.value or 'default'}"
    if STEP.value is not None:
        name += f"-step={STEP.value}"
    for field in OWN_DATA.get(config.data.kind, ()):
        folder, trained = config.data[field], meta.config.data[field]
        if os.path.abspath(os.path.expanduser(folder)) != os.path.abspath(trained):
            name += f"-{field}={folder}".replace("/", "_")
    for field, value in changes.items():
        name += f"-{field.rpartition('.')[2]}={value}".replace("/", "_")
    if len(name.encode()) > 200:  # file systems take 255 bytes
        name = f"{name[:40]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return workdir / report.FOLDER / name


def open_dataset(config: ConfigDict, class_names: tuple[str, ...]) -> Dataset:
    """The split that the flags name, which has to have these classes."""
    for name, flag in FOLDERS.items():
        if flag.value is not None:
            config.data[name] = flag.value
    if config.data.kind in ("voc_folder", "tfds"):
        config.data.class_names = class_names  # a folder may lack some of them, TFDS their names
    split = SPLIT.value or config.data.eval
    dataset = processes.first_before_others(
        lambda: load_dataset(config.data, split, annotated=not UNANNOTATED.value)
    )
    check_readable(dataset, Policies.from_settings(config.data))
    if dataset.class_names != class_names:
        raise ValueError(
            f"the checkpoint has {len(class_names)} classes ({', '.join(class_names)}), "
            f"{dataset.name} {dataset.split} has {len(dataset.class_names)} "
            f"({', '.join(dataset.class_names)}): give the data it was trained for"
        )
    return dataset


def measure_speeds(
    config: ConfigDict, model: SSD, variables: Any, evaluation: Evaluation, batch_sizes: list[int]
) -> list[Speed]:
    """Times the steps of a detection on the split's first pictures."""
    rows = evaluation.rows[: max(batch_sizes)]
    pictures = [evaluation.dataset.source[row] for row in rows]
    return [
        measure_speed(
            build_stages(config, model),
            variables,
            pictures,
            canvas_size=config.data.canvas,
            batch_size=size,
        )
        for size in batch_sizes
        if pictures
    ]


def tell(console: Console, evaluation: Evaluation, detected_by: str) -> None:
    """Prints the figures."""
    results, scores = evaluation.results, evaluation.scores
    console.print(report.table(results, scores))
    for line in (report.left_out(results, scores), report.coco_line(scores)):
        if line:
            console.print(line, highlight=False)
    console.print(f"{detected_by}  mAP {evaluation.mean:.4f}", highlight=False)


def write_figures(
    console: Console, out: Path, evaluation: Evaluation, metrics: Mapping[str, Any]
) -> None:
    """Writes the figures and the result files, and says where."""
    figures = json.dumps(metrics, indent=2) + "\n"
    (out / "report.html").unlink(missing_ok=True)  # it would be of other figures
    report.write_files(out, {**report.result_files(evaluation.results), "metrics.json": figures})
    console.print(f"{evaluation.speed}; metrics.json, detections.json and comp4/ are in {out}")


if __name__ == "__main__":
    cli.run(main, fields_apart=True)
