"""How well priors fit ground truth, and a search for sizes and ratios that fit it better.

NumPy only. A prior can be trained on an object as a positive where their IoU reaches the threshold
of matching; an object that no prior reaches has the one prior that it forces, and is learnt badly.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Float64

from ssd_jax.priors import PriorSpec, cell_shapes, prior_boxes

LEAST_SIDE = 2.0
"""Pixels of the smallest size that the search tries."""

_LEAST_GROWTH = 1.05  # from a level's size to the next, and from a square to a ratio
_FACTORS = (1.3, 1.1, 1.03)
_SHARPNESS = 0.2  # worth of a mean IoU of 1, beside a recall of 1
_SWEEPS = 30
_SEARCHED = 3000  # boxes that a search looks at


def best_overlaps(boxes: Float[np.ndarray, "n 4"], spec: PriorSpec) -> Float64[np.ndarray, " n"]:
    """The IoU of every box with the prior that overlaps it most.

    Exact without a table of all pairs: of the equal priors of a level, the one whose centre is
    nearest to the box's along both axes overlaps it most.

    Args:
        boxes: corner form, relative to the image; each has an area.
        spec: the priors.
    """
    sides, distances = _sides(boxes), _distances(boxes, spec)
    of_levels = [
        _level_overlaps(sides, distances[level], _shapes(spec, level))
        for level in range(len(spec.feature_maps))
    ]
    return np.max(of_levels, axis=0)


def propose(
    boxes: Float[np.ndarray, "n 4"], spec: PriorSpec, *, threshold: float = 0.5
) -> PriorSpec:
    """Priors of the same number and grid, with sizes and aspect ratios that fit the boxes better.

    Coordinate ascent from two starts, the sizes of `spec` and quantiles of the boxes' sizes: one
    size or ratio is scaled at a time, and what raises the objective is kept. The objective is the
    share of boxes with an IoU of at least `threshold`, and a little of their mean IoU. Levels that
    have a ratio in common keep it in common.

    Args:
        boxes: corner form, relative to the image; each has an area. Of more than 3000 as many are
            looked at, evenly spread.
        spec: where to start from.
        threshold: least IoU of a fit.

    Returns:
        The best spec found: sizes in tenths of a pixel, ratios in hundredths.
    """
    spread = np.linspace(0, len(boxes) - 1, min(len(boxes), _SEARCHED))
    boxes = boxes[spread.astype(np.int64)]
    starts = [spec, _with_sizes(spec, _quantile_sizes(boxes, spec))]
    found = [_rounded(_ascend(_Search(boxes, start, threshold))) for start in starts]
    return max([spec, *found], key=lambda candidate: _Search(boxes, candidate, threshold).score())


class _Search:
    """A spec with each level's best IoUs, so that a change costs only the levels it touches."""

    def __init__(self, boxes: Float[np.ndarray, "n 4"], spec: PriorSpec, threshold: float) -> None:
        self._sides, self._distances = _sides(boxes), _distances(boxes, spec)
        self._threshold = threshold
        self.spec = spec
        self._levels = {level: self._overlaps(spec, level) for level in self._range()}

    def _range(self) -> range:
        return range(len(self.spec.feature_maps))

    def _overlaps(self, spec: PriorSpec, level: int) -> Float64[np.ndarray, " n"]:
        return _level_overlaps(self._sides, self._distances[level], _shapes(spec, level))

    def score(self) -> float:
        """The objective."""
        return self._score(self._levels)

    def _score(self, levels: dict[int, Float64[np.ndarray, " n"]]) -> float:
        best = np.max(list(levels.values()), axis=0)
        return float(np.mean(best >= self._threshold) + _SHARPNESS * np.mean(best))

    def take_if_better(self, spec: PriorSpec) -> bool:
        """Moves to another spec if its objective is higher."""
        changed = [level for level in self._range() if _entry(spec, level) != self._entry(level)]
        levels = self._levels | {level: self._overlaps(spec, level) for level in changed}
        if self._score(levels) <= self.score() + 1e-6:
            return False
        self.spec, self._levels = spec, levels
        return True

    def _entry(self, level: int) -> tuple:
        return _entry(self.spec, level)


def _entry(spec: PriorSpec, level: int) -> tuple:
    """What the shapes of a level follow from."""
    return spec.min_sizes[level], spec.max_sizes[level], spec.aspect_ratios[level]


def _ascend(search: _Search) -> PriorSpec:
    """The spec after no change by any of the factors helps any more."""
    for factor in _FACTORS:
        for _ in range(_SWEEPS):
            neighbours = range(len(_sizes(search.spec)) + len(_ratios(search.spec)))
            moved = [
                search.take_if_better(changed)
                for number in neighbours
                for scale in (factor, 1 / factor)
                if (changed := _changed(search.spec, number, scale)) is not None
            ]
            if not any(moved):
                break
    return search.spec


