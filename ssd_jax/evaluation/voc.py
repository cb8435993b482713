"""Average precision by the rules of the PASCAL VOC devkit, over a whole data set at once.

VOC07: the 11-point interpolated average (Everingham et al., IJCV 2010, section 4.2); VOC10 and
later: the area under the envelope of the precision-recall curve.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int, Shaped

from ssd_jax.evaluation.results import ImageDetections, ImageGroundTruth


@dataclasses.dataclass(frozen=True)
class VocResult:
    """Average precision of every class but background, and what it was measured on.

    Attributes:
        ap: in 0..1, of class i + 1; NaN for a class without an object that counts.
        mean_ap: mean over the classes that have one; NaN if none has.
        num_ground_truth: objects of a class, those that are `difficult` or a crowd left out.
        num_detections: detections of a class.
    """

    ap: Float64[np.ndarray, "F"]
    mean_ap: float
    num_ground_truth: Int[np.ndarray, "F"]
    num_detections: Int[np.ndarray, "F"]


SETTINGS = ("inclusive_pixels", "threshold_inclusive")
"""What `rank_detections` decides by, besides the threshold: arguments, and fields of a config."""


@dataclasses.dataclass(frozen=True)
class RankedDetections:
    """All detections of a data set, by class and then best first, judged by the devkit's rules.

    Attributes:
        labels: classes from 1, in order.
        scores: falling within a class.
        images: index of the image in the data set.
        rows: index of the detection in its image.
        iou: with the nearest object of the class; 0 where there is none.
        truth: index of that object in its image; arbitrary where iou is 0.
        hit: finds an object that counts, as the first.
        counts: is a hit or a false positive: False where the object found is difficult or a crowd.
        num_ground_truth: objects of a class that count, from class 1.
        num_detections: detections of a class, from class 1.
    """

    labels: Int[np.ndarray, "n"]
    scores: Float64[np.ndarray, "n"]
    images: Int[np.ndarray, "n"]
    rows: Int[np.ndarray, "n"]
    iou: Float64[np.ndarray, "n"]
    truth: Int[np.ndarray, "n"]
    hit: Bool[np.ndarray, "n"]
    counts: Bool[np.ndarray, "n"]
    num_ground_truth: Int[np.ndarray, "F"]
    num_detections: Int[np.ndarray, "F"]

    def of_class(self, label: int) -> slice:
        """Where the detections of a class are."""
        stop = int(np.sum(self.num_detections[:label]))
        return slice(stop - int(self.num_detections[label - 1]), stop)


def reaches(
    iou: Float64[np.ndarray, "*n"], threshold: float, inclusive: bool
) -> Bool[np.ndarray, "*n"]:
    """Whether an IoU is a hit's: as high as the threshold, or above it if that is not inclusive."""
    return iou >= threshold if inclusive else iou > threshold


