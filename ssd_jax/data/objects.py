"""The annotated objects of a whole split, in flat arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64


@dataclass(frozen=True)
class Objects:
    """All objects of all rows, without an image being read or decoded.

    The objects of row r are those from `starts[r]` up to `starts[r + 1]`; in all else as in
    `Example`.
    """

    starts: Int64[np.ndarray, " rows_and_one"]
    boxes: Float32[np.ndarray, "n 4"]
    labels: Int32[np.ndarray, " n"]
    difficult: Bool[np.ndarray, " n"]
    crowd: Bool[np.ndarray, " n"]

    def count(self, wanted: Bool[np.ndarray, " n"]) -> Int32[np.ndarray, " rows"]:
        """How many of each row's objects are wanted."""
        before = np.concatenate([[0], np.cumsum(wanted)])
        return np.diff(before[self.starts]).astype(np.int32)


def collect_objects(examples: Iterable[Mapping[str, Any]]) -> Objects:
    """The objects of examples, one a row."""
    parts = [
        Objects(
            starts=np.array([0, len(example["labels"])]),
            boxes=example["boxes"],
            labels=example["labels"],
            difficult=example["difficult"],
            crowd=example["crowd"],
        )
        for example in examples
    ]
    return join_objects([_NONE, *parts])


def join_objects(parts: Sequence[Objects]) -> Objects:
    """The objects of several sources, one after the other."""
    counts = [np.diff(part.starts) for part in parts]
    return Objects(
        starts=np.cumsum(np.concatenate([[0], *counts])),
        boxes=np.concatenate([part.boxes for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        difficult=np.concatenate([part.difficult for part in parts]),
        crowd=np.concatenate([part.crowd for part in parts]),
    )


_NONE = Objects(
    starts=np.zeros(1, np.int64),
    boxes=np.zeros((0, 4), np.float32),
    labels=np.zeros(0, np.int32),
    difficult=np.zeros(0, np.bool_),
    crowd=np.zeros(0, np.bool_),
)
