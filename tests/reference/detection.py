"""Greedy non-maximum suppression and SSD's detection output, one box at a time."""

import math

from tests.reference.boxes import decode


def nms(overlaps, valid, threshold):
    """overlaps[i][j] of boxes ordered best first -> indices that stay."""
    kept = []
    for i in range(len(valid)):
        if valid[i] and all(not overlaps[j][i] > threshold for j in kept):
            kept.append(i)
    return kept


def detect(
    loc, conf, priors, *, iou, score_threshold, iou_threshold, top_k, max_detections, variances
):
    """One image: a list of (score, label, box clipped to the image), best first."""
    boxes = [decode(offsets, prior, variances) for offsets, prior in zip(loc, priors, strict=True)]
    scores = []
    for logits in conf:
        exponentials = [math.exp(x - max(logits)) for x in logits]
        scores.append([e / sum(exponentials) for e in exponentials])
    found = []
    for label in range(1, len(conf[0])):
        candidates = [p for p in range(len(boxes)) if scores[p][label] > score_threshold]
        candidates.sort(key=lambda p: -scores[p][label])  # stable: a tie goes to the lowest prior
        candidates = candidates[:top_k]
        overlaps = [[iou(boxes[p], boxes[q]) for q in candidates] for p in candidates]
        for i in nms(overlaps, [True] * len(candidates), iou_threshold):
            p = candidates[i]
            clipped = tuple(min(max(v, 0.0), 1.0) for v in boxes[p])
            found.append((scores[p][label], label, clipped))
    found.sort(key=lambda detection: -detection[0])
    return found[:max_detections]