def rank_detections(
    detections: Sequence[ImageDetections],
    ground_truth: Sequence[ImageGroundTruth],
    *,
    num_classes: int,
    iou_threshold: float = 0.5,
    inclusive_pixels: bool = True,
    threshold_inclusive: bool = True,
) -> RankedDetections:
    """Which detections are hits, as the VOC devkit decides it.

    Detections of a class are ranked by score over all images (a tie goes to the earlier image, then
    to the earlier detection). Each looks at the object of its image and class with the highest IoU:
    where that reaches the threshold it is a hit the first time and a false positive from then on
    (and counts for nothing if the object is `difficult` or a crowd); else it is a false positive.

    Args:
        detections: one entry an image.
        ground_truth: one entry an image, in the same order.
        num_classes: with background.
        iou_threshold: IoU that a hit has to reach.
        inclusive_pixels: the last pixel belongs to a box, whose width is xmax - xmin + 1: right for
            VOC's own annotations, wrong for boxes in relative or continuous coordinates.
        threshold_inclusive: an IoU equal to the threshold is enough, as the devkit has it
            (VOCevaldet.m); py-faster-rcnn's voc_eval.py, and with it ssd.pytorch, asks for more.

    Raises:
        ValueError: the lengths differ, a label is outside 1..num_classes - 1, or a score is NaN.
    """
    if len(detections) != len(ground_truth):
        raise ValueError(
            f"{len(detections)} images with detections, {len(ground_truth)} with ground truth"
        )
    found = _Boxes.gather([(d.boxes, d.labels) for d in detections], num_classes, "detections")
    truth = _Boxes.gather([(g.boxes, g.labels) for g in ground_truth], num_classes, "ground truth")
    scores = _concatenate([d.scores for d in detections], np.float64)
    ignored = _concatenate([g.ignored for g in ground_truth], np.bool_)
    if np.isnan(scores).any():
        raise ValueError(f"a score in image {found.images[np.isnan(scores)][0]} is NaN")

    ranking = np.lexsort((-scores, found.labels))  # stable: ties stay in order
    found = found.take(ranking)
    best_iou, best_truth = _best_truths(found, truth, inclusive_pixels)
    near = reaches(best_iou, iou_threshold, threshold_inclusive)
    hit = np.zeros(len(ranking), bool)
    _, first = np.unique(best_truth[near], return_index=True)
    hit[np.flatnonzero(near)[first]] = True
    counts = np.ones(len(ranking), bool)
    counts[near] = ~ignored[best_truth[near]]
    return RankedDetections(
        labels=found.labels,
        scores=scores[ranking],
        images=found.images,
        rows=found.rows,
        iou=best_iou,
        truth=truth.rows[best_truth] if len(truth.rows) else best_truth,
        hit=hit & counts,
        counts=counts,
        num_ground_truth=np.bincount(truth.labels[~ignored], minlength=num_classes)[1:],
        num_detections=np.bincount(found.labels, minlength=num_classes)[1:],
    )


def voc_ap(
    detections: Sequence[ImageDetections],
    ground_truth: Sequence[ImageGroundTruth],
    *,
    num_classes: int,
    iou_threshold: float = 0.5,
    eleven_point: bool = False,
    inclusive_pixels: bool = True,
    threshold_inclusive: bool = True,
) -> VocResult:
    """Average precision of each class and its mean, as the VOC devkit computes them.

    Args:
        eleven_point: VOC07's mean of the best precision at recalls of 0, .1, .. 1 or more, and not
            the area. Recall is compared with exact tenths, as 3 / 10 is one.

    See `rank_detections` for the other arguments, the rules and the errors.

    Returns:
        A VocResult; its arrays start at class 1.
    """
    ranked = rank_detections(
        detections,
        ground_truth,
        num_classes=num_classes,
        iou_threshold=iou_threshold,
        inclusive_pixels=inclusive_pixels,
        threshold_inclusive=threshold_inclusive,
    )
    return ap_of_ranked(ranked, eleven_point=eleven_point)


def ap_of_ranked(ranked: RankedDetections, *, eleven_point: bool) -> VocResult:
    """The second half of `voc_ap`, for several averages over one ranking."""
    num_ground_truth = ranked.num_ground_truth
    ap = np.full(len(num_ground_truth), np.nan)
    for i in np.flatnonzero(num_ground_truth):
        of_class = ranked.of_class(int(i) + 1)
        hit = ranked.hit[of_class][ranked.counts[of_class]]
        ap[i] = average_precision(hit, int(num_ground_truth[i]), eleven_point=eleven_point)
    return VocResult(ap, mean_of_classes(ap), num_ground_truth, ranked.num_detections)


def average_precision(
    hit: Bool[np.ndarray, "n"], num_ground_truth: int, *, eleven_point: bool
) -> float:
    """AP of one class from which of its detections are hits, best first."""
    hits = np.cumsum(hit)
    average = _eleven_point_average if eleven_point else _area
    return average(hits / num_ground_truth, hits / np.arange(1, len(hits) + 1))


def mean_of_classes(ap: Float64[np.ndarray, "F"]) -> float:
    """The mean over the classes that have one; NaN where none has."""
    return float(np.mean(ap[~np.isnan(ap)])) if not np.isnan(ap).all() else float("nan")


