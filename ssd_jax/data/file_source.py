"""Images in files, their objects in memory: what folders and COCO's JSON become."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

from ssd_jax.data.archive_path import read_bytes
from ssd_jax.data.example import Example
from ssd_jax.data.images import is_turned
from ssd_jax.data.objects import flatten_objects


class FileSource:
    """Reads an image file when its row is asked for.

    Attributes:
      objects: The objects of all rows.
      unreadable: Image files of no known size, whose objects are left out for it.
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
        names: Sequence[str] = (),
        unreadable: Sequence[Path] = (),
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
          names: What each image is called in what is written; () is by its file.
          unreadable: Image files that say no size, where the annotation does not either.
        """
        self._paths = [str(path) for path in paths]
        self._names = list(names) or [path.name for path in paths]
        self._annotated_sizes = list(annotated_sizes) or [None] * len(paths)
        self._image_ids: Int64[np.ndarray, " rows"] = np.array(image_ids, np.int64)
        self.objects = flatten_objects(boxes, labels, difficult, crowd, area)
        self.unreadable = tuple(unreadable)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, row: int) -> Example:
        path, annotated = Path(self._paths[row]), self._annotated_sizes[row]
        image, objects = read_bytes(path), self.objects
        of_row = objects.of_row(row)
        return Example(
            image=image,
            turned=annotated is not None and is_turned(image, annotated),
            name=self._names[row],
            image_id=int(self._image_ids[row]),
            boxes=objects.boxes[of_row],
            labels=objects.labels[of_row],
            difficult=objects.difficult[of_row],
            crowd=objects.crowd[of_row],
            area=objects.area[of_row],
        )

    def name(self, row: int) -> str:
        """Returns what the image of a row is called."""
        return self._names[row]
