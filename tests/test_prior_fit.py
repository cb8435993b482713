import dataclasses

import numpy as np
import pytest

from ssd_jax.prior_fit import best_overlaps, propose
from ssd_jax.priors import VOC300, VOC512, PriorSpec, prior_boxes
from tests.reference import boxes as reference


def random_boxes(count: int, seed: int = 0, *, least: float = 0.01, most: float = 1.0):
    rng = np.random.default_rng(seed)
    sides = np.exp(rng.uniform(np.log(least), np.log(most), (count, 2)))
    low = rng.uniform(0, 1 - sides)
    return np.concatenate([low, low + sides], axis=1)


@pytest.mark.parametrize("clip", ["none", "center_form", "size"])
@pytest.mark.parametrize(
    "spec",
    [VOC300, VOC512, PriorSpec.for_image_size((96, 160))],
    ids=["300", "512", "96x160"],
)
def test_the_best_overlap_is_the_maximum_over_all_priors(spec, clip):
    spec = dataclasses.replace(spec, clip=clip)
    boxes = random_boxes(40)
    corners = np.array([reference.corners(prior) for prior in prior_boxes(spec).tolist()])
    low = np.maximum(boxes[:, None, :2], corners[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], corners[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=-1)
    areas = [np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (boxes, corners)]
    expected = np.max(shared / (areas[0][:, None] + areas[1][None] - shared), axis=1)
    np.testing.assert_allclose(best_overlaps(boxes, spec), expected, atol=1e-6)


def test_a_prior_itself_fits_wholly():
    inside = prior_boxes(VOC300)[2000:2100]
    boxes = np.concatenate(
        [inside[:, :2] - inside[:, 2:] / 2, inside[:, :2] + inside[:, 2:] / 2], 1
    )
    np.testing.assert_allclose(best_overlaps(boxes, VOC300), 1, atol=1e-5)


def recall(boxes, spec) -> float:
    return float(np.mean(best_overlaps(boxes, spec) >= 0.5))


def test_small_objects_get_smaller_priors():
    # Squares of 9 to 18 pixels at 300: the paper's smallest prior, 30 pixels, has IoU .36 at most.
    rng = np.random.default_rng(1)
    side = rng.uniform(9, 18, (500, 1)) / 300
    low = rng.uniform(0, 1 - side, (500, 2))
    boxes = np.concatenate([low, low + side], axis=1)
    assert recall(boxes, VOC300) == 0
    better = propose(boxes, VOC300)
    assert recall(boxes, better) > 0.75  # what is left lies between the cells, 8 pixels apart
    assert better.num_priors == VOC300.num_priors
    assert better.feature_maps == VOC300.feature_maps
    assert all(size == round(size, 1) for size in better.min_sizes)


def test_long_objects_get_longer_priors():
    # Five times as wide as high: a ratio of 3 has IoU .6 at most, and only at a size that fits.
    rng = np.random.default_rng(2)
    area = rng.uniform(60, 90, 500)
    sides = np.stack([area * 5**0.5, area / 5**0.5], axis=1) / 300
    low = rng.uniform(0, 1 - sides)
    boxes = np.concatenate([low, low + sides], axis=1)
    better = propose(boxes, VOC300)
    assert max(ratio for of_level in better.aspect_ratios for ratio in of_level) > 3
    assert recall(boxes, better) > recall(boxes, VOC300) + 0.1


def test_what_fits_already_is_not_made_worse():
    boxes = random_boxes(400, least=0.1)
    assert recall(boxes, propose(boxes, VOC300)) >= recall(boxes, VOC300)


def test_ratios_that_want_to_be_one_stay_apart():
    """All objects are 2.5 times as wide as high: of the ratios 2 and 3 both would be that."""
    rng = np.random.default_rng(2)
    height = rng.uniform(0.05, 0.35, (300, 1))
    sides = np.concatenate([2.5 * height, height], axis=1)
    low = rng.uniform(0, 1 - sides)
    better = propose(np.concatenate([low, low + sides], axis=1), VOC300)
    for ratios in better.aspect_ratios:
        assert len(set(ratios)) == len(ratios)