@dataclasses.dataclass(frozen=True)
class _Boxes:
    """The boxes of all images in one table."""

    boxes: Float64[np.ndarray, "n 4"]
    labels: Int[np.ndarray, "n"]
    images: Int[np.ndarray, "n"]
    rows: Int[np.ndarray, "n"]  # index within the image

    @classmethod
    def gather(
        cls, images: list[tuple[np.ndarray, np.ndarray]], num_classes: int, name: str
    ) -> "_Boxes":
        boxes = _concatenate([boxes for boxes, _ in images], np.float64, (0, 4))
        labels = _concatenate([labels for _, labels in images], np.int64)
        counts = np.array([len(labels) for _, labels in images], np.int64)
        index = np.repeat(np.arange(len(images)), counts)
        rows = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
        wrong = (labels < 1) | (labels >= num_classes)
        if wrong.any():
            raise ValueError(
                f"{name} of image {index[wrong][0]}: label {labels[wrong][0]} is outside "
                f"1..{num_classes - 1}"
            )
        return cls(boxes, labels, index, rows)

    def take(self, rows: np.ndarray) -> "_Boxes":
        return _Boxes(self.boxes[rows], self.labels[rows], self.images[rows], self.rows[rows])


def _concatenate(
    arrays: list[np.ndarray], dtype: type, empty: tuple[int, ...] = (0,)
) -> np.ndarray:
    return np.concatenate([np.zeros(empty, dtype), *arrays]).astype(dtype, copy=False)


def _best_truths(
    found: _Boxes, truth: _Boxes, inclusive_pixels: bool
) -> tuple[Float64[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """For each detection the highest IoU with an object of its image and class, and its row.

    0 and an arbitrary row where it touches none. A tie goes to the first object.
    """
    # Objects in groups of one image and class; detections visit their group's k-th object together.
    num_labels = 1 + max(found.labels.max(initial=0), truth.labels.max(initial=0))
    group = truth.images * num_labels + truth.labels
    rows = np.argsort(group, kind="stable")
    wanted = found.images * num_labels + found.labels
    start = np.searchsorted(group[rows], wanted, "left")
    stop = np.searchsorted(group[rows], wanted, "right")

    best_iou = np.zeros(len(wanted))
    best_truth = np.zeros(len(wanted), np.int64)
    visiting = np.flatnonzero(start < stop)
    k = 0
    while len(visiting):
        candidate = rows[start[visiting] + k]
        iou = pixel_iou(found.boxes[visiting], truth.boxes[candidate], inclusive_pixels)
        better = iou > best_iou[visiting]
        best_iou[visiting[better]] = iou[better]
        best_truth[visiting[better]] = candidate[better]
        k += 1
        visiting = visiting[start[visiting] + k < stop[visiting]]
    return best_iou, best_truth


def pixel_iou(
    a: Float64[np.ndarray, "*#n 4"], b: Float64[np.ndarray, "*#n 4"], inclusive_pixels: bool
) -> Float64[np.ndarray, "*n"]:
    """IoU of boxes in pixels, broadcast against each other; 0 where they do not overlap."""
    last_pixel = 1.0 if inclusive_pixels else 0.0

    def area(low: Shaped[np.ndarray, "*_ 2"], high: Shaped[np.ndarray, "*_ 2"]) -> np.ndarray:
        sides = np.maximum(high - low + last_pixel, 0)
        return sides[..., 0] * sides[..., 1]

    shared = area(np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:]))
    union = area(a[..., :2], a[..., 2:]) + area(b[..., :2], b[..., 2:]) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)


def _area(recall: Float64[np.ndarray, "n"], precision: Float64[np.ndarray, "n"]) -> float:
    """Area under the envelope: precision replaced by the best at that recall or a higher one."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0) * envelope))


def _eleven_point_average(
    recall: Float64[np.ndarray, "n"], precision: Float64[np.ndarray, "n"]
) -> float:
    """Mean of the best precision at a recall of 0, .1, .. 1 or more; 0 where it is not reached."""
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
    return float(np.mean(envelope[np.searchsorted(recall, np.arange(11) / 10)]))
