"""Boxes as strangers write them: outside the image, or of no size."""

from __future__ import annotations

import logging

import numpy as np
from jaxtyping import Bool, Float32, Float64

logger = logging.getLogger(__name__)

_FILES_NAMED = 3


class OddBoxes:
    """Turns pixels into relative corners, and keeps count of what had to be mended."""

    def __init__(self) -> None:
        """Starts with nothing met."""
        self._clipped: list[str] = []
        self._dropped: list[str] = []
        self._sizeless: list[str] = []

    def relative(
        self, boxes: Float64[np.ndarray, "n 4"], size: tuple[int, int] | None, name: str
    ) -> tuple[Float32[np.ndarray, "n 4"], Bool[np.ndarray, " n"]]:
        """Boxes relative to their image, clipped to it, and which of them have an area.

        Args:
          boxes: Corners [xmin, ymin, xmax, ymax] in pixels.
          size: (height, width) of the image in pixels; None where neither the annotation says it
            nor the image can be read.
          name: File to name in the report.

        Returns:
          The boxes in 0..1, and True for each that is a box: the others are to be dropped.
        """
        if size is None:
            self._sizeless += [name] * len(boxes)
            return np.zeros((len(boxes), 4), np.float32), np.zeros(len(boxes), np.bool_)
        height, width = size
        exact = boxes / np.array([width, height, width, height], np.float64)
        relative = np.clip(exact, 0.0, 1.0).astype(np.float32)
        kept = np.all(relative[:, 2:] > relative[:, :2], axis=1)
        outside = np.any((exact < 0.0) | (exact > 1.0), axis=1)
        self._clipped += [name] * int(np.sum(outside & kept))
        self._dropped += [name] * int(np.sum(~kept))
        return relative, kept

    def report(self, dataset: str) -> None:
        """Logs one warning with the counts and some of the files, if anything was odd."""
        parts = []
        if self._clipped:
            parts.append(f"clipped {_boxes(self._clipped)} outside of the image")
        if self._dropped:
            parts.append(f"dropped {_boxes(self._dropped)} of no size")
        if self._sizeless:
            parts.append(f"dropped {_boxes(self._sizeless)} of images that cannot be read")
        if parts:
            logger.warning("%s: %s", dataset, "; ".join(parts))


def _boxes(names: list[str]) -> str:
    """'2 boxes (a.xml, b.xml)', each file named once and only a few of them."""
    files = list(dict.fromkeys(names))
    more = ", ..." if len(files) > _FILES_NAMED else ""
    count = f"{len(names)} box" if len(names) == 1 else f"{len(names)} boxes"
    return f"{count} ({', '.join(files[:_FILES_NAMED])}{more})"
