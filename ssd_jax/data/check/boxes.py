"""The boxes of a split: those that are odd, and the rest as training has them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64

from ssd_jax.data.check.images import Inspection, Size
from ssd_jax.data.check.listing import Entry, Listing
from ssd_jax.data.check.problem import Problem
from ssd_jax.data.example import box_areas
from ssd_jax.data.objects import Objects, flatten_objects


def check_boxes(
    listing: Listing, inspections: Sequence[Inspection], class_names: Sequence[str]
) -> tuple[list[Problem], Objects]:
    """Odd boxes and images without objects; and the objects, clipped, those without area dropped.

    Args:
      listing: The split.
      inspections: Of its images; tell sizes that the annotations do not.
      class_names: Label k is `class_names[k - 1]`.

    Returns:
      (problems, objects): objects of images whose size is unknown are left out.
    """
    label_of = {name: k for k, name in enumerate(class_names, start=1)}
    problems: list[Problem] = []
    boxes, labels, difficult, crowd, area = [], [], [], [], []
    for entry, found in zip(listing.entries, inspections, strict=True):
        size = (1, 1) if entry.relative else entry.size or found.size
        if not entry.names:
            problems.append(Problem(listing.split, entry.annotation, "no objects", "background"))
        relative, kept = np.zeros((0, 4)), np.zeros(len(entry.names), np.bool_)
        if size is not None:
            problems += _odd_boxes(entry, size, listing.split)
            relative, kept = _clipped(entry, size)
        boxes.append(relative.astype(np.float32))
        area.append(box_areas(boxes[-1], found.size or size or (0, 0)))
        labels.append(
            np.array([label_of[name] for name in entry.names], np.int32).reshape(-1)[kept]
        )
        difficult.append(entry.difficult[kept])
        crowd.append(entry.crowd[kept])
    return problems, flatten_objects(boxes, labels, difficult, crowd, area)


def _odd_boxes(entry: Entry, size: Size, split: str) -> list[Problem]:
    height, width = size
    problems = []
    for i, (name, box) in enumerate(zip(entry.names, entry.boxes.tolist(), strict=True), start=1):
        xmin, ymin, xmax, ymax = box
        if xmax < xmin or ymax < ymin:
            kind, so = "box inverted", "has its corners exchanged: dropped by training"
        elif xmax == xmin or ymax == ymin:
            kind, so = "box without area", "has no area: dropped by training"
        elif xmin >= width or ymin >= height or xmax <= 0 or ymax <= 0:
            kind, so = "box outside", "is wholly outside: dropped by training"
        elif xmin < 0 or ymin < 0 or xmax > width or ymax > height:
            kind, so = "box outside", "reaches out: clipped by training"
        else:
            continue
        image = "" if entry.relative else f" of an image of {width}x{height}"
        corners = ", ".join(f"{value:g}" for value in box)
        text = f"object {i} ({name}) {so}; box ({corners}){image}"
        problems.append(Problem(split, entry.annotation, kind, text))
    return problems


def _clipped(entry: Entry, size: Size) -> tuple[Float64[np.ndarray, "m 4"], Bool[np.ndarray, " n"]]:
    """Relative corners of the boxes that have an area within the image, and which those are."""
    height, width = size
    relative = np.clip(entry.boxes / np.array([width, height, width, height], np.float64), 0, 1)
    kept = np.all(relative[:, 2:] > relative[:, :2], axis=1)
    return relative[kept], kept
