"""A split's images and annotations as they are written, with all that is wrong in the writing.

The sources that training reads stop at the first fault; here every fault becomes a problem, and
the rest is read on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from ssd_jax.data import load_dataset
from ssd_jax.data.check.problem import Problem
from ssd_jax.data.coco_2017 import find_coco
from ssd_jax.data.custom_coco import find_custom_split
from ssd_jax.data.example import Dataset, Source
from ssd_jax.data.settings import Settings


@dataclass(frozen=True)
class Entry:
    """An image with its objects as written.

    Attributes:
      file: The image's file.
      annotation: The file that describes its objects.
      read: Gives the encoded image; raises OSError where there is none, ValueError where it lies
        damaged in a zip or a record.
      size: (height, width) in pixels that the annotation states; None where it does not.
      boxes: Corners [xmin, ymin, xmax, ymax] as written, nothing clipped or dropped.
      relative: The boxes are relative to the image, not in pixels.
      names: Classes of the objects; only objects of known classes are here.
      difficult: VOC's mark.
      crowd: COCO's mark.
    """

    file: str
    annotation: str
    read: Callable[[], bytes]
    size: tuple[int, int] | None
    boxes: Float64[np.ndarray, "n 4"]
    relative: bool
    names: tuple[str, ...]
    difficult: Bool[np.ndarray, " n"]
    crowd: Bool[np.ndarray, " n"]


@dataclass(frozen=True)
class Listing:
    """A split.

    Attributes:
      split: Its name.
      path: The annotation file or folder that describes it; the dataset's name where there is none.
      entries: Its images.
      problems: What was wrong with the annotations' form.
      class_names: The classes that training would have.
    """

    split: str
    path: str
    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...]
    class_names: tuple[str, ...]


def list_split(settings: Any, split: str) -> Listing:
    """Reads the annotations of a split of the dataset that a recipe's `data` section names.

    Folders in VOC's layout and COCO's JSON are read as they are. Of what TFDS has prepared, the
    annotations were checked by the preparation: a fault of theirs is its error.

    Raises:
      FileNotFoundError: The dataset's folder or file is not there.
      ValueError: The split is unknown, or what is there cannot be read at all.
    """
    from ssd_jax.data.check.coco_listing import list_coco
    from ssd_jax.data.check.voc_listing import list_voc_devkit, list_voc_folder

    settings = Settings(settings)
    if settings.kind == "voc" and settings.voc_root:
        return list_voc_devkit(settings.voc_root, split)
    if settings.kind == "voc_folder" and settings.root:
        return list_voc_folder(Path(settings.root), split, tuple(settings.class_names))
    if settings.kind == "coco":
        where = find_coco(
            split, root=settings.root, archives=settings.archives, data_dir=settings.data_dir
        )
        return list_coco(*where, split)
    if settings.kind == "coco_json":
        path, folder, part = find_custom_split(
            split, root=settings.root, annotations=settings.annotations, images=settings.images
        )
        return list_coco(path, folder, split, part, settings.fraction)
    return list_dataset(load_dataset(settings, split))


def list_dataset(dataset: Dataset) -> Listing:
    """The entries of a dataset that is open already."""
    objects, source = dataset.source.objects, dataset.source
    entries = []
    for row in range(len(dataset)):
        own = slice(objects.starts[row], objects.starts[row + 1])
        entries.append(
            Entry(
                file=source.name(row),
                annotation=source.name(row),
                read=functools.partial(_read, source, row),
                size=None,
                boxes=objects.boxes[own].astype(np.float64),
                relative=True,
                names=tuple(dataset.class_names[label - 1] for label in objects.labels[own]),
                difficult=objects.difficult[own],
                crowd=objects.crowd[own],
            )
        )
    return Listing(dataset.split, dataset.name, tuple(entries), (), dataset.class_names)


def _read(source: Source, row: int) -> bytes:
    return source[row]["image"]
