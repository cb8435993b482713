"""Draws the pictures of the embedded dataset: textured shapes over textured backgrounds."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, UInt8

CLASS_NAMES = ("circle", "square", "triangle", "star", "ring", "cross")

SIDES = (112, 160)  # of the pictures, pixels
SHAPE_SIZES = (20.0, 110.0)  # diameters before rotation, pixels, drawn log-uniformly
MAX_SHAPES = 7
EMPTY_PROBABILITY = 0.05
MIN_VISIBLE = 0.25  # of its area; a shape hidden more than this is never annotated
DIFFICULT_BELOW = 0.40
MIN_CONTRAST = 90.0  # mean colour of a shape against what lies behind it, largest channel
PLACEMENT_TRIALS = 12
_SHIFT = 4  # fractional bits of OpenCV's sub-pixel drawing
_ARC = np.linspace(0.0, 2 * np.pi, 64, endpoint=False)


@dataclass(frozen=True)
class ShapesPicture:
    """A drawn picture with its objects.

    Attributes:
      image: The picture, RGB.
      boxes: Extent of each whole shape, clipped to the picture, [xmin, ymin, xmax, ymax], pixels.
      labels: 1-based index into `CLASS_NAMES`.
      visible: Part (0..1) of each shape's area that is inside the picture and not covered.
      owner: For each pixel 0 or 1 + the index of the shape seen there.
    """

    image: UInt8[np.ndarray, "H W 3"]
    boxes: Float32[np.ndarray, "n 4"]
    labels: Int32[np.ndarray, " n"]
    visible: Float64[np.ndarray, " n"]
    owner: UInt8[np.ndarray, "H W"]


def _regular(angles: np.ndarray, radii: np.ndarray | float) -> Float64[np.ndarray, "k 2"]:
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1) * np.reshape(radii, (-1, 1))


def _star(rng: np.random.Generator) -> Float64[np.ndarray, "10 2"]:
    angles = np.arange(10) * np.pi / 5
    return _regular(angles, np.where(np.arange(10) % 2 == 0, 1.0, rng.uniform(0.38, 0.5)))


def _cross(rng: np.random.Generator) -> Float64[np.ndarray, "12 2"]:
    arm = rng.uniform(0.24, 0.38)
    quarter = np.array([[1.0, -arm], [1.0, arm], [arm, arm]])
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])


def outlines(label: int, rng: np.random.Generator) -> list[Float64[np.ndarray, "_ 2"]]:
    """Outlines of a shape within [-1, 1]; the second one, where there is one, is a hole.

    Args:
      label: 1-based index into `CLASS_NAMES`.
      rng: For what varies within a class.

    Returns:
      One or two polygons, unrotated.
    """
    match CLASS_NAMES[label - 1]:
        case "circle":
            return [_regular(_ARC, 1.0)]
        case "square":
            return [_regular(np.pi / 4 + np.arange(4) * np.pi / 2, 1.0)]
        case "triangle":
            return [_regular(np.arange(3) * 2 * np.pi / 3, 1.0)]
        case "star":
            return [_star(rng)]
        case "ring":
            return [_regular(_ARC, 1.0), _regular(_ARC, rng.uniform(0.45, 0.68))]
        case "cross":
            return [_cross(rng)]
        case other:
            raise ValueError(f"no outline for class {other!r}")


def _silhouette(label: int, diameter: float, rng: np.random.Generator) -> Bool[np.ndarray, "h w"]:
    """The shape's pixels at a random rotation and slight stretch, in the tightest array."""
    turn, lean = rng.uniform(0, 2 * np.pi, 2)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    direction = np.array([np.cos(lean), np.sin(lean)])
    stretch = np.eye(2) - rng.uniform(0.0, 0.2) * np.outer(direction, direction)
    side = int(np.ceil(diameter)) + 4
    mask = np.zeros((side, side), np.uint8)
    for polygon, value in zip(outlines(label, rng), (1, 0), strict=False):
        points = polygon @ rotation @ stretch * (diameter / 2) + (side - 1) / 2
        fixed = np.round(points * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(mask, [fixed], value, shift=_SHIFT)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(bool)


def _texture(
    size: tuple[int, int], colour: Float32[np.ndarray, " 3"], rng: np.random.Generator
) -> Float32[np.ndarray, "h w 3"]:
    """A gradient, stripes, checks or clouds around a colour, with noise on top (0..255)."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    along = np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y
    across = np.float32(-np.sin(angle)) * x + np.float32(np.cos(angle)) * y
    period = np.float32(rng.uniform(5.0, 18.0))
    match rng.integers(5):
        case 0:
            pattern = 2 * (along - along.min()) / max(float(np.ptp(along)), 1.0) - 1
        case 1:
            pattern = np.sin(along * (2 * np.pi / period))
        case 2:
            pattern = np.sign(np.sin(along * (np.pi / period)) * np.sin(across * (np.pi / period)))
        case 3:
            coarse = rng.uniform(-1, 1, (rng.integers(2, 7), rng.integers(2, 7)))
            pattern = cv2.resize(coarse.astype(np.float32), (width, height))
        case _:
            pattern = np.zeros((height, width), np.float32)
    tint = rng.uniform(-28, 28, 3).astype(np.float32)
    noise = rng.standard_normal((height, width, 3), dtype=np.float32)
    noise *= np.float32(rng.uniform(3.0, 16.0))
    return colour + pattern.astype(np.float32)[..., None] * tint + noise


def _clutter(image: Float32[np.ndarray, "H W 3"], rng: np.random.Generator) -> None:
    """Draws lines and curves that belong to no class, in place."""
    height, width = image.shape[:2]
    for _ in range(rng.integers(2, 8)):
        colour = rng.uniform(0, 255, 3).tolist()
        centre = rng.uniform((0, 0), (width, height))
        match rng.integers(3):
            case 0:
                points = centre + rng.uniform(-90, 90, (2, 2))
            case 1:
                points = centre + np.cumsum(rng.uniform(-22, 22, (5, 2)), axis=0)
            case _:
                start, extent = rng.uniform(0, 6.28), rng.uniform(0.7, 2.2)
                radius = rng.uniform(8, 60)
                points = centre + _regular(start + extent * np.linspace(0, 1, 12), radius)
        fixed = np.round(points * (1 << _SHIFT)).astype(np.int32)
        cv2.polylines(image, [fixed], False, colour, int(rng.integers(1, 4)), shift=_SHIFT)


def _contrasting_colour(
    behind: Float32[np.ndarray, " 3"], rng: np.random.Generator
) -> Float32[np.ndarray, " 3"]:
    """A random colour that does not vanish against the mean colour behind it."""
    while True:
        colour = rng.uniform(20, 235, 3).astype(np.float32)
        if np.abs(colour - behind).max() >= MIN_CONTRAST:
            return colour


def _placement(
    silhouette: Bool[np.ndarray, "h w"], size: tuple[int, int], rng: np.random.Generator
) -> tuple[slice, slice, Bool[np.ndarray, "rows columns"]]:
    """A random place, its centre inside the picture: rows, columns, and the part inside."""
    (height, width), (rows, columns) = size, silhouette.shape
    top = int(rng.integers(0, height)) - rows // 2
    left = int(rng.integers(0, width)) - columns // 2
    bottom, right = min(top + rows, height), min(left + columns, width)
    inside = silhouette[max(-top, 0) : bottom - top, max(-left, 0) : right - left]
    return slice(max(top, 0), bottom), slice(max(left, 0), right), inside


def draw_picture(rng: np.random.Generator) -> ShapesPicture:
    """Draws one picture: background, clutter, then 0 to 7 shapes, later ones over earlier ones.

    A shape that would leave itself or another less than `MIN_VISIBLE` to be seen is placed
    again, and after a few trials left out, so that every annotated object can be seen.

    Args:
      rng: All the chance there is: the same generator state draws the same picture.

    Returns:
      The picture and its objects. Colours and textures say nothing about the class.
    """
    height, width = (int(side) for side in rng.integers(SIDES[0], SIDES[1] + 1, 2))
    image = _texture((height, width), rng.uniform(30, 225, 3).astype(np.float32), rng)
    _clutter(image, rng)
    owner = np.zeros((height, width), np.uint8)
    boxes: list[tuple[int, int, int, int]] = []
    labels: list[int] = []
    areas: list[int] = []
    seen = np.zeros(0)
    count = 0 if rng.random() < EMPTY_PROBABILITY else int(rng.integers(1, MAX_SHAPES + 1))
    for _ in range(count):
        label = int(rng.integers(1, len(CLASS_NAMES) + 1))
        diameter = float(np.exp(rng.uniform(*np.log(SHAPE_SIZES))))
        silhouette = _silhouette(label, diameter, rng)
        area = int(silhouette.sum())
        for _ in range(PLACEMENT_TRIALS):
            rows, columns, inside = _placement(silhouette, (height, width), rng)
            hidden = np.bincount(owner[rows, columns][inside], minlength=len(labels) + 1)[1:]
            left = np.append(seen - hidden, inside.sum())
            if np.all(left >= MIN_VISIBLE * np.append(areas, area)):
                break
        else:
            continue
        seen = left
        labels.append(label)
        areas.append(area)
        boxes.append((columns.start, rows.start, columns.stop, rows.stop))
        owner[rows, columns][inside] = len(labels)
        behind = image[rows, columns][inside].mean(0)
        fill = _texture(inside.shape, _contrasting_colour(behind, rng), rng)
        image[rows, columns][inside] = fill[inside]
    image = cv2.GaussianBlur(image, (3, 3), float(rng.uniform(0.4, 1.0)))
    return ShapesPicture(
        image=np.clip(np.round(image), 0, 255).astype(np.uint8),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array(labels, np.int32),
        visible=seen / np.maximum(np.array(areas, np.float64), 1.0),
        owner=owner,
    )
