"""Detections in files: COCO's result JSON, and the VOC devkit's text file a class."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from ssd_jax.evaluation.results import ImageDetections, SplitResults

_DEVKIT_NAME = re.compile(r"(comp\d+_det_[^_]+)_(.+)\.txt")


def devkit_files(results: SplitResults) -> dict[str, str]:
    """The detections as the devkit takes them: file name -> text, one file a class.

    A line is the image's name without suffix (but where that tells two apart), the score, and
    xmin ymin xmax ymax in the pixels of the annotations (those of VOC count from 1).
    """
    lines: list[list[str]] = [[] for _ in results.class_names]
    for name, found in zip(_devkit_names(results.image_names), results.detections, strict=True):
        for box, score, label in zip(
            found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        ):
            corners = " ".join(f"{side:.3f}" for side in box)
            lines[label - 1].append(f"{name} {score:.6f} {corners}\n")
    return {
        f"comp4_det_test_{name}.txt": "".join(of_class)
        for name, of_class in zip(_devkit_classes(results.class_names), lines, strict=True)
    }


def _devkit_classes(class_names: Sequence[str]) -> list[str]:
    """The classes as file names have them, '_' for '/', but where that makes two alike."""
    short = [name.replace("/", "_") for name in class_names]
    times = Counter(short)
    return [
        name.replace("/", "%2F") if times[without] > 1 else without
        for name, without in zip(class_names, short, strict=True)
    ]


def _devkit_names(image_names: Sequence[str]) -> list[str]:
    """The images' names as the devkit has them, without suffix, but where that tells two apart.

    Folders stay, as images of two may be called alike.
    """
    short = [str(PurePosixPath(name).with_suffix("")) for name in image_names]
    times = Counter(short)
    return [
        name if times[without] > 1 else without
        for name, without in zip(image_names, short, strict=True)
    ]


def read_detections(path: Path, truth: SplitResults) -> list[ImageDetections]:
    """Reads anybody's detections.

    Args:
        path: a COCO result file (.json), one text file of the devkit, or a folder of those. The
            former's numbers of images and categories are those of the split.
        truth: the split that they are of; its own detections do not count.

    Returns:
        The detections of each image of the split.

    Raises:
        FileNotFoundError: there is no such file, or the folder has no result files.
        ValueError: a folder has files of several competitions or image sets; a file is broken; a
            detection is of an image or class that the split does not
            have, or its score or box is not finite; two images have one name.
    """
    if not path.exists():
        raise FileNotFoundError(f"no detections {path}: give a COCO json or the devkit's files")
    if path.suffix == ".json":
        entries = _coco_entries(path, truth)
    elif path.is_dir():
        entries = [e for file in _devkit_files_in(path) for e in _devkit_entries(file, truth)]
    else:
        entries = _devkit_entries(path, truth)
    return _by_image(entries, len(truth))


def _devkit_files_in(folder: Path) -> list[Path]:
    """The result files of one competition and image set, which the devkit keeps beside others'."""
    of_set: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if match := _DEVKIT_NAME.fullmatch(path.name):
            of_set.setdefault(match[1], []).append(path)
    if not of_set:
        raise FileNotFoundError(f"no comp4_det_test_CLASS.txt in {folder}")
    if len(of_set) > 1:
        raise ValueError(
            f"{folder} has results of {', '.join(of_set)}: give a folder of one of them"
        )
    return next(iter(of_set.values()))


class _Entry(NamedTuple):
    """One detection: the index of its image in the split, label, score, corners in pixels."""

    image: int
    label: int
    score: float
    box: tuple[float, float, float, float]


def _coco_entries(path: Path, truth: SplitResults) -> list[_Entry]:
    image_of = {number: i for i, number in enumerate(truth.image_ids)}
    label_of = {number: k for k, number in enumerate(truth.category_ids, start=1)}
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: broken JSON ({error})") from None
    if not isinstance(content, list):
        raise ValueError(f"{path}: not COCO's results, which are a list of detections")
    entries = []
    for i, entry in enumerate(content):
        where = f"{path}, detection {i}"
        fields = ("image_id", "category_id", "bbox", "score")
        if not isinstance(entry, dict) or any(field not in entry for field in fields):
            raise ValueError(f"{where}: lacks one of {', '.join(fields)}")
        image = _known(entry["image_id"], image_of, "image_id", where)
        label = _known(entry["category_id"], label_of, "category_id", where)
        x, y, width, height = _finite(entry["bbox"], 4, "bbox", where)
        (score,) = _finite([entry["score"]], 1, "score", where)
        entries.append(_Entry(image, label, score, (x, y, x + width, y + height)))
    return entries


def _devkit_entries(path: Path, truth: SplitResults) -> list[_Entry]:
    match = _DEVKIT_NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path}: a detection file is COCO's .json or comp4_det_test_CLASS.txt")
    label_of = {name: k for k, name in enumerate(_devkit_classes(truth.class_names), start=1)}
    label = _known(match[2], label_of, "class", str(path))
    names = _devkit_names(truth.image_names)
    image_of = {name: i for i, name in enumerate(names)}
    if len(image_of) < len(names):
        twice = ", ".join(name for name, times in Counter(names).items() if times > 1)
        raise ValueError(f"{path}: several images of the ground truth are called {twice}")
    entries = []
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        # A name may hold spaces; the five numbers do not.
        name, *fields = line.rsplit(maxsplit=5)
        image = _known(name, image_of, "image", where)
        score, *corners = _finite(fields, 5, "score and box", where)
        entries.append(
            _Entry(image, label, score, (corners[0], corners[1], corners[2], corners[3]))
        )
    return entries


def _known(value: Any, known: dict[Any, int], what: str, where: str) -> int:
    if not isinstance(value, int | str) or value not in known:
        examples = ", ".join(str(key) for key in list(known)[:3])
        raise ValueError(
            f"{where}: {what} {value!r} is not in the ground truth, which has {len(known)}: "
            f"{examples}{', ...' if len(known) > 3 else ''}"
        )
    return known[value]


def _finite(values: Any, count: int, what: str, where: str) -> list[float]:
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{where}: {what} {values!r} is not {count} finite numbers")
    return numbers


def _by_image(entries: Iterable[_Entry], images: int) -> list[ImageDetections]:
    of_image: list[list[_Entry]] = [[] for _ in range(images)]
    for entry in entries:
        of_image[entry.image].append(entry)
    return [_image_detections(found) for found in of_image]


def _image_detections(found: Sequence[_Entry]) -> ImageDetections:
    return ImageDetections(
        boxes=np.array([entry.box for entry in found], np.float64).reshape(-1, 4),
        scores=np.array([entry.score for entry in found], np.float64),
        labels=np.array([entry.label for entry in found], np.int64),
    )
