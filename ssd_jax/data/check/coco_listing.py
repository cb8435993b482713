"""Splits in COCO's instance format."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np

from ssd_jax.data.archive_path import read_bytes
from ssd_jax.data.check.listing import Entry, Listing
from ssd_jax.data.check.problem import Problem
from ssd_jax.data.coco import (
    REQUIRED,
    Part,
    annotated_size,
    area_fault,
    box_corners,
    box_fault,
    entry_fault,
    first_by_id,
    names_of_part,
    namesakes,
    read_sections,
)


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
    content = read_sections(path)
    problems: list[Problem] = []
    sound = {name: _sound(content[name], name, path, split, problems) for name in REQUIRED}
    categories, again = first_by_id(sound["categories"])
    problems += [_broken(path, split, f"category id {n} is there twice") for n in again]
    problems += [_broken(path, split, fault) for fault in namesakes(categories.values())]
    names = {number: str(category["name"]) for number, category in sorted(categories.items())}
    images, again = first_by_id(sound["images"])
    of_part = names_of_part([image["file_name"] for image in images.values()], part, fraction)
    problems += [
        Problem(split, str(path), "listed twice", f"image id {number}") for number in again
    ]
    objects = _objects(sound["annotations"], images, names, path, split, problems)
    entries = tuple(
        _entry(image, folder, path, objects[number], names)
        for number, image in images.items()
        if image["file_name"] in of_part
    )
    return Listing(split, str(path), entries, tuple(problems), tuple(names.values()))


def _sound(
    entries: list[Any], section: str, path: Path, split: str, problems: list[Problem]
) -> list[dict[str, Any]]:
    """The entries of a section that have what is required; the others become problems."""
    faults = [entry_fault(section, i, entry) for i, entry in enumerate(entries)]
    problems += [_broken(path, split, fault) for fault in faults if fault]
    return [entry for entry, fault in zip(entries, faults, strict=True) if not fault]


def _objects(
    annotations: list[dict[str, Any]],
    images: Container[int],
    categories: Container[int],
    path: Path,
    split: str,
    problems: list[Problem],
) -> defaultdict[int, list[dict[str, Any]]]:
    """The sound annotations by image id; the others become problems."""
    objects: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for entry in annotations:
        number, image, category = entry["id"], entry["image_id"], entry["category_id"]
        if image not in images:
            met = f"annotation {number} is of image {image}, which is not there"
            problems.append(_broken(path, split, met))
        elif category not in categories:
            met = f"annotation {number} is of category {category}"
            problems.append(Problem(split, str(path), "unknown class", met))
        elif fault := box_fault(entry) or area_fault(entry):
            problems.append(_broken(path, split, fault))
        else:
            objects[image].append(entry)
    return objects


def _entry(
    image: dict[str, Any],
    folder: Path,
    path: Path,
    objects: list[dict[str, Any]],
    categories: dict[int, str],
) -> Entry:
    file = folder / image["file_name"]
    return Entry(
        file=str(file),
        annotation=f"{path}, image {image['id']}",
        read=functools.partial(read_bytes, file),
        size=annotated_size(image),
        boxes=box_corners(objects, path),
        relative=False,
        names=tuple(categories[o["category_id"]] for o in objects),
        difficult=np.zeros(len(objects), np.bool_),
        crowd=np.array([bool(o.get("iscrowd", 0)) for o in objects], np.bool_),
    )


def _broken(path: Path, split: str, text: str) -> Problem:
    return Problem(split, str(path), "broken annotation", text)
