"""Priors (default boxes): where they lie, at the paper's input sizes and any other (section 2.2).

NumPy only: priors are constants of a network, computed once and closed over.
"""

import dataclasses
import math
import operator
from collections.abc import Sequence
from typing import Literal, SupportsIndex

import numpy as np
from jaxtyping import Float32

ClipMode = Literal["none", "center_form", "size"]
Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class PriorSpec:
    """Everything that determines a network's priors, one entry a level; hashable.

    A level with min size s, max size S and aspect ratios a, .. has these boxes in every cell:
    s x s; sqrt(s S) x sqrt(s S); and for each a, s sqrt(a) x s / sqrt(a) and the same turned.

    Attributes:
        image_size: (height, width) of the network's input in pixels.
        feature_maps: (rows, columns) of every level.
        steps: (vertical, horizontal) distance of neighbouring cells in pixels.
        min_sizes: s of every level in pixels.
        max_sizes: S of every level in pixels.
        aspect_ratios: the ratios a of every level, without 1 and without reciprocals.
        clip: 'none' (Caffe); 'center_form' clips cx, cy, w, h to [0, 1] (ssd.pytorch);
            'size' clips w and h only (torchvision).
        variances: what offsets of centres and of log sizes are divided by. `match`, `detect`,
            `encode` and `decode` take boxes and do not see them: give each
            `variances=spec.variances`.

    Raises:
        ValueError: there is no level; lengths disagree; a size, step, ratio or variance is not
            positive; a max size is not above its min; a level has the ratio 1, one twice, or one
            and its reciprocal; or `clip` is unknown.
    """

    image_size: Size
    feature_maps: tuple[Size, ...]
    steps: tuple[tuple[float, float], ...]
    min_sizes: tuple[float, ...]
    max_sizes: tuple[float, ...]
    aspect_ratios: tuple[tuple[float, ...], ...]
    clip: ClipMode = "none"
    variances: tuple[float, float] = (0.1, 0.2)

    def __post_init__(self) -> None:
        """Check the fields against each other."""
        levels = len(self.feature_maps)
        if levels == 0:
            raise ValueError("PriorSpec needs at least one level, feature_maps is empty")
        for name in ("steps", "min_sizes", "max_sizes", "aspect_ratios"):
            if (met := len(getattr(self, name))) != levels:
                raise ValueError(
                    f"PriorSpec.{name} has {met} entries for {levels} feature maps: "
                    f"{getattr(self, name)}"
                )
        for name in ("image_size", "feature_maps", "steps", "aspect_ratios", "variances"):
            self._check_positive(name, np.concatenate([np.ravel(v) for v in getattr(self, name)]))
        self._check_positive("min_sizes", np.asarray(self.min_sizes))
        for level, (smaller, larger) in enumerate(zip(self.min_sizes, self.max_sizes, strict=True)):
            if not larger > smaller:  # NaN neither
                raise ValueError(
                    f"PriorSpec: level {level} has max size {larger}, not above its min {smaller}"
                )
        for ratios in self.aspect_ratios:
            upright = [round(max(ratio, 1 / ratio), 6) for ratio in ratios]
            if 1 in upright or len(set(upright)) < len(upright):
                raise ValueError(
                    f"PriorSpec.aspect_ratios has {tuple(ratios)}: leave out 1, which every cell "
                    "has in two sizes, ratios that come twice, and the reciprocals of others, for "
                    "each stands for both"
                )
        if self.clip not in ("none", "center_form", "size"):
            raise ValueError(
                f"PriorSpec.clip is {self.clip!r}, not 'none', 'center_form' or 'size'"
            )

    def _check_positive(self, name: str, values: np.ndarray) -> None:
        if not np.all(values > 0):
            raise ValueError(f"PriorSpec.{name} must be positive, got {getattr(self, name)}")

    @property
    def boxes_per_cell(self) -> tuple[int, ...]:
        """Number of priors in one cell of every level."""
        return tuple(2 + 2 * len(ratios) for ratios in self.aspect_ratios)

    @property
    def num_priors(self) -> int:
        """Number of priors of all levels together."""
        per_cell = zip(self.feature_maps, self.boxes_per_cell, strict=True)
        return sum(rows * columns * boxes for (rows, columns), boxes in per_cell)

    @classmethod
    def for_image_size(cls, size: SupportsIndex | Sequence[SupportsIndex]) -> "PriorSpec":
        """The spec for an input of `size` pixels, (height, width) or the side of a square.

        300 and 512 give the paper's (VOC300, VOC512). Any other size follows their rule: one
        level for each feature map of the network, sizes as evenly spaced percents of the shorter
        side, aspect ratios (2,) for the first and the last two levels and (2, 3) between.

        Raises:
            ValueError: the input is too small for the network.
        """
        sides = size if isinstance(size, Sequence) else (size, size)
        height, width = map(operator.index, sides)
        image_size = height, width
        if image_size in _PAPER:
            return _PAPER[image_size]
        maps = feature_map_sizes(image_size)
        percents = _size_percents(len(maps))
        sizes = tuple(min(image_size) * percent / 100 for percent in percents)
        return cls(
            image_size=image_size,
            feature_maps=maps,
            steps=tuple((height / rows, width / columns) for rows, columns in maps),
            min_sizes=sizes[:-1],
            max_sizes=sizes[1:],
            aspect_ratios=_aspect_ratios(len(maps)),
        )


