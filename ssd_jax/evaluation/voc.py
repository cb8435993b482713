"""Average precision by the rules of the PASCAL VOC devkit, over a whole data set at once.

VOC07: the 11-point interpolated average (Everingham et al., IJCV 2010, section 4.2); VOC10 and
later: the area under the envelope of the precision-recall curve.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Integer, Shaped


@dataclasses.dataclass(frozen=True)
class ImageDetections:
    """What was found in one image, in any order: boxes in pixels, corner form; classes from 1."""

    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, "n"]
    labels: Integer[np.ndarray, "n"]

    def __post_init__(self) -> None:
        """Check that there is one score and one label a box."""
        _check_rows(self.boxes, scores=self.scores, labels=self.labels)


@dataclasses.dataclass(frozen=True)
class ImageGroundTruth:
    """The objects of one image: boxes in pixels, corner form; classes from 1."""

    boxes: Float[np.ndarray, "m 4"]
    labels: Integer[np.ndarray, "m"]
    difficult: Bool[np.ndarray, "m"]

    def __post_init__(self) -> None:
        """Check that there is one label and one mark a box."""
        _check_rows(self.boxes, labels=self.labels, difficult=self.difficult)


def _check_rows(boxes: np.ndarray, **columns: np.ndarray) -> None:
    for name, values in columns.items():
        if boxes.shape != (len(values), 4):
            raise ValueError(f"boxes {boxes.shape} and {name} {values.shape} do not go together")


@dataclasses.dataclass(frozen=True)
class VocResult:
    """Average precision of every class but background, and what it was measured on.

    Attributes:
        ap: in 0..1, of class i + 1; NaN for a class without an object that counts.
        mean_ap: mean over the classes that have one; NaN if none has.
        num_ground_truth: objects of a class, `difficult` ones left out.
        num_detections: detections of a class.
    """

    ap: Float64[np.ndarray, "F"]
    mean_ap: float
    num_ground_truth: Int[np.ndarray, "F"]
    num_detections: Int[np.ndarray, "F"]


def voc_ap(
    detections: Sequence[ImageDetections],
    ground_truth: Sequence[ImageGroundTruth],
    *,
    num_classes: int,
    iou_threshold: float = 0.5,
    eleven_point: bool = False,
    inclusive_pixels: bool = True,
    threshold_inclusive: bool = False,
) -> VocResult:
    """Average precision of each class and its mean, as the VOC devkit computes them.

    Detections of a class are ranked by score over all images (a tie goes to the earlier image, then
    to the earlier detection). Each looks at the object of its image and class with the highest IoU:
    above the threshold it is a hit the first time and a false positive from then on, and counts for
    nothing if the object is `difficult`; otherwise it is a false positive.

    Args:
        detections: one entry an image.
        ground_truth: one entry an image, in the same order.
        num_classes: with background.
        iou_threshold: IoU that a hit has to exceed.
        eleven_point: VOC07's mean of the best precision at recalls of 0, .1, .. 1 or more, and not
            the area. Recall is compared with exact tenths, as 3 / 10 is one.
        inclusive_pixels: the last pixel belongs to a box, whose width is xmax - xmin + 1: right for
            VOC's own annotations, wrong for boxes in relative or continuous coordinates.
        threshold_inclusive: an IoU equal to the threshold is enough.

    Returns:
        A VocResult; its arrays start at class 1.

    Raises:
        ValueError: the lengths differ, a label is outside 1..num_classes - 1, or a score is NaN.
    """
    if len(detections) != len(ground_truth):
        raise ValueError(
            f"{len(detections)} images with detections, {len(ground_truth)} with ground truth"
        )
    num_foreground = num_classes - 1
    found = _Boxes.gather([(d.boxes, d.labels) for d in detections], num_classes, "detections")
    truth = _Boxes.gather([(g.boxes, g.labels) for g in ground_truth], num_classes, "ground truth")
    scores = _concatenate([d.scores for d in detections], np.float64)
    difficult = _concatenate([g.difficult for g in ground_truth], np.bool_)
    if np.isnan(scores).any():
        raise ValueError(f"a score in image {found.images[np.isnan(scores)][0]} is NaN")

    ranking = np.lexsort((-scores, found.labels))  # stable: ties stay in order
    found = found.take(ranking)
    best_iou, best_truth = _best_truths(found, truth, inclusive_pixels)
    near = best_iou >= iou_threshold if threshold_inclusive else best_iou > iou_threshold
    hit = np.zeros(len(ranking), bool)
    _, first = np.unique(best_truth[near], return_index=True)
    hit[np.flatnonzero(near)[first]] = True
    counts = np.ones(len(ranking), bool)
    counts[near] = ~difficult[best_truth[near]]

    num_ground_truth = np.bincount(truth.labels[~difficult], minlength=num_classes)[1:]
    num_detections = np.bincount(found.labels, minlength=num_classes)[1:]
    starts = np.concatenate([[0], np.cumsum(num_detections)])
    average = _eleven_point_average if eleven_point else _area
    ap = np.full(num_foreground, np.nan)
    for i in np.flatnonzero(num_ground_truth):
        of_class = slice(starts[i], starts[i + 1])
        hits = np.cumsum(hit[of_class][counts[of_class]])
        ap[i] = average(hits / num_ground_truth[i], hits / np.arange(1, len(hits) + 1))
    mean_ap = float(np.nanmean(ap)) if num_ground_truth.any() else float("nan")
    return VocResult(ap, mean_ap, num_ground_truth, num_detections)


@dataclasses.dataclass(frozen=True)
class _Boxes:
    """The boxes of all images in one table."""

    boxes: Float64[np.ndarray, "n 4"]
    labels: Int[np.ndarray, "n"]
    images: Int[np.ndarray, "n"]

    @classmethod
    def gather(
        cls, images: list[tuple[np.ndarray, np.ndarray]], num_classes: int, name: str
    ) -> "_Boxes":
        boxes = _concatenate([boxes for boxes, _ in images], np.float64, (0, 4))
        labels = _concatenate([labels for _, labels in images], np.int64)
        index = np.repeat(np.arange(len(images)), [len(labels) for _, labels in images])
        wrong = (labels < 1) | (labels >= num_classes)
        if wrong.any():
            raise ValueError(
                f"{name} of image {index[wrong][0]}: label {labels[wrong][0]} is outside "
                f"1..{num_classes - 1}"
            )
        return cls(boxes, labels, index)

    def take(self, rows: np.ndarray) -> "_Boxes":
        return _Boxes(self.boxes[rows], self.labels[rows], self.images[rows])


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
        iou = _iou(found.boxes[visiting], truth.boxes[candidate], inclusive_pixels)
        better = iou > best_iou[visiting]
        best_iou[visiting[better]] = iou[better]
        best_truth[visiting[better]] = candidate[better]
        k += 1
        visiting = visiting[start[visiting] + k < stop[visiting]]
    return best_iou, best_truth


def _iou(
    a: Float64[np.ndarray, "n 4"], b: Float64[np.ndarray, "n 4"], inclusive_pixels: bool
) -> Float64[np.ndarray, "n"]:
    """IoU of the rows of `a` with those of `b`; 0 where they do not overlap."""
    last_pixel = 1.0 if inclusive_pixels else 0.0

    def area(low: Shaped[np.ndarray, "n 2"], high: Shaped[np.ndarray, "n 2"]) -> np.ndarray:
        sides = np.maximum(high - low + last_pixel, 0)
        return sides[:, 0] * sides[:, 1]

    shared = area(np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:]))
    union = area(a[:, :2], a[:, 2:]) + area(b[:, :2], b[:, 2:]) - shared
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
