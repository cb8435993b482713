"""Detections and objects of one image, written as rows."""

from pathlib import Path

import numpy as np

from ssd_jax.data import Dataset
from ssd_jax.data.folder import VocFolder
from ssd_jax.evaluation.results import ImageDetections, ImageGroundTruth, SplitResults
from tests.data import make as data

TURNED_SIZE = (160, 120)  # height and width of the picture of `turned_split` as it is shown
TURNED_BOX = (20, 90, 60, 150)  # of its object, white on black


def detected(*rows):
    """ImageDetections from (box, score, label) rows."""
    boxes, scores, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return ImageDetections(
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array(scores, np.float64),
        np.array(labels, np.int32),
    )


def objects(*rows, crowd=()):
    """ImageGroundTruth from (box, label) or (box, label, difficult) rows; `crowd` lists indices."""
    boxes = np.array([row[0] for row in rows], np.float64).reshape(-1, 4)
    return ImageGroundTruth(
        boxes=boxes,
        labels=np.array([row[1] for row in rows], np.int32),
        difficult=np.array([len(row) == 3 and row[2] for row in rows], bool),
        crowd=np.isin(np.arange(len(rows)), crowd),
        area=(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
    )


def split_results(detections, ground_truth, class_names, *, size=(100, 100), category_ids=None):
    """SplitResults of images numbered from 10 in tens."""
    count = len(detections)
    return SplitResults(
        dataset="made up",
        split="test",
        class_names=tuple(class_names),
        category_ids=tuple(category_ids or range(1, len(class_names) + 1)),
        image_ids=[10 * (i + 1) for i in range(count)],
        image_names=[f"{i:03}.jpg" for i in range(count)],
        image_sizes=[size] * count,
        detections=list(detections),
        ground_truth=list(ground_truth),
    )


def random_results(rng, *, images=30, classes=3, crowds=0.0, difficult=0.0, empty=True):
    """Objects and detections near them, some of the wrong class, twice, or nowhere near."""
    detections, ground_truth = [], []
    for _ in range(images):
        count = rng.integers(0 if empty else 1, 7)
        low = rng.uniform(0, 150, (count, 2))
        boxes = np.concatenate([low, low + np.exp(rng.uniform(1.5, 5.5, (count, 2)))], axis=1)
        labels = rng.integers(1, classes + 1, count)
        ground_truth.append(
            ImageGroundTruth(
                boxes=boxes,
                labels=labels,
                difficult=rng.random(count) < difficult,
                crowd=rng.random(count) < crowds,
                area=np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) * rng.uniform(0.3, 1, count),
            )
        )
        source = rng.integers(0, count, 3 * count) if count else np.zeros(0, int)
        sides = np.tile(boxes[source, 2:] - boxes[source, :2], 2)
        near = boxes[source] + sides * rng.normal(0, 0.12, (len(source), 4))
        wrong = rng.random(len(source)) < 0.2
        guessed = np.where(wrong, rng.integers(1, classes + 1, len(source)), labels[source])
        stray = rng.uniform(0, 150, (2, 2))
        found = np.concatenate([near, np.concatenate([stray, stray + 20], axis=1)])
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        detections.append(
            ImageDetections(
                boxes=found,
                scores=np.round(rng.random(len(found)), 2),
                labels=np.concatenate([guessed, rng.integers(1, classes + 1, 2)]),
            )
        )
    names = [f"class {k}" for k in range(1, classes + 1)]
    ids = [3 * k + 2 for k in range(classes)]
    return split_results(detections, ground_truth, names, size=(300, 300), category_ids=ids)


def turned_split(folder: Path) -> tuple[Dataset, SplitResults]:
    """A picture stored lying, which EXIF turns upright, annotated upright; and its object found."""
    shown = np.zeros((*TURNED_SIZE, 3), np.uint8)
    left, top, right, bottom = TURNED_BOX
    shown[top:bottom, left:right] = 255
    root = data.voc_folder(
        folder / "set",
        {"a": [data.xml_object("cat", TURNED_BOX)]},
        {"test": ["a"]},
        size=TURNED_SIZE,
    )
    stored = data.encode(np.rot90(shown))
    (root / "JPEGImages" / "a.jpg").write_bytes(data.with_exif(stored, orientation=6))
    source = VocFolder(root, "test")
    found, there = detected((TURNED_BOX, 0.9, 1)), objects((TURNED_BOX, 1))
    results = split_results([found], [there], source.class_names, size=TURNED_SIZE)
    return Dataset("made up", "test", source, source.class_names), results
