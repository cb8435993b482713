"""What every dataset hands to the loader: encoded images with their boxes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypedDict, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int32

from ssd_jax.data.objects import Objects, join_objects


class Example(TypedDict):
    """One image as it is stored, with its objects.

    Attributes:
      image: The encoded file (JPEG, PNG, ...).
      turned: The boxes are of the picture turned as its EXIF says, not of the stored pixels.
      name: The file's name, for messages and result files.
      image_id: The dataset's own number of the image (COCO's id; elsewhere the row).
      boxes: Corners [xmin, ymin, xmax, ymax], relative to the image (0..1).
      labels: Classes, counted from 1 (0 is the background).
      difficult: Objects that VOC's evaluation neither rewards nor punishes.
      crowd: COCO's regions of many objects: never trained on, and no misses in its evaluation.
      area: Pixels^2: the segment's where the annotation says it, else the box's.
    """

    image: bytes
    turned: bool
    name: str
    image_id: int
    boxes: Float32[np.ndarray, "n 4"]
    labels: Int32[np.ndarray, " n"]
    difficult: Bool[np.ndarray, " n"]
    crowd: Bool[np.ndarray, " n"]
    area: Float32[np.ndarray, " n"]


@runtime_checkable
class Source(Protocol):
    """Random access to examples. Picklable: worker processes receive a copy."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Example:
        """Returns the example of a row; raises ValueError where its image lies damaged."""
        ...

    def name(self, row: int) -> str:
        """Returns the file name of a row."""
        ...

    @property
    def objects(self) -> Objects:
        """The objects of all rows, found without decoding an image."""
        ...


@dataclass(frozen=True)
class Dataset:
    """A split of a dataset.

    Attributes:
      name: The dataset's name, for messages.
      split: The split's name.
      source: The examples.
      class_names: Names of the classes, without the background: label k is `class_names[k - 1]`.
      category_ids: The dataset's own ids of the classes, for result files; 1, 2, ... if not given.
      skipped: Rows that could not be decoded and were said to be left out, added as they are met.
    """

    name: str
    split: str
    source: Source
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...] = ()
    skipped: set[int] = field(default_factory=set, compare=False, repr=False)

    def __post_init__(self) -> None:
        ids = self.category_ids or tuple(range(1, len(self.class_names) + 1))
        object.__setattr__(self, "category_ids", ids)

    def __len__(self) -> int:
        return len(self.source)


def box_areas(
    boxes: Float32[np.ndarray, "n 4"], size: tuple[int, int]
) -> Float32[np.ndarray, " n"]:
    """Areas in pixels^2 of relative corners, on an image of `size` (height, width).

    Of sides rounded to a thousandth of a pixel: one of 32 pixels is so again, and its area on the
    border of COCO's small objects, where single precision would bring it to either side.
    """
    sides = (boxes[:, 2:].astype(np.float64) - boxes[:, :2]) * (size[1], size[0])
    return np.prod(np.round(sides, 3), axis=1).astype(np.float32)


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

    @functools.cached_property
    def objects(self) -> Objects:
        """The objects of all rows."""
        return join_objects([source.objects for source in self._sources])

    def _find(self, row: int) -> tuple[Source, int]:
        which = int(np.searchsorted(self._stops, row, side="right"))
        return self._sources[which], row - (int(self._stops[which - 1]) if which else 0)
