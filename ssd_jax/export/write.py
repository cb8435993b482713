"""From a checkpoint's detector to one file."""

import os
from pathlib import Path

import jax
import numpy as np

from ssd_jax.detector import Detector
from ssd_jax.engine import JaxEngine
from ssd_jax.export import stablehlo
from ssd_jax.export.metadata import Metadata
from ssd_jax.extras import import_extra
from ssd_jax.recipe import build_predict

FORMATS = ("stablehlo", "onnx")


def write(detector: Detector, path: str | Path, *, format: str, batch: int | None = None) -> None:
    """Writes a detector, preprocessing and NMS included, to one file.

    The file takes `images` uint8 [B, H, W, 3], RGB pictures at the top left of canvases of any one
    size, and `sizes` int32 [B, 2], the pictures' (height, width) on them. It gives `boxes`
    [B, K, 4], `scores` [B, K] and `labels` int32 [B, K] as of `ssd_jax.detection.detect`. It
    computes in float32, also where the checkpoint's recipe says bfloat16 (StableHLO: as that says).

    Args:
      detector: of a checkpoint.
      path: the file, which is replaced when the new one is whole; its folder is made if need be.
      format: 'stablehlo', by `jax.export` for cpu, cuda and tpu; or 'onnx'.
      batch: images B a call; None is any number.

    Raises:
      ValueError: there is no such format, the batch is below 1, the path is a folder's, or the
        detector is itself of a file; or, for ONNX, onnx is not installed or the network is not
        `ssd_jax.model.SSD` on VGG16.
    """
    if batch is not None and batch < 1:
        raise ValueError(f"a batch of {batch} images: give at least 1, or none for any number")
    if format not in FORMATS:
        raise ValueError(f"no format {format!r}: there are {', '.join(FORMATS)}")
    engine = detector.engine
    if not isinstance(engine, JaxEngine):
        raise ValueError("the detector is of an exported file: export the checkpoint")
    config, model = engine.config, engine.model
    metadata = Metadata(
        class_names=engine.class_names,
        batch=batch,
        canvas=engine.canvas,
        image_size=model.priors.image_size,
        mean=tuple(config.model.mean),
        std=tuple(config.model.std),
        detect=config.detect.to_dict(),
    )
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give the name of a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    variables = jax.tree.map(np.asarray, engine.variables)
    half = path.with_name(path.name + ".part")
    try:
        if format == "onnx":
            import_extra("onnx", "ONNX files need onnx")
            from ssd_jax.export import onnx_file

            onnx_file.write(half, model, variables, metadata)
        else:
            stablehlo.write(half, build_predict(config, model), variables, metadata)
        os.replace(half, path)
    finally:
        half.unlink(missing_ok=True)
