"""Running an exported ONNX file by ONNX Runtime or by OpenVINO, on a CPU."""

import sys
import threading
from pathlib import Path

import numpy as np

from ssd_jax.export.file_engine import FileEngine
from ssd_jax.export.metadata import KEY, Metadata
from ssd_jax.extras import import_extra

INPUTS, OUTPUTS = ("images", "sizes"), ["boxes", "scores", "labels"]


def load_onnxruntime(path: Path) -> FileEngine:
    """The detector in an ONNX file, run by ONNX Runtime in float32.

    Raises:
      ValueError: onnxruntime is not installed; it is no whole ONNX file, or none of export.py.
    """
    library = import_extra("onnxruntime", "files run by ONNX Runtime need onnxruntime")
    of_library = library.capi.onnxruntime_pybind11_state
    faults = (  # they share no class of their own
        *(of_library.Fail, of_library.InvalidArgument, of_library.InvalidGraph),
        *(of_library.InvalidProtobuf, of_library.NotImplemented),
    )
    try:
        session = library.InferenceSession(path, providers=["CPUExecutionProvider"])
    except faults as fault:
        raise ValueError(f"{path} is no ONNX file: {fault}") from fault
    properties = session.get_modelmeta().custom_metadata_map
    metadata = _metadata(properties.get(KEY), path)

    def run(images: np.ndarray, sizes: np.ndarray) -> list[np.ndarray]:
        return session.run(OUTPUTS, dict(zip(INPUTS, (images, sizes), strict=True)))

    return FileEngine(metadata, run)


def load_openvino(path: Path, *, precision: str | None = None) -> FileEngine:
    """The detector in an ONNX file, run by OpenVINO.

    Args:
      path: of the file.
      precision: 'f32' or 'bf16'; None is what OpenVINO takes for the fastest: bfloat16 on CPUs
        that have it, otherwise float32. Boxes and NMS are computed in float32 either way.

    Raises:
      ValueError: openvino is not installed; it is no ONNX file, or none of export.py.
    """
    # Importing OpenVINO reports its use over the network from a forked process, of which JAX warns.
    # Without the package that does so it is silent.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    library = import_extra("openvino", "files run by OpenVINO need openvino")
    core = library.Core()
    try:
        model = core.read_model(path)
    except RuntimeError as fault:
        raise ValueError(f"{path} is no ONNX file: {fault}") from fault
    key = ["framework", KEY]
    text = model.get_rt_info(key).astype(str) if model.has_rt_info(key) else None
    metadata = _metadata(text, path)
    settings = {"PERFORMANCE_HINT": "LATENCY"}
    if precision is not None:
        settings["INFERENCE_PRECISION_HINT"] = precision
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    running = threading.Lock()

    def run(images: np.ndarray, sizes: np.ndarray) -> list[np.ndarray]:
        with running:  # a request runs once at a time, and by itself uses all cores
            results = request.infer(dict(zip(INPUTS, (images, sizes), strict=True)))
            return [np.array(results[name]) for name in OUTPUTS]

    return FileEngine(metadata, run)


def _metadata(text: str | None, path: Path) -> Metadata:
    if text is None:
        raise ValueError(f"{path} is an ONNX file, but none that export.py wrote")
    return Metadata.from_json(text, str(path))
