"""What an exported file is once it is loaded: an engine, whichever runtime runs it."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ssd_jax.detection import Detections
from ssd_jax.export.metadata import Metadata

Run = Callable[[np.ndarray, np.ndarray], Sequence[np.ndarray]]
"""(images, sizes) to (boxes, scores, labels), from any number of threads."""


class FileEngine:
    """An `ssd_jax.engine.Engine` from an exported file.

    Attributes:
      metadata: what the file says of itself.
    """

    def __init__(self, metadata: Metadata, run: Run):
        self.metadata = metadata
        self._run = run

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes without background; label k is `class_names[k - 1]`."""
        return self.metadata.class_names

    @property
    def canvas(self) -> int:
        """Side of the canvases that the detector was trained with, pixels."""
        return self.metadata.canvas

    def __call__(self, canvases: np.ndarray, sizes: np.ndarray) -> Detections:
        """Detects objects on B pictures.

        A file made for a fixed number of pictures runs as often as needed, the last time filled up.

        Args:
          canvases: uint8 [B, H, W, 3], RGB pictures at the top left of canvases; of any H and W.
          sizes: int32 [B, 2], (height, width) of each picture on its canvas.

        Returns:
          Detections of NumPy arrays; the boxes are relative to the pictures.

        Raises:
          ValueError: another dtype or shape, or a picture beyond its canvas.
        """
        _check(canvases, sizes)
        at_once = self.metadata.batch or len(canvases)
        parts = [
            self._run_filled(canvases[first : first + at_once], sizes[first : first + at_once])
            for first in range(0, len(canvases), at_once)
        ]
        outputs: Any = [np.concatenate(of_parts) for of_parts in zip(*parts, strict=True)]
        return Detections(*outputs)

    def _run_filled(self, canvases: np.ndarray, sizes: np.ndarray) -> list[np.ndarray]:
        """Runs as many pictures as the file is made for; those that are missing are black."""
        count = len(canvases)
        if missing := (self.metadata.batch or count) - count:
            canvases = np.pad(canvases, ((0, missing), (0, 0), (0, 0), (0, 0)))
            sizes = np.pad(sizes, ((0, missing), (0, 0)), constant_values=1)
        return [output[:count] for output in self._run(canvases, sizes)]


def _check(canvases: np.ndarray, sizes: np.ndarray) -> None:
    if canvases.dtype != np.uint8 or canvases.ndim != 4 or canvases.shape[3] != 3:
        raise ValueError(
            f"the images are {canvases.dtype} {list(canvases.shape)}: give uint8 [B, H, W, 3], RGB"
        )
    if len(canvases) == 0:
        raise ValueError("there is no image: give at least one")
    if sizes.dtype != np.int32 or sizes.shape != (len(canvases), 2):
        raise ValueError(
            f"the sizes are {sizes.dtype} {list(sizes.shape)}: give (height, width) of each of the "
            f"{len(canvases)} images, int32 [{len(canvases)}, 2]"
        )
    if (sizes < 1).any() or (sizes > canvases.shape[1:3]).any():
        raise ValueError(
            f"the sizes (height, width) are {sizes.tolist()}: they must be at least 1 and at most "
            f"{list(canvases.shape[1:3])}, what the images have"
        )
