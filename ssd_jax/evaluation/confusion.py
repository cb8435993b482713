"""Which class is taken for which."""

import numpy as np
from jaxtyping import Bool, Float64, Int

from ssd_jax.evaluation.results import SplitResults
from ssd_jax.evaluation.voc import pixel_iou, reaches


def confusion_matrix(
    results: SplitResults,
    thresholds: Float64[np.ndarray, "F"],
    *,
    iou_threshold: float = 0.5,
    inclusive_pixels: bool,
    threshold_inclusive: bool,
) -> Int[np.ndarray, "C C"]:
    """Counts how objects and detections pair up, whatever their classes.

    In each image the object and the detection with the highest IoU pair up first, then the next of
    what is left, down to the threshold. A detection that overlaps an ignored object (difficult or a
    crowd) so far, and has no other, counts for nothing.

    Args:
        results: the objects and the detections.
        thresholds: score that a detection of each class needs to take part, from class 1.
        iou_threshold: IoU that a pair reaches.
        inclusive_pixels, threshold_inclusive: as for `voc.rank_detections`.

    Returns:
        Row: class of the object; column: class that was detected; 0 is background: row 0 counts
        detections without an object, column 0 objects without a detection.
    """
    matrix = np.zeros((results.num_classes, results.num_classes), np.int64)
    for found, truth in zip(results.detections, results.ground_truth, strict=True):
        sure = found.scores >= thresholds[found.labels - 1]
        iou = pixel_iou(
            found.boxes.astype(np.float64)[:, None],
            truth.boxes.astype(np.float64)[None],
            inclusive_pixels,
        )
        near = reaches(iou, iou_threshold, threshold_inclusive) & sure[:, None]
        object_of, free = _pair(iou, near, truth.ignored)
        free &= sure
        paired = object_of >= 0
        np.add.at(matrix, (truth.labels[object_of[paired]], found.labels[paired]), 1)
        np.add.at(matrix, (0, found.labels[free]), 1)
        alone = ~truth.ignored
        alone[object_of[paired]] = False
        np.add.at(matrix, (truth.labels[alone], 0), 1)
    return matrix


def _pair(
    iou: Float64[np.ndarray, "n m"], near: Bool[np.ndarray, "n m"], ignored: Bool[np.ndarray, "m"]
) -> tuple[Int[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """The object of each detection or -1, and which detections are on no object at all."""
    object_of = np.full(len(iou), -1)
    taken = ignored.copy()
    rows, columns = np.nonzero(near)
    for pair in np.argsort(-iou[rows, columns], kind="stable"):
        row, column = rows[pair], columns[pair]
        if object_of[row] < 0 and not taken[column]:
            object_of[row] = column
            taken[column] = True
    return object_of, (object_of < 0) & ~near[:, ignored].any(axis=1)
