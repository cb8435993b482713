"""The pictures of a report: the best hits, the worst false positives, the objects missed."""

import base64
import dataclasses
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from ssd_jax.evaluation.errors import KINDS, MISSED, NO_ERROR, Errors
from ssd_jax.evaluation.results import SplitResults
from ssd_jax.evaluation.voc import RankedDetections

_SIDE = 400  # pixels of a picture's longer side in the report
_QUALITY = 80  # of its JPEG
_PICTURES = 96  # of each kind, over all classes


@dataclasses.dataclass(frozen=True)
class Item:
    """One picture of the gallery.

    Attributes:
        group: 'hit', 'false positive' or 'missed'.
        label: the class it is shown under.
        image: index in the split.
        detections: indices in the image's detections to draw, the one it is about first.
        objects: indices of the image's objects to draw.
        note: the kind of error, or ''.
    """

    group: str
    label: int
    image: int
    detections: list[int]
    objects: list[int]
    note: str


def choose_items(results: SplitResults, ranked: RankedDetections, errors: Errors) -> list[Item]:
    """For each class: the hits and the false positives with the highest scores, the largest misses.

    As many of every class, and at most about a hundred of each group in all: where there are more
    classes than that, those of most objects.
    """
    of_class = max(1, min(8, _PICTURES // len(results.class_names)))
    frequent = np.argsort(-ranked.num_ground_truth, kind="stable")[:_PICTURES]
    items: list[Item] = []
    for label in (np.sort(frequent) + 1).tolist():
        rows = np.arange(len(ranked.labels))[ranked.of_class(label)]
        wrong = ranked.counts & ~ranked.hit
        items += [_hit(ranked, row) for row in rows[ranked.hit[rows]][:of_class]]
        items += [
            _false_positive(ranked, errors, results, row) for row in rows[wrong[rows]][:of_class]
        ]
        items += _missed(results, errors, label)[:of_class]
    return items


def _hit(ranked: RankedDetections, row: np.int64) -> Item:
    return Item(
        group="hit",
        label=int(ranked.labels[row]),
        image=int(ranked.images[row]),
        detections=[int(ranked.rows[row])],
        objects=[int(ranked.truth[row])],
        note=f"IoU {ranked.iou[row]:.2f}",
    )


def _false_positive(
    ranked: RankedDetections, errors: Errors, results: SplitResults, row: np.int64
) -> Item:
    image = int(ranked.images[row])
    return Item(
        group="false positive",
        label=int(ranked.labels[row]),
        image=image,
        detections=[int(ranked.rows[row])],
        objects=list(range(len(results.ground_truth[image].labels))),
        note=KINDS[errors.kind[row]] if errors.kind[row] != NO_ERROR else "",
    )


def _missed(results: SplitResults, errors: Errors, label: int) -> list[Item]:
    """The missed objects of a class, the largest first, with what was found near none of them."""
    found = [
        (float(truth.area[row]), image, int(row))
        for image, truth in enumerate(results.ground_truth)
        for row in np.flatnonzero(errors.missed[image] & (truth.labels == label))
    ]
    return [
        Item("missed", label, image, [], [row], KINDS[MISSED])
        for _, image, row in sorted(found, reverse=True)
    ]


def gallery_content(
    results: SplitResults, items: list[Item], picture: Callable[[int], np.ndarray]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The items with their boxes, and the pictures they lie on, as the report's page takes them.

    Args:
        results: what was found.
        items: of `choose_items`.
        picture: an image's index in the results -> the image, RGB uint8.

    Returns:
        (items with boxes in pixels of the original picture; index of an image -> its data URL).
    """
    pictures = {
        str(image): _data_url(picture(image)) for image in sorted({item.image for item in items})
    }
    return [_content(results, item) for item in items], pictures


def _content(results: SplitResults, item: Item) -> dict[str, Any]:
    found, truth = results.detections[item.image], results.ground_truth[item.image]
    height, width = results.image_sizes[item.image]
    return {
        "group": item.group,
        "label": item.label,
        "image": item.image,
        "name": results.image_names[item.image],
        "width": width,
        "height": height,
        "note": item.note,
        "found": [
            [*found.boxes[row].tolist(), int(found.labels[row]), float(found.scores[row])]
            for row in item.detections
        ],
        "objects": [
            [*np.round(truth.boxes[row], 2).tolist(), int(truth.labels[row])]
            for row in item.objects
        ],
    }


def _data_url(picture: np.ndarray) -> str:
    scale = min(1.0, _SIDE / max(picture.shape[:2]))
    height, width = (max(1, round(scale * side)) for side in picture.shape[:2])
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    quality = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), quality)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()
