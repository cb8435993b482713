"""Splits in COCO's instance format."""

from __future__ import annotations

import functools
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from ssd_jax.data.archive_path import read_bytes
from ssd_jax.data.check.listing import Entry, Listing
from ssd_jax.data.check.problem import Problem
from ssd_jax.data.coco import Part, names_of_part


def list_coco(
    path: Path, folder: Path, split: str, part: Part = "all", fraction: float = 0.0
) -> Listing:
    """The images of an annotation file, or a part of them.

    Args:
      path: The file; it and the folder may lie in zips, as of `ssd_jax.data.archive_path`.
      folder: Where the images are.
      split: The split's name, for problems.
      part: As of `ssd_jax.data.coco.CocoJson`, as is `fraction`.
      fraction: How much of the file is 'test'.

    Raises:
      FileNotFoundError: The annotation file is not there.
      ValueError: The file is no JSON of COCO's form.
    """
    try:
        content = json.loads(read_bytes(path))
    except ValueError as error:
        raise ValueError(f"{path}: broken JSON ({error})") from None
    if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= set(content):
        raise ValueError(
            f"{path}: not COCO's instances: it lacks images, annotations or categories"
        )
    categories = {c.get("id"): str(c.get("name")) for c in content["categories"]}
    problems: list[Problem] = []
    objects = _objects(content, categories, path, split, problems)
    entries, seen = [], set()
    images = content["images"]
    named = [image["file_name"] for image in images if image.get("file_name")]
    of_part = names_of_part(named, part, fraction)
    for image in images:
        number, name = image.get("id"), image.get("file_name")
        if name and name not in of_part:
            continue
        if number is None or not name:
            problems.append(_broken(path, split, f"an image without id or file_name: {image}"))
        elif number in seen:
            problems.append(Problem(split, str(path), "listed twice", f"image id {number}"))
        else:
            seen.add(number)
            entries.append(_entry(image, folder, path, objects[number], categories))
    names = tuple(name for _, name in sorted(categories.items()))
    return Listing(split, tuple(entries), tuple(problems), names)


def _objects(
    content: dict[str, Any],
    categories: dict[int, str],
    path: Path,
    split: str,
    problems: list[Problem],
) -> defaultdict[int, list[dict[str, Any]]]:
    """The sound annotations by image id; the others become problems."""
    images = {image.get("id") for image in content["images"]}
    objects: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for entry in content["annotations"]:
        number, box = entry.get("id"), entry.get("bbox")
        if entry.get("image_id") not in images:
            met = f"annotation {number} is of image {entry.get('image_id')}, which is not there"
            problems.append(_broken(path, split, met))
        elif entry.get("category_id") not in categories:
            met = f"annotation {number} is of category {entry.get('category_id')}"
            problems.append(Problem(split, str(path), "unknown class", met))
        elif not _is_box(box):
            problems.append(_broken(path, split, f"annotation {number} has the box {box}"))
        else:
            objects[entry["image_id"]].append(entry)
    return objects


def _entry(
    image: dict[str, Any],
    folder: Path,
    path: Path,
    objects: list[dict[str, Any]],
    categories: dict[int, str],
) -> Entry:
    file = folder / image["file_name"]
    height, width = int(image.get("height") or 0), int(image.get("width") or 0)
    boxes = np.array([o["bbox"] for o in objects], np.float64).reshape(-1, 4)
    return Entry(
        file=str(file),
        annotation=f"{path}, image {image['id']}",
        read=functools.partial(read_bytes, file),
        size=(height, width) if height > 0 and width > 0 else None,
        boxes=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
        relative=False,
        names=tuple(categories[o["category_id"]] for o in objects),
        difficult=np.zeros(len(objects), np.bool_),
        crowd=np.array([bool(o.get("iscrowd", 0)) for o in objects], np.bool_),
    )


def _broken(path: Path, split: str, text: str) -> Problem:
    return Problem(split, str(path), "broken annotation", text)


def _is_box(box: Any) -> bool:
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(isinstance(value, int | float) and math.isfinite(value) for value in box)
    )
