"""Reads what a TFDS builder has prepared."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Bool, Float32

from ssd_jax.data.example import Example, box_areas
from ssd_jax.data.images import header_size
from ssd_jax.data.objects import Objects, collect_objects

Keys = tuple[str, ...]


@dataclass(frozen=True)
class Fields:
    """Where an example's parts lie in a record: keys from the outside in; () where there is none.

    Attributes:
      image: The encoded picture.
      boxes: A sequence of TFDS's boxes.
      labels: Their classes from 0; (): every object is of the one class there is.
      difficult: Their marks of VOC.
      crowd: Their marks of COCO.
      area: Their areas in pixels^2.
      name: The picture's file name; (): its row.
      image_id: The dataset's own number of the picture; (): its row.
    """

    image: Keys
    boxes: Keys
    labels: Keys = ()
    difficult: Keys = ()
    crowd: Keys = ()
    area: Keys = ()
    name: Keys = ()
    image_id: Keys = ()


VOC_FIELDS = Fields(
    image=("image",),
    boxes=("objects", "bbox"),
    labels=("objects", "label"),
    difficult=("objects", "is_difficult"),
    name=("image/filename",),
)


def prepare(builder: tfds.core.DatasetBuilder) -> tfds.core.DatasetBuilder:
    """Prepares a dataset as array_record, unless it is there already.

    Of several runs that do so at once the first leaves its dataset, and the others go on with it.

    Returns:
      The builder of what is there, which knows its splits and format.

    Raises:
      ValueError: It is there in a format that has no random access.
      OSError: It cannot be written; nothing of it is left.
    """
    if not builder.data_path.exists():
        try:
            builder.download_and_prepare(file_format=tfds.core.FileFormat.ARRAY_RECORD)
        except FileExistsError:
            if not builder.data_path.exists():
                raise
        except (PermissionError, NotADirectoryError) as fault:
            raise OSError(f"{fault}: set data.data_dir to a folder that can be written") from None
        except RuntimeError as fault:  # array_record's writer; TFDS has taken away what it wrote
            raise OSError(
                f"cannot write {builder.data_path} ({first_line(fault)}): make room, or set "
                "data.data_dir to another folder"
            ) from None
    # The one given knows nothing of what another run has prepared since it was made.
    there = tfds.builder_from_directory(builder.data_path)
    readable = tfds.core.FileFormat.with_random_access()
    if not readable & there.info.available_file_formats():
        raise ValueError(
            f"{there.data_path} was prepared as {there.info.file_format.value}, not as "
            f"{' or '.join(sorted(f.value for f in readable))}: set another data.data_dir"
        )
    return there


class TfdsSource:
    """Examples of one split of a prepared builder, in the order they are stored in.

    The image stays encoded. Labels count from 1, boxes are corners; boxes of no size, and those of
    no class (TFDS's -1), are left out.

    Pickles as a builder's folder, a split and fields, so that a worker process opens its own files.
    """

    def __init__(
        self, folder: str | os.PathLike[str], split: str, fields: Fields = VOC_FIELDS
    ) -> None:
        """Opens a split.

        Args:
          folder: Where TFDS wrote the dataset's files (`builder.data_path`).
          split: A split as TFDS names it: 'train', 'train+validation', 'train[:64]'.
          fields: Where the parts of an example lie; those of TFDS's `voc` if not given.
        """
        self._folder, self._split, self._fields = os.fspath(folder), split, fields

    def __getstate__(self) -> dict[str, Any]:
        return {"_folder": self._folder, "_split": self._split, "_fields": self._fields}

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, row: int) -> Example:
        record, fields = self._record(row), self._fields
        image = _get(record, fields.image)
        boxes, kept = self._boxes(record, row)
        count = len(kept)

        def of_objects(path: Keys, otherwise: Any) -> np.ndarray:
            values = _get(record, path) if path else np.full(count, otherwise)
            return np.asarray(values)[kept]

        # A picture whose size cannot be read is named when it is decoded.
        areas = box_areas(boxes, header_size(image) or (0, 0))
        return Example(
            image=image,
            turned=False,  # TFDS's own decoder does not turn either
            name=self._name(record, row),
            image_id=int(_get(record, fields.image_id)) if fields.image_id else row,
            boxes=boxes,
            labels=of_objects(fields.labels, 0).astype(np.int32) + np.int32(1),
            difficult=of_objects(fields.difficult, False).astype(np.bool_),
            crowd=of_objects(fields.crowd, False).astype(np.bool_),
            area=of_objects(fields.area, 0).astype(np.float32) if fields.area else areas,
        )

    def name(self, row: int) -> str:
        """Returns the file name of a row."""
        return self._name(self._record(row), row)

    @functools.cached_property
    def objects(self) -> Objects:
        """The objects of all rows (reads every record once, decodes none)."""
        return collect_objects(self[row] for row in range(len(self)))

    def _boxes(
        self, record: Mapping[str, Any], row: int
    ) -> tuple[Float32[np.ndarray, "kept 4"], Bool[np.ndarray, " all"]]:
        """TFDS's (ymin, xmin, ymax, xmax) as corners, and which objects have area and class."""
        stored = np.asarray(_get(record, self._fields.boxes), np.float32).reshape(-1, 4)
        boxes = stored[:, [1, 0, 3, 2]]
        if not np.all((boxes >= 0) & (boxes <= 1)):
            raise ValueError(
                f"row {row} of {self._folder}, split {self._split}, has boxes that are not "
                f"relative to the image (0..1): {stored.tolist()}"
            )
        kept = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
        if self._fields.labels:
            kept &= np.asarray(_get(record, self._fields.labels)).astype(np.int32) >= 0
        return boxes[kept], kept

    def _name(self, record: Mapping[str, Any], row: int) -> str:
        value = _get(record, self._fields.name) if self._fields.name else f"{self._split}_{row}"
        return value.decode() if isinstance(value, bytes) else value

    def _record(self, row: int) -> Mapping[str, Any]:
        try:
            return self._records[row]
        except RuntimeError as fault:
            raise ValueError(
                f"row {row} of {self._folder}, split {self._split}, cannot be read "
                f"({first_line(fault)}): delete the folder, and it is prepared again"
            ) from None

    @functools.cached_property
    def _records(self) -> Sequence[Any]:
        builder = tfds.builder_from_directory(self._folder)
        if not builder.info.splits[self._split].num_examples:
            raise ValueError(f"split {self._split!r} of {self._folder} is empty: choose another")
        undecoded: Any = tfds.decode.SkipDecoding()
        for key in reversed(self._fields.image):
            undecoded = {key: undecoded}
        return builder.as_data_source(self._split, decoders=undecoded)


def first_line(fault: Exception) -> str:
    """The first line of a library's message that has several."""
    return str(fault).strip().splitlines()[0]


def _get(record: Mapping[str, Any], path: Keys) -> Any:
    return functools.reduce(lambda inside, key: inside[key], path, record)