def _size_percents(levels: int) -> tuple[int, ...]:
    """The paper's sizes as percents of the input (equation 4), one more than there are levels."""
    first, second = (10, 20) if levels <= 6 else (7, 15)
    step = (90 - second) // max(levels - 2, 1)
    return (first, *(second + step * i for i in range(levels)))


def _aspect_ratios(levels: int) -> tuple[tuple[float, ...], ...]:
    few, many = (2.0,), (2.0, 3.0)
    return tuple(many if 0 < level < levels - 2 else few for level in range(levels))


@dataclasses.dataclass(frozen=True)
class ExtraConvolution:
    """The second convolution of an extra level; every field is (vertical, horizontal)."""

    kernel: Size
    stride: Size
    padding: Size


def _pooled(length: int) -> Size:
    """Lengths of the conv4_3 and fc7 maps along an input axis: pools 1, 2, 4 floor, 3 ceils."""
    conv4_3 = math.ceil(length // 2 // 2 / 2)
    return conv4_3, conv4_3 // 2


def _extra_axis(length: int) -> tuple[int, int, int]:
    """(kernel, stride, padding) that shrinks an axis on its way to 1; the paper's at 300 and 512.

    Lengths 5 -> 3 -> 1 go unpadded, as in SSD300; 2 -> 1 takes SSD512's 4-tap kernel.
    """
    if length == 1:
        return 3, 1, 1
    if length == 2:
        return 4, 1, 1
    if length in (3, 5):
        return 3, 1, 0
    return 3, 2, 1


def _layout(image_size: Size) -> tuple[tuple[Size, ...], tuple[ExtraConvolution, ...]]:
    rows, columns = (_pooled(length) for length in image_size)
    maps = list(zip(rows, columns, strict=True))
    if min(maps[-1]) < 1:
        raise ValueError(
            f"image size {image_size} (height, width) is too small for SSD: "
            "both sides need at least 12 pixels"
        )
    convolutions = []
    while maps[-1] != (1, 1):
        vertical, horizontal = map(_extra_axis, maps[-1])
        maps.append(
            (_convolved(maps[-1][0], *vertical), _convolved(maps[-1][1], *horizontal)),
        )
        convolutions.append(ExtraConvolution(*zip(vertical, horizontal, strict=True)))
    return tuple(maps), tuple(convolutions)


def _convolved(length: int, kernel: int, stride: int, padding: int) -> int:
    return (length + 2 * padding - kernel) // stride + 1


def feature_map_sizes(image_size: Size) -> tuple[Size, ...]:
    """(rows, columns) of the network's feature maps, conv4_3 first, down to 1 x 1.

    Args:
        image_size: (height, width) of the input in pixels.

    Raises:
        ValueError: the input is too small to leave a cell at fc7.
    """
    return _layout(image_size)[0]


def extra_convolutions(image_size: Size) -> tuple[ExtraConvolution, ...]:
    """The spatial convolutions after fc7, one for each further level.

    Args:
        image_size: (height, width) of the input in pixels.

    Raises:
        ValueError: the input is too small to leave a cell at fc7.
    """
    return _layout(image_size)[1]


def prior_boxes(spec: PriorSpec) -> Float32[np.ndarray, "P 4"]:
    """All priors in centre form (cx, cy, w, h), relative to the image (SSD, section 2.2).

    Order: level, row, column, then within a cell as in PriorSpec. The network's outputs have the
    same order. Computed in float64 and rounded once.
    """
    height, width = spec.image_size
    levels = []
    for level, (rows, columns) in enumerate(spec.feature_maps):
        step_y, step_x = spec.steps[level]
        shapes = cell_shapes(
            spec.min_sizes[level], spec.max_sizes[level], spec.aspect_ratios[level]
        )
        boxes = np.empty((rows, columns, len(shapes), 4))
        boxes[..., 0] = ((np.arange(columns) + 0.5) * step_x / width)[None, :, None]
        boxes[..., 1] = ((np.arange(rows) + 0.5) * step_y / height)[:, None, None]
        boxes[..., 2:] = shapes / (width, height)
        levels.append(boxes.reshape(-1, 4))
    priors = np.concatenate(levels)
    if spec.clip == "center_form":
        priors = priors.clip(0, 1)
    elif spec.clip == "size":
        priors[:, 2:] = priors[:, 2:].clip(0, 1)
    return priors.astype(np.float32)


def cell_shapes(min_size: float, max_size: float, ratios: tuple[float, ...]) -> np.ndarray:
    """(width, height) in pixels of the priors of one cell, [A, 2]."""
    between = math.sqrt(min_size * max_size)
    shapes = [(min_size, min_size), (between, between)]
    for ratio in ratios:
        long, short = min_size * math.sqrt(ratio), min_size / math.sqrt(ratio)
        shapes += [(long, short), (short, long)]
    return np.array(shapes)


def _paper(side: int, steps: tuple[float, ...], sizes: tuple[float, ...]) -> PriorSpec:
    """A square preset: what differs between the paper's inputs and data sets is in the table."""
    return PriorSpec(
        image_size=(side, side),
        feature_maps=feature_map_sizes((side, side)),
        steps=tuple((step, step) for step in steps),
        min_sizes=sizes[:-1],
        max_sizes=sizes[1:],
        aspect_ratios=_aspect_ratios(len(steps)),
    )


_STEPS_300 = (8.0, 16.0, 32.0, 64.0, 100.0, 300.0)
_STEPS_512 = (8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)

VOC300 = _paper(300, _STEPS_300, (30.0, 60.0, 111.0, 162.0, 213.0, 264.0, 315.0))
COCO300 = _paper(300, _STEPS_300, (21.0, 45.0, 99.0, 153.0, 207.0, 261.0, 315.0))
VOC512 = _paper(512, _STEPS_512, (35.84, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8, 537.6))
COCO512 = _paper(512, _STEPS_512, (20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72))

PRESETS = {
    ("voc", 300): VOC300,
    ("voc", 512): VOC512,
    ("coco", 300): COCO300,
    ("coco", 512): COCO512,
}
"""The paper's, by data set and side of the input."""

_PAPER = {spec.image_size: spec for spec in (VOC300, VOC512)}
