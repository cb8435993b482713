"""Images in files, their objects in memory: what folders and COCO's JSON become."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

from ssd_jax.data.archive_path import read_bytes
from ssd_jax.data.example import Example
from ssd_jax.data.images import is_turned
from ssd_jax.data.objects import Objects


class FileSource:
    """Reads an image file when its row is asked for; the objects lie in flat arrays.

    Flat, because a worker process receives a copy: a hundred thousand small arrays pickle slowly.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        image_ids: Sequence[int],
        boxes: Sequence[Float32[np.ndarray, "_ 4"]],
        labels: Sequence[Int32[np.ndarray, " _"]],
        difficult: Sequence[Bool[np.ndarray, " _"]],
        crowd: Sequence[Bool[np.ndarray, " _"]],
        area: Sequence[Float32[np.ndarray, " _"]],
        annotated_sizes: Sequence[tuple[int, int] | None] = (),
    ) -> None:
        """Joins the objects of all images.

        Args:
          paths: Image files, one a row; those in zips as of `archive_path`.
          image_ids: The dataset's own numbers of the images.
          boxes: Relative corners of each image's objects.
          labels: Their classes, from 1.
          difficult: VOC's mark of objects outside the evaluation.
          crowd: COCO's mark of regions of many objects.
          area: Pixels^2 of each object.
          annotated_sizes: (height, width) of each image as its annotation states it, None where it
            does not; () where none does. They tell pictures that were annotated as EXIF turns them.
        """
        self._paths = [str(path) for path in paths]
        self._annotated_sizes = list(annotated_sizes) or [None] * len(paths)
        self._image_ids: Int64[np.ndarray, " rows"] = np.array(image_ids, np.int64)
        self._starts = np.cumsum([0] + [len(of_image) for of_image in labels])
        self._boxes = np.concatenate([np.zeros((0, 4), np.float32), *boxes])
        self._labels = np.concatenate([np.zeros(0, np.int32), *labels])
        self._difficult = np.concatenate([np.zeros(0, np.bool_), *difficult])
        self._crowd = np.concatenate([np.zeros(0, np.bool_), *crowd])
        self._area = np.concatenate([np.zeros(0, np.float32), *area])

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, row: int) -> Example:
        objects = slice(self._starts[row], self._starts[row + 1])
        path = Path(self._paths[row])
        image, annotated = read_bytes(path), self._annotated_sizes[row]
        return Example(
            image=image,
            turned=annotated is not None and is_turned(image, annotated),
            name=path.name,
            image_id=int(self._image_ids[row]),
            boxes=self._boxes[objects],
            labels=self._labels[objects],
            difficult=self._difficult[objects],
            crowd=self._crowd[objects],
            area=self._area[objects],
        )

    def name(self, row: int) -> str:
        """Returns the file name of a row."""
        return Path(self._paths[row]).name

    @property
    def object_counts(self) -> Int32[np.ndarray, " rows"]:
        """Number of objects of each row but crowds."""
        return self.objects.count(~self._crowd)

    @property
    def objects(self) -> Objects:
        """The objects of all rows."""
        return Objects(self._starts, self._boxes, self._labels, self._difficult, self._crowd)
