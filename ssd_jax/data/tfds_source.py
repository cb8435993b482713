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
from ssd_jax.data.objects import Objects, collect_objects


def corners(boxes: Sequence[Float32[np.ndarray, " 4"]]) -> Float32[np.ndarray, "n 4"]:
    """TFDS's (ymin, xmin, ymax, xmax) as [xmin, ymin, xmax, ymax]; no boxes give [0, 4]."""
    return np.asarray(boxes, np.float32).reshape(-1, 4)[:, [1, 0, 3, 2]]


def prepare(builder: tfds.core.DatasetBuilder) -> None:
    """Prepares a dataset as array_record, unless it is there already.

    Raises:
      ValueError: It is there in a format that has no random access.
      OSError: It cannot be written; nothing of it is left.
    """
    if not builder.data_path.exists():
        try:
            builder.download_and_prepare(file_format=tfds.core.FileFormat.ARRAY_RECORD)
        except (PermissionError, NotADirectoryError) as fault:
            raise OSError(f"{fault}: set data.data_dir to a folder that can be written") from None
        except RuntimeError as fault:  # array_record's writer; TFDS has taken away what it wrote
            raise OSError(
                f"cannot write {builder.data_path} ({_first_line(fault)}): make room, or set "
                "data.data_dir to another folder"
            ) from None
    readable = tfds.core.FileFormat.with_random_access()
    if not readable & builder.info.available_file_formats():
        raise ValueError(
            f"{builder.data_path} was prepared as {builder.info.file_format.value}, not as "
            f"{' or '.join(sorted(f.value for f in readable))}: set another data.data_dir"
        )


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
        record = self._record(row)
        objects = record["objects"]
        boxes = corners(objects["bbox"])
        # A picture that has no size is named when it is decoded.
        size = header_size(record["image"]) or (0, 0)
        return Example(
            image=record["image"],
            turned=False,  # TFDS's own decoder does not turn either
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
        return _text(self._record(row)["image/filename"])

    @property
    def object_counts(self) -> Int32[np.ndarray, " rows"]:
        """Number of objects of each row but crowds."""
        return self.objects.count(~self.objects.crowd)

    @functools.cached_property
    def objects(self) -> Objects:
        """The objects of all rows (reads every record once, decodes none)."""
        return collect_objects(self[row] for row in range(len(self)))

    def _record(self, row: int) -> Mapping[str, Any]:
        try:
            return self._records[row]
        except RuntimeError as fault:
            raise ValueError(
                f"row {row} of {self._folder}, split {self._split}, cannot be read "
                f"({_first_line(fault)}): delete the folder, and it is prepared again"
            ) from None

    @functools.cached_property
    def _records(self) -> Sequence[Any]:
        builder = tfds.builder_from_directory(self._folder)
        decoders = {"image": tfds.decode.SkipDecoding()}
        return builder.as_data_source(self._split, decoders=decoders)


def _first_line(fault: Exception) -> str:
    return str(fault).splitlines()[0]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
