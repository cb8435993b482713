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
    `Example`. Flat, because worker processes receive copies: a hundred thousand small arrays pickle
    slowly.
    """

    starts: Int64[np.ndarray, " rows_and_one"]
    boxes: Float32[np.ndarray, "n 4"]
    labels: Int32[np.ndarray, " n"]
    difficult: Bool[np.ndarray, " n"]
    crowd: Bool[np.ndarray, " n"]
    area: Float32[np.ndarray, " n"]

    def of_row(self, row: int) -> slice:
        """Where the objects of a row lie."""
        return slice(self.starts[row], self.starts[row + 1])

    def count(self, wanted: Bool[np.ndarray, " n"]) -> Int32[np.ndarray, " rows"]:
        """How many of each row's objects are wanted."""
        before = np.concatenate([[0], np.cumsum(wanted)])
        return np.diff(before[self.starts]).astype(np.int32)


def flatten_objects(
    boxes: Sequence[Float32[np.ndarray, "_ 4"]],
    labels: Sequence[Int32[np.ndarray, " _"]],
    difficult: Sequence[Bool[np.ndarray, " _"]],
    crowd: Sequence[Bool[np.ndarray, " _"]],
    area: Sequence[Float32[np.ndarray, " _"]],
) -> Objects:
    """The objects of all rows, of an array a row each."""
    return Objects(
        starts=np.cumsum([0] + [len(of_row) for of_row in labels]),
        boxes=np.concatenate([np.zeros((0, 4), np.float32), *boxes]),
        labels=np.concatenate([np.zeros(0, np.int32), *labels]),
        difficult=np.concatenate([np.zeros(0, np.bool_), *difficult]),
        crowd=np.concatenate([np.zeros(0, np.bool_), *crowd]),
        area=np.concatenate([np.zeros(0, np.float32), *area]),
    )


def collect_objects(examples: Iterable[Mapping[str, Any]]) -> Objects:
    """The objects of examples, one a row."""
    columns: dict[str, list[np.ndarray]] = {
        name: [] for name in ("boxes", "labels", "difficult", "crowd", "area")
    }
    for example in examples:
        for name, column in columns.items():
            column.append(example[name])
    return flatten_objects(**columns)


def join_objects(parts: Sequence[Objects]) -> Objects:
    """The objects of several sources, one after the other."""
    counts = [np.diff(part.starts) for part in parts]
    return Objects(
        starts=np.cumsum(np.concatenate([[0], *counts])),
        boxes=np.concatenate([part.boxes for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        difficult=np.concatenate([part.difficult for part in parts]),
        crowd=np.concatenate([part.crowd for part in parts]),
        area=np.concatenate([part.area for part in parts]),
    )
