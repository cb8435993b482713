"""Reads what a TFDS builder with voc's features has prepared."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float32, Int32

from ssd_jax.data.example import Example, box_areas
from ssd_jax.data.images import header_size


def corners(boxes: Sequence[Float32[np.ndarray, " 4"]]) -> Float32[np.ndarray, "n 4"]:
    """TFDS's (ymin, xmin, ymax, xmax) as [xmin, ymin, xmax, ymax]; no boxes give [0, 4]."""
    return np.asarray(boxes, np.float32).reshape(-1, 4)[:, [1, 0, 3, 2]]


def prepare(builder: tfds.core.DatasetBuilder) -> None:
    """Prepares a dataset as array_record, unless it is there already in whatever format."""
    if not builder.data_path.exists():
        builder.download_and_prepare(file_format=tfds.core.FileFormat.ARRAY_RECORD)


class TfdsSource:
    """Examples of one split of a prepared builder, in the order they are stored in.

    The image stays encoded. Labels count from 1, boxes are corners. Pickles as a builder's folder
    and a split, so that a worker process opens its own files.
    """

    def __init__(self, folder: str | os.PathLike[str], split: str) -> None:
        """Opens a split.

        Args:
          folder: Where TFDS wrote the dataset's files (`builder.data_path`).
          split: A split as TFDS names it: 'train', 'train+validation', 'train[:64]'.
        """
        self._folder, self._split = os.fspath(folder), split

    def __getstate__(self) -> dict[str, str]:
        return {"_folder": self._folder, "_split": self._split}

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, row: int) -> Example:
        record = self._records[row]
        objects = record["objects"]
        boxes = corners(objects["bbox"])
        # A picture that has no size is named when it is decoded.
        size = header_size(record["image"]) or (0, 0)
        return Example(
            image=record["image"],
            name=_text(record["image/filename"]),
            image_id=row,
            boxes=boxes,
            labels=np.asarray(objects["label"], np.int32) + 1,
            difficult=np.asarray(objects["is_difficult"], np.bool_),
            crowd=np.zeros(len(boxes), np.bool_),
            area=box_areas(boxes, size),
        )

    def name(self, row: int) -> str:
        """Returns the file name of a row."""
        return _text(self._records[row]["image/filename"])

    @functools.cached_property
    def object_counts(self) -> Int32[np.ndarray, " rows"]:
        """Number of annotated objects of each row (reads every record once, decodes none)."""
        counts = [len(record["objects"]["label"]) for record in self._records]
        return np.array(counts, np.int32)

    @functools.cached_property
    def _records(self) -> Sequence[Mapping[str, Any]]:
        builder = tfds.builder_from_directory(self._folder)
        if not builder.info.splits[self._split].num_examples:
            raise ValueError(f"split {self._split!r} of {self._folder} is empty: choose another")
        decoders = {"image": tfds.decode.SkipDecoding()}
        return builder.as_data_source(self._split, decoders=decoders)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