def _changed(spec: PriorSpec, number: int, scale: float) -> PriorSpec | None:
    """The spec with one size, or else one ratio, scaled; None if that is out of bounds."""
    sizes = list(_sizes(spec))
    if number < len(sizes):
        sizes[number] *= scale
        growth = np.divide(sizes[1:], sizes[:-1])
        if sizes[0] < LEAST_SIDE or sizes[-2] > max(spec.image_size) or min(growth) < _LEAST_GROWTH:
            return None
        return _with_sizes(spec, sizes)
    old = _ratios(spec)[number - len(sizes)]
    new = old * scale
    # As they will be rounded: a level has no ratio twice.
    others = {round(max(ratio, 1 / ratio), 2) for ratio in _ratios(spec) if ratio != old}
    if new < _LEAST_GROWTH or round(new, 2) in others:
        return None
    ratios = tuple(
        tuple(new if ratio == old else ratio for ratio in of_level)
        for of_level in spec.aspect_ratios
    )
    return dataclasses.replace(spec, aspect_ratios=ratios)


def _sizes(spec: PriorSpec) -> tuple[float, ...]:
    return (*spec.min_sizes, spec.max_sizes[-1])


def _ratios(spec: PriorSpec) -> list[float]:
    return sorted({ratio for of_level in spec.aspect_ratios for ratio in of_level})


def _with_sizes(spec: PriorSpec, sizes: list[float]) -> PriorSpec:
    return dataclasses.replace(spec, min_sizes=tuple(sizes[:-1]), max_sizes=tuple(sizes[1:]))


def _rounded(spec: PriorSpec) -> PriorSpec:
    ratios = tuple(
        tuple(sorted(round(ratio, 2) for ratio in of_level)) for of_level in spec.aspect_ratios
    )
    sizes = [round(float(size), 1) for size in _sizes(spec)]
    return dataclasses.replace(_with_sizes(spec, sizes), aspect_ratios=ratios)


def _quantile_sizes(boxes: Float[np.ndarray, "n 4"], spec: PriorSpec) -> list[float]:
    """Sizes at even quantiles of the boxes' own, pixels, pushed apart where they lie close."""
    height, width = spec.image_size
    own = np.sqrt(np.prod(_sides(boxes), axis=1) * height * width)
    count = len(spec.min_sizes) + 1
    sizes = [max(LEAST_SIDE, float(q)) for q in np.quantile(own, (np.arange(count) + 0.5) / count)]
    for i in range(1, count):
        sizes[i] = max(sizes[i], sizes[i - 1] * 1.1)
    return sizes


def _shapes(spec: PriorSpec, level: int) -> Float64[np.ndarray, "A 2"]:
    """(width, height) of the priors of a level's cells, relative to the image."""
    height, width = spec.image_size
    shapes = cell_shapes(
        spec.min_sizes[level], spec.max_sizes[level], spec.aspect_ratios[level]
    ) / (width, height)
    return shapes if spec.clip == "none" else np.minimum(shapes, 1.0)


def _sides(boxes: Float[np.ndarray, "n 4"]) -> Float64[np.ndarray, "n 2"]:
    return (boxes[:, 2:] - boxes[:, :2]).astype(np.float64)


def _distances(
    boxes: Float[np.ndarray, "n 4"], spec: PriorSpec
) -> list[Float64[np.ndarray, "n 2"]]:
    """For every level, how far the nearest prior's centre is from each box's, along each axis."""
    centers = (boxes[:, :2] + boxes[:, 2:]).astype(np.float64) / 2
    priors = np.split(
        prior_boxes(spec).astype(np.float64),
        np.cumsum(
            [
                rows * columns * count
                for (rows, columns), count in zip(
                    spec.feature_maps, spec.boxes_per_cell, strict=True
                )
            ]
        )[:-1],
    )
    return [
        np.stack(
            [_to_nearest(centers[:, axis], np.unique(of_level[:, axis])) for axis in (0, 1)], axis=1
        )
        for of_level in priors
    ]


def _to_nearest(
    values: Float64[np.ndarray, " n"], grid: Float64[np.ndarray, " g"]
) -> Float64[np.ndarray, " n"]:
    """Distance from each value to the nearest of a rising grid."""
    nearest = grid[np.searchsorted((grid[1:] + grid[:-1]) / 2, values)]
    return np.abs(values - nearest)


def _level_overlaps(
    sides: Float64[np.ndarray, "n 2"],
    distances: Float64[np.ndarray, "n 2"],
    shapes: Float64[np.ndarray, "A 2"],
) -> Float64[np.ndarray, " n"]:
    """The best IoU of each box with boxes of these shapes, so far away."""
    reach = (sides[:, None] + shapes[None]) / 2 - distances[:, None]
    shared = np.minimum(np.minimum(sides[:, None], shapes[None]), np.maximum(reach, 0.0))
    intersection = shared[..., 0] * shared[..., 1]
    union = np.prod(sides, axis=1)[:, None] + np.prod(shapes, axis=1)[None] - intersection
    return np.max(intersection / union, axis=1)
