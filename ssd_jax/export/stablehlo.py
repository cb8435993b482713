"""StableHLO: a zip of the compiled-to-be program (`jax.export`), the weights and the metadata.

metadata.json      as of `Metadata`
program.jax        what `jax.export.deserialize` reads, for cpu, cuda and tpu; a function of
                   (weights, images, sizes) to (boxes, scores, labels)
weights.npz        name -> array, the program's first argument
"""

import functools
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.export  # no attribute of `jax` until it is imported
import numpy as np
from flax import traverse_util
from jax import Array
from jaxtyping import Float, Int, UInt8

from ssd_jax.compile_once import CompileOnce
from ssd_jax.detection import Detections
from ssd_jax.export.file_engine import FileEngine
from ssd_jax.export.metadata import Metadata

PLATFORMS = ("cpu", "cuda", "tpu")
METADATA, PROGRAM, WEIGHTS = "metadata.json", "program.jax", "weights.npz"


def write(
    path: Path,
    predict: Callable[[Any, Array, Array], Detections],
    variables: Any,
    metadata: Metadata,
) -> None:
    """Writes the file.

    Args:
      path: of the file.
      predict: as of `ssd_jax.recipe.build_predict`.
      variables: its first argument.
      metadata: of the detector.
    """

    def program(
        weights: dict[str, Array], images: UInt8[Array, "B H W 3"], sizes: Int[Array, "B 2"]
    ) -> tuple[Float[Array, "B K 4"], Float[Array, "B K"], Int[Array, "B K"]]:
        found = predict(traverse_util.unflatten_dict(weights, sep="/"), images, sizes)
        return found.boxes, found.scores, found.labels

    weights = traverse_util.flatten_dict(jax.tree.map(np.asarray, variables), sep="/")
    scope = jax.export.SymbolicScope()
    batch = metadata.batch or "batch"
    images = jax.export.symbolic_shape(f"{batch}, height, width, 3", scope=scope)
    sizes = jax.export.symbolic_shape(f"{batch}, 2", scope=scope)
    exported = jax.export.export(jax.jit(program), platforms=PLATFORMS)(
        weights, jax.ShapeDtypeStruct(images, np.uint8), jax.ShapeDtypeStruct(sizes, np.int32)
    )
    packed = io.BytesIO()
    np.savez(packed, **weights)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(METADATA, metadata.to_json())
        archive.writestr(PROGRAM, bytes(exported.serialize()))
        archive.writestr(WEIGHTS, packed.getvalue())


def load(path: Path) -> FileEngine:
    """The detector in a file of `write`, compiled for JAX's device at the first call of each shape.

    Raises:
      ValueError: it is another zip, broken, or of another format.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if set(archive.namelist()) != {METADATA, PROGRAM, WEIGHTS}:
                raise ValueError(
                    f"{path} is a zip, but none that export.py wrote: it holds "
                    f"{', '.join(archive.namelist()[:5]) or 'nothing'}"
                )
            members = {name: archive.read(name) for name in archive.namelist()}
    except zipfile.BadZipFile as fault:
        raise ValueError(f"{path} is no whole zip: {fault}") from fault
    metadata = Metadata.from_json(members[METADATA].decode(), str(path))
    exported = jax.export.deserialize(bytearray(members[PROGRAM]))
    with np.load(io.BytesIO(members[WEIGHTS]), allow_pickle=False) as stored:
        weights = jax.device_put(dict(stored))
    return FileEngine(metadata, functools.partial(CompileOnce(exported.call), weights))
