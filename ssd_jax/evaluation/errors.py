"""What kind of mistake each wrong detection and each missed object is, and what each kind costs.

The kinds and their costs are those of TIDE (Bolya et al., arXiv 2008.08115, sections 2.2 and 2.3),
with VOC's verdict at IoU .5 on what is a hit, and its area under the curve as AP.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float64, Int

from ssd_jax.evaluation.results import SplitResults
from ssd_jax.evaluation.voc import (
    RankedDetections,
    average_precision,
    mean_of_classes,
    pixel_iou,
    reaches,
)

KINDS = ("class", "box", "both", "duplicate", "background", "missed")
CLASS, BOX, BOTH, DUPLICATE, BACKGROUND, MISSED = range(len(KINDS))
NO_ERROR = -1

FOREGROUND_IOU = 0.5
BACKGROUND_IOU = 0.1


@dataclasses.dataclass(frozen=True)
class Errors:
    """The mistakes on a split.

    Attributes:
        kind: index in `KINDS` of each ranked detection; `NO_ERROR` for one that is no mistake.
        truth: the object that a class, box or duplicate error is about, as index in its image; -1
            for other detections.
        missed: of each image, which of its objects are missed.
        hit: of each image, which of its objects are found.
        count: mistakes of a kind by class, in the order of `KINDS`, from class 1.
        cost: by how much the mean AP would rise if the mistakes of a kind were mended, in the order
            of `KINDS`. The costs do not add up to what is lost: mending one kind bares others.
    """

    kind: Int[np.ndarray, "n"]
    truth: Int[np.ndarray, "n"]
    missed: list[Bool[np.ndarray, "_"]]
    hit: list[Bool[np.ndarray, "_"]]
    count: Int[np.ndarray, "6 F"]
    cost: Float64[np.ndarray, "6"]


def classify_errors(
    results: SplitResults,
    ranked: RankedDetections,
    *,
    inclusive_pixels: bool,
    threshold_inclusive: bool,
) -> Errors:
    """Sorts every false positive and false negative into TIDE's kinds.

    A false positive is, with the IoUs taken over the objects that count, the first that fits of

    - box: the highest IoU with an object of its class is .1 or more, but no hit's;
    - class: the highest IoU with an object of another class is .5 or more;
    - duplicate: the highest IoU with an object of its class is a hit's, but that has been found;
    - background: the highest IoU with any object is .1 or less;
    - both: what is left, near an object of another class with an IoU in (.1, .5).

    The paper leaves open which comes first where two fit; this is the order of its authors'
    program. An object is missed if it is neither found nor what a class or box error is about.

    Args:
        results: the objects and the detections.
        ranked: of these results.
        inclusive_pixels, threshold_inclusive: as given to `rank_detections`.
    """
    kind = np.full(len(ranked.labels), NO_ERROR)
    about = np.full(len(ranked.labels), -1)
    by_image = np.argsort(ranked.images, kind="stable")
    starts = np.searchsorted(ranked.images[by_image], np.arange(len(results) + 1))
    missed, hit = [], []
    for image, truth in enumerate(results.ground_truth):
        here = by_image[starts[image] : starts[image + 1]]
        found = np.zeros(len(truth.labels), bool)
        found[ranked.truth[here[ranked.hit[here]]]] = True
        wrong = here[ranked.counts[here] & ~ranked.hit[here]]
        objects = np.flatnonzero(~truth.ignored)
        covered = found | truth.ignored
        if len(wrong) and len(objects):
            boxes = results.detections[image].boxes[ranked.rows[wrong]].astype(np.float64)
            iou = pixel_iou(
                boxes[:, None], truth.boxes[objects].astype(np.float64)[None], inclusive_pixels
            )
            same = ranked.labels[wrong][:, None] == truth.labels[objects][None]
            kinds, nearest = _kinds(iou, same, threshold_inclusive)
            kind[wrong] = kinds
            about[wrong] = np.where(nearest >= 0, objects[nearest], -1)
            covered[about[wrong[(kinds == CLASS) | (kinds == BOX)]]] = True
        else:
            kind[wrong] = BACKGROUND
        missed.append(~covered)
        hit.append(found)
    count = np.stack(
        [
            np.bincount(ranked.labels[kind == k], minlength=results.num_classes)[1:]
            for k in range(MISSED)
        ]
        + [_objects_by_class(results, missed)]
    )
    cost = _costs(results, ranked, kind, about, hit, count[MISSED])
    return Errors(kind, about, missed, hit, count, cost)


def _kinds(
    iou: Float64[np.ndarray, "n m"], same: Bool[np.ndarray, "n m"], threshold_inclusive: bool
) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """Kinds of the false positives of an image with objects, and the object each is about or -1."""
    of_class, of_others = np.where(same, iou, 0), np.where(same, 0, iou)
    own, other = of_class.max(axis=1), of_others.max(axis=1)
    found = reaches(own, FOREGROUND_IOU, threshold_inclusive)
    cases = [
        (own >= BACKGROUND_IOU) & ~found,
        other >= FOREGROUND_IOU,
        found,
        np.maximum(own, other) <= BACKGROUND_IOU,
    ]
    kinds = np.select(cases, [BOX, CLASS, DUPLICATE, BACKGROUND], default=BOTH)
    nearest = np.where(kinds == CLASS, of_others.argmax(axis=1), of_class.argmax(axis=1))
    return kinds, np.where((kinds == BACKGROUND) | (kinds == BOTH), -1, nearest)


def _objects_by_class(
    results: SplitResults, chosen: list[Bool[np.ndarray, "_"]]
) -> Int[np.ndarray, "F"]:
    labels = [
        truth.labels[of_image] for truth, of_image in zip(results.ground_truth, chosen, strict=True)
    ]
    return np.bincount(np.concatenate([[0], *labels]), minlength=results.num_classes)[1:]


def _costs(
    results: SplitResults,
    ranked: RankedDetections,
    kind: Int[np.ndarray, "n"],
    about: Int[np.ndarray, "n"],
    found: list[Bool[np.ndarray, "_"]],
    missed: Int[np.ndarray, "F"],
) -> Float64[np.ndarray, "6"]:
    """What the mean AP gains by each kind's oracle."""
    objects = ranked.num_ground_truth
    before = _mean_ap(ranked, ranked.labels, ranked.hit, ranked.counts, objects)
    cost = np.zeros(len(KINDS))
    for k in (BOTH, DUPLICATE, BACKGROUND):
        kept = ranked.counts & (kind != k)
        cost[k] = _mean_ap(ranked, ranked.labels, ranked.hit, kept, objects) - before
    for k in (CLASS, BOX):
        mended = _mended(ranked, np.flatnonzero(kind == k), about, found)
        labels, hit = ranked.labels.copy(), ranked.hit.copy()
        hit[mended] = True
        labels[mended] = [
            results.ground_truth[ranked.images[row]].labels[about[row]] for row in mended
        ]
        kept = ranked.counts & ((kind != k) | hit)
        cost[k] = _mean_ap(ranked, labels, hit, kept, objects) - before
    left = objects - missed
    cost[MISSED] = (
        _mean_ap(ranked, ranked.labels, ranked.hit, ranked.counts, left, objects) - before
    )
    return cost


