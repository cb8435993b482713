"""SSD's training augmentation on the host, with OpenCV: what loaders without a device do.

`as_in_ssd_pytorch` does what ssd.pytorch's transforms do, step by step in float32: what people run.
`as_in_caffe` has the original's order (distort the whole picture, expand, crop, resize) in the
fastest way known, in uint8, a sampler's 50 trials judged at once. `fused` is the fastest order:
one warp straight to the network's input, which is distorted afterwards, as ssd_jax does it on the
device.
"""

import cv2
import numpy as np

MEAN = (123.0, 117.0, 104.0)
KERNELS = (cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_NEAREST, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
MIN_IOUS = (0.1, 0.3, 0.5, 0.7, 0.9)
TRIALS = 50


def as_in_ssd_pytorch(image: np.ndarray, boxes: np.ndarray, side: int, rng: np.random.Generator):
    """Augments one picture as ssd.pytorch's `SSDAugmentation` does. As `as_in_caffe` otherwise."""
    image = distort_in_float(image.astype(np.float32), rng)
    height, width = image.shape[:2]
    pixels = boxes * np.array([width, height, width, height])
    numbers = np.arange(len(boxes))
    if rng.random() < 0.5:
        expand = rng.uniform(1, 4)
        canvas = np.empty((int(height * expand), int(width * expand), 3), np.float32)
        canvas[:] = MEAN
        left, top = rng.uniform(0, np.array([width, height]) * (expand - 1)).astype(int)
        canvas[top : top + height, left : left + width] = image
        image, pixels = canvas, pixels + np.tile([left, top], 2)
    image, pixels, numbers = crop_by_trials(image, pixels, numbers, rng)
    height, width = image.shape[:2]
    if rng.random() < 0.5:
        image = image[:, ::-1]
        pixels = np.stack(
            [width - pixels[:, 2], pixels[:, 1], width - pixels[:, 0], pixels[:, 3]], 1
        )
    image = cv2.resize(image, (side, side)) - np.float32(MEAN)
    moved = np.zeros((len(boxes), 4), np.float32)
    moved[numbers] = pixels / np.array([width, height, width, height])
    kept = np.zeros(len(boxes), bool)
    kept[numbers] = True
    return image, moved, kept


def crop_by_trials(
    image: np.ndarray, pixels: np.ndarray, numbers: np.ndarray, rng: np.random.Generator
):
    """Draws a sampler, tries 50 crops one after another, draws anew until one is found."""
    height, width = image.shape[:2]
    while True:
        sampler = rng.integers(len(MIN_IOUS) + 2)
        if sampler == 0 or not len(pixels):
            return image, pixels, numbers
        least = MIN_IOUS[sampler - 1] if sampler <= len(MIN_IOUS) else -np.inf
        for _ in range(TRIALS):
            w, h = rng.uniform(0.3 * width, width), rng.uniform(0.3 * height, height)
            if not 0.5 <= h / w <= 2:
                continue
            left, top = int(rng.uniform(0, width - w)), int(rng.uniform(0, height - h))
            crop = np.array([left, top, int(left + w), int(top + h)])
            # ssd.pytorch asks for `min < least and inf < max`: it computes IoUs that never reject.
            overlaps = pairwise_iou(crop[None], pixels)
            if overlaps.min() < least and np.inf < overlaps.max():
                continue
            center = (pixels[:, :2] + pixels[:, 2:]) / 2
            inside = np.all((center > crop[:2]) & (center < crop[2:]), axis=1)
            if not inside.any():
                continue
            moved = np.clip(pixels[inside], np.tile(crop[:2], 2), np.tile(crop[2:], 2))
            image = image[crop[1] : crop[3], crop[0] : crop[2]]
            return image, moved - np.tile(crop[:2], 2), numbers[inside]


def distort_in_float(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast, saturation, hue and channel order on float32, HSV there and back."""
    if rng.random() < 0.5:
        image = image + np.float32(rng.uniform(-32, 32))
    contrast = np.float32(rng.uniform(0.5, 1.5) if rng.random() < 0.5 else 1)
    first = rng.random() < 0.5
    if first and contrast != 1:
        image = image * contrast
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    if rng.random() < 0.5:
        hsv[:, :, 1] *= np.float32(rng.uniform(0.5, 1.5))
    if rng.random() < 0.5:
        hsv[:, :, 0] += np.float32(rng.uniform(-18, 18))
        hsv[:, :, 0][hsv[:, :, 0] > 360] -= 360
        hsv[:, :, 0][hsv[:, :, 0] < 0] += 360
    image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if not first and contrast != 1:
        image = image * contrast
    return image[:, :, rng.permutation(3)] if rng.random() < 0.5 else image


def as_in_caffe(image: np.ndarray, boxes: np.ndarray, side: int, rng: np.random.Generator):
    """Augments one picture in the original's order.

    Args:
      image: RGB uint8.
      boxes: Relative corners [n, 4].
      side: Pixels a side of the output.
      rng: Decides everything random.

    Returns:
      (float32 [side, side, 3] minus the mean, relative corners, which boxes are left).
    """
    image = distort(image, rng)
    height, width = image.shape[:2]
    expand, offset = draw_expansion(rng)
    if expand > 1:
        canvas = np.empty((round(height * expand), round(width * expand), 3), np.uint8)
        canvas[:] = np.uint8(MEAN)
        top, left = round(offset[1] * height), round(offset[0] * width)
        top, left = min(top, len(canvas) - height), min(left, canvas.shape[1] - width)
        canvas[top : top + height, left : left + width] = image
        image = canvas
    boxes = (boxes + np.tile(offset, 2)) / expand
    crop = draw_crop(boxes, rng)
    height, width = image.shape[:2]
    xmin, ymin, xmax, ymax = np.rint(crop * (width, height, width, height)).astype(int)
    image = image[ymin : max(ymax, ymin + 1), xmin : max(xmax, xmin + 1)]
    image = cv2.resize(image, (side, side), interpolation=KERNELS[rng.integers(len(KERNELS))])
    return finish(image, boxes, crop, rng)


def fused(image: np.ndarray, boxes: np.ndarray, side: int, rng: np.random.Generator):
    """Augments one picture by one warp; distorts the result. As `as_in_caffe` otherwise."""
    height, width = image.shape[:2]
    expand, offset = draw_expansion(rng)
    boxes = (boxes + np.tile(offset, 2)) / expand
    crop = draw_crop(boxes, rng)
    window = (crop * expand - np.tile(offset, 2)) * (width, height, width, height)
    scale = (window[2:] - window[:2]) / side
    matrix = np.array([[scale[0], 0, window[0]], [0, scale[1], window[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    image = cv2.warpAffine(
        image, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=MEAN
    )
    return finish(distort(image, rng), boxes, crop, rng)


def finish(image: np.ndarray, boxes: np.ndarray, crop: np.ndarray, rng: np.random.Generator):
    """Mirrors, moves the boxes, subtracts the mean."""
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    kept = np.all((center >= crop[:2]) & (center <= crop[2:]), axis=1)
    moved = (boxes - np.tile(crop[:2], 2)) / np.tile(crop[2:] - crop[:2], 2)
    moved = np.clip(moved, 0, 1)
    if rng.random() < 0.5:
        image = cv2.flip(image, 1)
        moved = np.stack([1 - moved[:, 2], moved[:, 1], 1 - moved[:, 0], moved[:, 3]], axis=1)
    return image.astype(np.float32) - np.float32(MEAN), moved.astype(np.float32), kept


def distort(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast, saturation, hue, each by a coin, in uint8 and by tables."""
    levels = np.arange(256, dtype=np.float32)
    if rng.random() < 0.5:
        levels = levels + rng.uniform(-32, 32)
    contrast = rng.uniform(0.5, 1.5) if rng.random() < 0.5 else 1.0
    last = rng.random() < 0.5
    if not last:
        levels = levels * contrast
    image = cv2.LUT(image, np.clip(levels, 0, 255).astype(np.uint8))
    coins = rng.random(2) < 0.5
    if coins.any():
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
        table = np.tile(np.arange(256, dtype=np.float32)[:, None], (1, 3))
        if coins[0]:
            table[:, 1] = np.clip(table[:, 1] * rng.uniform(0.5, 1.5), 0, 255)
        if coins[1]:
            table[:, 0] = (table[:, 0] + rng.uniform(-36, 36) * 256 / 360) % 256
        hsv = cv2.LUT(hsv, table.astype(np.uint8)[:, None])
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)
    return cv2.convertScaleAbs(image, alpha=contrast) if last and contrast != 1 else image


def draw_expansion(rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """How many times larger the canvas is, and where the picture lies, in its own sides."""
    if rng.random() < 0.5:
        return 1.0, np.zeros(2)
    expand = rng.uniform(1, 4)
    return expand, rng.uniform(0, expand - 1, 2)


def draw_crop(boxes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One of the crops that the seven samplers offer; a sampler's trials are judged at once."""
    offered = [np.array([0.0, 0, 1, 1]), draw_crops(1, rng)[0]]
    for least in MIN_IOUS:
        crops = draw_crops(TRIALS, rng)
        passed = np.flatnonzero((pairwise_iou(crops, boxes) >= least).any(axis=1))
        if len(passed):
            offered.append(crops[passed[0]])
    return offered[rng.integers(len(offered))]


def draw_crops(count: int, rng: np.random.Generator) -> np.ndarray:
    """Crops of random side, aspect and place."""
    side, aspect = rng.uniform(0.3, 1, count), rng.uniform(0.5, 2, count)
    aspect = np.clip(aspect, side**2, side**-2)
    extent = np.stack([side * np.sqrt(aspect), side / np.sqrt(aspect)], axis=1)
    start = rng.random((count, 2)) * (1 - extent)
    return np.concatenate([start, start + extent], axis=1)


def pairwise_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of every box of `a` with every box of `b`."""
    low, high = (
        np.maximum(a[:, None, :2], b[None, :, :2]),
        np.minimum(a[:, None, 2:], b[None, :, 2:]),
    )
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (a, b)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)
