"""How each program turns its network's outputs into detections, from its description.

All return, for one image, a list of (label from 1, score, box relative to the image), best first.
"""

import math

import numpy as np

from tests.reference.boxes import decode


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def decoded(loc, priors):
    """Corner form [P, 4]; variances .1 and .2."""
    return np.array([decode(o, p, (0.1, 0.2)) for o, p in zip(loc, priors, strict=True)])


def greedy(boxes, scores, threshold):
    """Indices that NMS keeps, best first."""
    order = list(np.argsort(-scores, kind="stable"))
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    kept = []
    while order:
        best, rest = order[0], np.array(order[1:], int)
        kept.append(best)
        low = np.maximum(boxes[rest, :2], boxes[best, :2])
        high = np.minimum(boxes[rest, 2:], boxes[best, 2:])
        intersection = np.prod(np.maximum(high - low, 0), axis=1)
        union = areas[rest] + areas[best] - intersection
        overlapping = intersection > threshold * union
        order = list(rest[~overlapping])
    return kept


def ranked(found, limit):
    return sorted(found, key=lambda detection: -detection[1])[:limit]


def by_class(boxes, scores, *, threshold, before, limit):
    """Per class: above the threshold, the best `before`, NMS at .45; then the best `limit`."""
    found = []
    for label in range(1, scores.shape[1]):
        chosen = np.flatnonzero(scores[:, label] > threshold)
        chosen = chosen[np.argsort(-scores[chosen, label], kind="stable")][:before]
        for place in greedy(boxes[chosen], scores[chosen, label], 0.45):
            prior = chosen[place]
            found.append((label, scores[prior, label], boxes[prior]))
    return ranked(found, limit)


def caffe(loc, conf, priors):
    found = by_class(decoded(loc, priors), softmax(conf), threshold=0.01, before=400, limit=200)
    return [(label, score, np.clip(box, 0, 1)) for label, score, box in found]


def ssd_pytorch(loc, conf, priors):
    return by_class(decoded(loc, priors), softmax(conf), threshold=0.01, before=200, limit=None)


def lufficc(loc, conf, priors):
    return by_class(decoded(loc, priors), softmax(conf), threshold=0.01, before=None, limit=100)


def torchvision(loc, conf, priors):
    boxes = np.clip(decoded(loc, priors), 0, 1)
    return by_class(boxes, softmax(conf), threshold=0.01, before=400, limit=200)


def mmdetection(loc, conf, priors, cells=(5776, 2166, 600, 150, 36, 4)):
    """The last class is the background; at most 1000 (prior, class) pairs a level; then as one."""
    boxes = np.clip(decoded(loc, priors), 0, 1)
    scores = softmax(conf)[:, :-1]
    candidates, start = [], 0
    for cell in cells:
        pairs = [
            (scores[start + place, k], start + place, k)
            for place, k in np.argwhere(scores[start : start + cell] > 0.02)
        ]
        candidates += sorted(pairs, reverse=True)[:1000]
        start += cell
    found = []
    for label in sorted({k for _, _, k in candidates}):
        of_class = [(score, prior) for score, prior, k in candidates if k == label]
        values = np.array([score for score, _ in of_class])
        places = np.array([prior for _, prior in of_class])
        for place in greedy(boxes[places], values, 0.45):
            found.append((label + 1, values[place], boxes[places[place]]))
    return ranked(found, 200)


def priors(image, steps, sizes, *, clip=None, whole=False):
    """(cx, cy, w, h) of all priors relative to the image.

    Args:
      image: pixels a side.
      steps: pixels between cells, a level each.
      sizes: pixels, one more than levels.
      clip: None, 'center' (all four to 0..1) or 'size' (width and height).
      whole: sizes without their decimals.
    """
    if whole:
        sizes = [int(size) for size in sizes]
    boxes = []
    levels = len(steps)
    for level, step in enumerate(steps):
        ratios = (2,) if level in (0, levels - 2, levels - 1) else (2, 3)
        side, larger = sizes[level], math.sqrt(sizes[level] * sizes[level + 1])
        shapes = [(side, side), (larger, larger)]
        for ratio in ratios:
            root = math.sqrt(ratio)
            shapes += [(side * root, side / root), (side / root, side * root)]
        cells = {300: (38, 19, 10, 5, 3, 1), 512: (64, 32, 16, 8, 4, 2, 1)}[image][level]
        for row in range(cells):
            for column in range(cells):
                boxes += [
                    ((column + 0.5) * step, (row + 0.5) * step, width, height)
                    for width, height in shapes
                ]
    boxes = np.array(boxes) / image
    if clip == "center":
        boxes = boxes.clip(0, 1)
    if clip == "size":
        boxes[:, 2:] = boxes[:, 2:].clip(0, 1)
    return boxes
