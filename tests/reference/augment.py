"""SSD's augmentation as Caffe does it: whole pictures, whole pixels, one step after the other.

The steps take the numbers that were drawn, so that both versions can be given the same; `draw` is
the literal drawing of them. Pictures are float32 RGB in 0..255, boxes corner form.
"""

import cv2
import numpy as np

from tests.reference.boxes import iou

KERNELS = {
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "lanczos4": cv2.INTER_LANCZOS4,
}


def distort(picture, brightness, contrast, contrast_last, saturation, hue, hue_wraps, channels):
    picture = np.clip(picture + brightness, 0, 255).astype(np.float32)
    if not contrast_last:
        picture = np.clip(picture * contrast, 0, 255).astype(np.float32)
    hsv = cv2.cvtColor(picture / 255, cv2.COLOR_RGB2HSV)
    hsv[..., 1] = np.clip(hsv[..., 1] * saturation, 0, 1)
    turned = hsv[..., 0] + hue
    hsv[..., 0] = (turned if hue_wraps else np.maximum(turned, 0)) % 360
    picture = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255
    if contrast_last:
        picture = np.clip(picture * contrast, 0, 255)
    return np.clip(picture, 0, 255)[..., list(channels)]


def expand(picture, ratio, offset, mean):
    """`ratio` times as large; the picture at `offset` (x, y) of its own widths and heights."""
    height, width = picture.shape[:2]
    left, top = whole(offset[0] * width), whole(offset[1] * height)
    right = whole(ratio * width) - left - width
    bottom = whole(ratio * height) - top - height
    return cv2.copyMakeBorder(picture, top, bottom, left, right, cv2.BORDER_CONSTANT, value=mean)


def crop(picture, box):
    height, width = picture.shape[:2]
    xmin, ymin, xmax, ymax = box
    return picture[
        whole(ymin * height) : whole(ymax * height), whole(xmin * width) : whole(xmax * width)
    ]


def whole(pixels):
    assert abs(pixels - round(float(pixels))) < 1e-4, f"{pixels} is no whole number of pixels"
    return round(float(pixels))


def resize(picture, size, kernel):
    height, width = size
    if kernel == "area":
        # One axis at a time: OpenCV aliases where one grows and the other shrinks.
        picture = cv2.resize(picture, (width, picture.shape[0]), interpolation=cv2.INTER_AREA)
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    elif kernel == "nearest":
        # cv2.INTER_NEAREST_EXACT but for its fixed-point rounding just between two pixels.
        rows = [(2 * i + 1) * picture.shape[0] // (2 * height) for i in range(height)]
        columns = [(2 * i + 1) * picture.shape[1] // (2 * width) for i in range(width)]
        picture = picture[rows][:, columns]
    else:
        picture = cv2.resize(picture, (width, height), interpolation=KERNELS[kernel])
    return np.clip(picture, 0, 255)


def mirror(picture):
    return picture[:, ::-1]


def move_boxes(boxes, labels, ratio, offset, crop_box, mirrored):
    """The slots after expansion, crop and mirror; those emptied are zeros.

    An object to ignore (label -1) may have its centre outside.
    """
    new_boxes, new_labels = np.zeros((len(boxes), 4)), np.zeros(len(boxes), int)
    for slot, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        if label == 0:
            continue
        box = [(float(box[i]) + float(offset[i % 2])) / float(ratio) for i in range(4)]
        left, top, right, bottom = (float(edge) for edge in crop_box)
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        if label > 0 and not (left <= x <= right and top <= y <= bottom):
            continue
        xmin = (max(box[0], left) - left) / (right - left)
        xmax = (min(box[2], right) - left) / (right - left)
        ymin = (max(box[1], top) - top) / (bottom - top)
        ymax = (min(box[3], bottom) - top) / (bottom - top)
        if xmax <= xmin or ymax <= ymin:
            continue
        if mirrored:
            xmin, xmax = 1 - xmax, 1 - xmin
        new_boxes[slot], new_labels[slot] = (xmin, ymin, xmax, ymax), label
    return new_boxes, new_labels


def draw_crop_trial(rng):
    scale = rng.uniform(0.3, 1.0)
    aspect = rng.uniform(0.5, 2.0)
    aspect = min(max(aspect, scale**2), 1 / scale**2)
    width, height = scale * aspect**0.5, scale / aspect**0.5
    width, height = min(width, 1.0), min(height, 1.0)  # not above 1 but for rounding
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return left, top, left + width, top + height


def draw_geometry(rng, boxes, labels):
    """Expansion ratio and offset, crop, and the sampler it is from (0 whole, 1-5, 6 free)."""
    ratio, offset = 1.0, (0.0, 0.0)
    if rng.uniform() < 0.5:
        ratio = rng.uniform(1, 4)
        offset = (rng.uniform(0, ratio - 1), rng.uniform(0, ratio - 1))
    objects = [
        [(box[i] + offset[i % 2]) / ratio for i in range(4)]
        for box, label in zip(boxes, labels, strict=True)
        if label > 0
    ]
    found = [(0, (0.0, 0.0, 1.0, 1.0))]
    for sampler, minimum in enumerate((0.1, 0.3, 0.5, 0.7, 0.9), start=1):
        for _ in range(50):
            trial = draw_crop_trial(rng)
            if any(iou(trial, box) >= minimum for box in objects):
                found.append((sampler, trial))
                break
    found.append((6, draw_crop_trial(rng)))
    sampler, chosen = found[rng.integers(len(found))]
    return ratio, offset, chosen, sampler


def draw_photometric(rng):
    """The arguments of `distort`, as Caffe draws them."""
    brightness = rng.uniform(-32, 32) if rng.uniform() < 0.5 else 0.0
    contrast = rng.uniform(0.5, 1.5) if rng.uniform() < 0.5 else 1.0
    saturation = rng.uniform(0.5, 1.5) if rng.uniform() < 0.5 else 1.0
    hue = rng.uniform(-36, 36) if rng.uniform() < 0.5 else 0.0
    return brightness, contrast, rng.uniform() < 0.5, saturation, hue, False, (0, 1, 2)
