"""The VOC devkit's VOCevaldet.m and VOCap.m for one class, line by line."""

import numpy as np


def evaluate_class(
    detections, ground_truth, *, threshold, eleven_point, inclusive_pixels, threshold_inclusive
):
    """AP of one class.

    detections: a list of (image, score, box); ground_truth: for each image a list of
    (box, difficult).
    """
    npos = sum(not difficult for objects in ground_truth for _, difficult in objects)
    if npos == 0:
        return float("nan")
    detected = [[False] * len(objects) for objects in ground_truth]
    one = 1.0 if inclusive_pixels else 0.0

    tp, fp = [], []
    for image, _, bb in sorted(detections, key=lambda detection: -detection[1]):
        ovmax, jmax = -np.inf, None
        for j, (bbgt, _) in enumerate(ground_truth[image]):
            bi = (
                max(bb[0], bbgt[0]),
                max(bb[1], bbgt[1]),
                min(bb[2], bbgt[2]),
                min(bb[3], bbgt[3]),
            )
            iw = bi[2] - bi[0] + one
            ih = bi[3] - bi[1] + one
            if iw > 0 and ih > 0:
                ua = (
                    (bb[2] - bb[0] + one) * (bb[3] - bb[1] + one)
                    + (bbgt[2] - bbgt[0] + one) * (bbgt[3] - bbgt[1] + one)
                    - iw * ih
                )
                ov = iw * ih / ua
                if ov > ovmax:
                    ovmax, jmax = ov, j
        true_positive = false_positive = 0
        if ovmax > threshold or (threshold_inclusive and ovmax == threshold):
            if not ground_truth[image][jmax][1]:
                if not detected[image][jmax]:
                    true_positive = 1
                    detected[image][jmax] = True
                else:
                    false_positive = 1
        else:
            false_positive = 1
        tp.append(true_positive)
        fp.append(false_positive)

    recall, precision = [], []
    for rank in range(len(tp)):
        hits, misses = sum(tp[: rank + 1]), sum(fp[: rank + 1])
        recall.append(hits / npos)
        precision.append(hits / (hits + misses) if hits + misses else 0.0)
    return _eleven_points(recall, precision) if eleven_point else _area(recall, precision)


def _eleven_points(recall, precision):
    ap = 0.0
    for tenths in range(11):
        reached = [p for r, p in zip(recall, precision, strict=True) if r >= tenths / 10]
        ap += max(reached, default=0.0) / 11
    return ap


def _area(recall, precision):
    mrec = [0.0, *recall, 1.0]
    mpre = [0.0, *precision, 0.0]
    for i in range(len(mpre) - 2, -1, -1):
        mpre[i] = max(mpre[i], mpre[i + 1])
    ap = 0.0
    for i in range(1, len(mrec)):
        if mrec[i] != mrec[i - 1]:
            ap += (mrec[i] - mrec[i - 1]) * mpre[i]
    return ap
