"""How PyTorch programs draw their crops, one trial at a time, in pixels; from their descriptions.

Each takes random numbers, the picture's (width, height) and the objects' boxes in pixels, and
returns (mode, crop): the index of the option that succeeded, 0 the whole, and the crop in pixels.
They draw an option anew when its trials fail.
"""

from tests.reference.boxes import iou

SSD_PYTORCH = (None, 0.1, 0.3, 0.7, 0.9, 0.0)
TORCHVISION = (None, 0.1, 0.3, 0.5, 0.7, 0.9, 0.0)
MMDETECTION = (None, 0.1, 0.3, 0.5, 0.7, 0.9, 0.0)


def ssd_pytorch(rng, size, boxes):
    """`RandomSampleCrop`: its test, lowest < minimum and infinity < highest, never rejects."""

    def rejected(overlaps, minimum):
        return min(overlaps) < minimum and float("inf") < max(overlaps)

    return _draw(rng, size, boxes, SSD_PYTORCH, 50, rejected)


def mmdetection(rng, size, boxes):
    """`MinIoURandomCrop`: the crop has its IoU with every object."""
    return _draw(rng, size, boxes, MMDETECTION, 50, lambda overlaps, least: min(overlaps) < least)


def torchvision(rng, size, boxes):
    """`RandomIoUCrop`: with any of the objects whose centre it holds."""

    def rejected(overlaps, least):
        return max(overlaps) < least

    return _draw(rng, size, boxes, TORCHVISION, 40, rejected, among_held=True)


def _draw(rng, size, boxes, options, trials, rejected, among_held=False):
    while True:
        mode = int(rng.integers(len(options)))
        if options[mode] is None:
            return mode, (0.0, 0.0, *size)
        for _ in range(trials):
            width, height = (rng.uniform(0.3 * side, side) for side in size)
            if not 0.5 <= width / height <= 2:
                continue
            left, top = rng.uniform(0, size[0] - width), rng.uniform(0, size[1] - height)
            crop = (left, top, left + width, top + height)
            held = [box for box in boxes if _holds_centre(crop, box)]
            if not held or rejected(
                [iou(crop, box) for box in (held if among_held else boxes)], options[mode]
            ):
                continue
            return mode, crop


def _holds_centre(crop, box):
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return crop[0] < x < crop[2] and crop[1] < y < crop[3]
