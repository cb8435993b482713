"""Images in files, their objects in memory: what folders and COCO's JSON become."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

from ssd_jax.data.example import Example


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
    ) -> None:
        """Joins the objects of all images.

        Args:
          paths: Image files, one a row.
          image_ids: The dataset's own numbers of the images.
          boxes: Relative corners of each image's objects.
          labels: Their classes, from 1.
          difficult: VOC's mark of objects outside the evaluation.
          crowd: COCO's mark of regions of many objects.
          area: Pixels^2 of each object.
        """
        self._paths = [str(path) for path in paths]
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
        return Example(
            image=path.read_bytes(),
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
        alone = np.concatenate([[0], np.cumsum(~self._crowd)])
        return np.diff(alone[self._starts]).astype(np.int32)
