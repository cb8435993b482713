"""Box arithmetic on one box or one pair at a time, in Python floats."""

import math


def corners(box):
    """(cx, cy, w, h) to (xmin, ymin, xmax, ymax)."""
    cx, cy, w, h = (float(v) for v in box)
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def area(box):
    """Area of a corner-form box, 0 where its corners are not in order."""
    xmin, ymin, xmax, ymax = (float(v) for v in box)
    if xmax <= xmin or ymax <= ymin:
        return 0.0
    return (xmax - xmin) * (ymax - ymin)


def iou(a, b):
    """Intersection over union of two corner-form boxes."""
    shared = area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    if shared == 0:
        return 0.0
    return shared / (area(a) + area(b) - shared)


def encode(box, prior, variances):
    """Offsets of a corner-form box from a centre-form prior (arXiv 1512.02325, equation 2)."""
    xmin, ymin, xmax, ymax = (float(v) for v in box)
    cx, cy, w, h = (float(v) for v in prior)
    return (
        ((xmin + xmax) / 2 - cx) / w / variances[0],
        ((ymin + ymax) / 2 - cy) / h / variances[0],
        math.log((xmax - xmin) / w) / variances[1],
        math.log((ymax - ymin) / h) / variances[1],
    )


def decode(offsets, prior, variances):
    """The corner-form box at the offsets from a centre-form prior."""
    dx, dy, dw, dh = (float(v) for v in offsets)
    cx, cy, w, h = (float(v) for v in prior)
    return corners(
        (
            cx + dx * variances[0] * w,
            cy + dy * variances[0] * h,
            w * math.exp(dw * variances[1]),
            h * math.exp(dh * variances[1]),
        )
    )
