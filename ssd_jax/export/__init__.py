"""A detector as one file that runs elsewhere: StableHLO and ONNX, NMS included.

    from ssd_jax import export

    engine = export.load("model.onnx")
    boxes, scores, labels = engine(images, sizes)

Loading and running a file needs none of the network's code (`ssd_jax.model`); docs/export.md shows
how to do without this package at all. `ssd_jax.export.write.write` makes the files, export.py is
its command line.
"""

from pathlib import Path
from typing import Literal, get_args

from ssd_jax.export import onnx_runtimes, stablehlo
from ssd_jax.export.file_engine import FileEngine

Runtime = Literal["jax", "onnxruntime", "openvino"]
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)

_ZIP_START = b"PK"


def load(path: str | Path, runtime: Runtime | None = None) -> FileEngine:
    """The detector in a file that export.py wrote.

    Args:
      path: of the file.
      runtime: what runs it: 'jax' for StableHLO; 'onnxruntime' (in float32) or 'openvino' (in
        bfloat16 where the CPU has it) for ONNX. None is the first that can.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is another file or of another format, the runtime is not for it, or is not
        installed.
    """
    path = Path(path)
    with path.open("rb") as file:
        stablehlo_file = file.read(len(_ZIP_START)) == _ZIP_START
    runtimes: tuple[Runtime, ...] = ("jax",) if stablehlo_file else ("onnxruntime", "openvino")
    if runtime is None:
        runtime = runtimes[0]
    if runtime not in runtimes:
        kind = "a zip, as of StableHLO" if stablehlo_file else "no zip, so not StableHLO"
        raise ValueError(f"{path} is {kind}: it runs by {' or '.join(runtimes)}, not {runtime}")
    loaders = {
        "jax": stablehlo.load,
        "onnxruntime": onnx_runtimes.load_onnxruntime,
        "openvino": onnx_runtimes.load_openvino,
    }
    return loaders[runtime](path)
