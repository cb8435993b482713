"""What every dataset hands to the loader: encoded images with their boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int32


class Example(TypedDict):
    """One image as it is stored, with its objects.

    Attributes:
      image: The encoded file (JPEG, PNG, ...).
      name: The file's name, for messages and result files.
      image_id: The dataset's own number of the image (COCO's id; elsewhere the row).
      boxes: Corners [xmin, ymin, xmax, ymax], relative to the image (0..1).
      labels: Classes, counted from 1 (0 is the background).
      difficult: Objects that VOC's evaluation neither rewards nor punishes.
    """

    image: bytes
    name: str
    image_id: int
    boxes: Float32[np.ndarray, "n 4"]
    labels: Int32[np.ndarray, " n"]
    difficult: Bool[np.ndarray, " n"]


@runtime_checkable
class Source(Protocol):
    """Random access to examples. Picklable: worker processes receive a copy."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Example: ...

    def name(self, row: int) -> str:
        """Returns the file name of a row."""
        ...

    @property
    def object_counts(self) -> Int32[np.ndarray, " rows"]:
        """Number of annotated objects of each row, found without decoding an image."""
        ...


@dataclass(frozen=True)
class Dataset:
    """A split of a dataset.

    Attributes:
      name: The dataset's name, for messages.
      split: The split's name.
      source: The examples.
      class_names: Names of the classes, without the background: label k is `class_names[k - 1]`.
    """

    name: str
    split: str
    source: Source
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.source)


class Concatenated:
    """Several sources, one after the other. Image ids become rows: each source counts its own."""

    def __init__(self, sources: Sequence[Source]) -> None:
        """Joins sources; at least one."""
        self._sources = tuple(sources)
        self._stops = np.cumsum([len(source) for source in self._sources])

    def __len__(self) -> int:
        return int(self._stops[-1])

    def __getitem__(self, row: int) -> Example:
        source, own_row = self._find(row)
        return {**source[own_row], "image_id": row}

    def name(self, row: int) -> str:
        """Returns the file name of a row."""
        source, own_row = self._find(row)
        return source.name(own_row)

    @property
    def object_counts(self) -> Int32[np.ndarray, " rows"]:
        """Number of annotated objects of each row."""
        return np.concatenate([source.object_counts for source in self._sources])

    def _find(self, row: int) -> tuple[Source, int]:
        which = int(np.searchsorted(self._stops, row, side="right"))
        return self._sources[which], row - (int(self._stops[which - 1]) if which else 0)