def _mended(
    ranked: RankedDetections,
    wrong: Int[np.ndarray, "w"],
    about: Int[np.ndarray, "n"],
    found: list[Bool[np.ndarray, "_"]],
) -> Int[np.ndarray, "_"]:
    """The class or box errors that become hits when mended.

    Of those about one object only the best scored one, and none if the object is found already:
    the others become duplicates, and are dropped as such.
    """
    free = [row for row in wrong.tolist() if not found[ranked.images[row]][about[row]]]
    free.sort(key=lambda row: -ranked.scores[row])
    best: dict[tuple[int, int], int] = {}
    for row in free:
        best.setdefault((int(ranked.images[row]), int(about[row])), row)
    return np.array(sorted(best.values()), np.int64)


def _mean_ap(
    ranked: RankedDetections,
    labels: Int[np.ndarray, "n"],
    hit: Bool[np.ndarray, "n"],
    counts: Bool[np.ndarray, "n"],
    objects: Int[np.ndarray, "F"],
    averaged: Int[np.ndarray, "F"] | None = None,
) -> float:
    """Mean AP of changed detections, over the classes where `averaged` (or `objects`) is not 0."""
    rows = np.flatnonzero(counts)
    order = np.lexsort((ranked.rows[rows], ranked.images[rows], -ranked.scores[rows], labels[rows]))
    labels, hit = labels[rows][order], hit[rows][order]
    ap = np.full(len(objects), np.nan)
    for k in np.flatnonzero(objects if averaged is None else averaged):
        start, stop = np.searchsorted(labels, [k + 1, k + 2])
        left = int(objects[k])
        ap[k] = average_precision(hit[start:stop], left, eleven_point=False) if left else 0.0
    return mean_of_classes(ap)
