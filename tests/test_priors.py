import dataclasses
import math

import numpy as np
import pytest

from ssd_jax.priors import (
    COCO300,
    COCO512,
    VOC300,
    VOC512,
    ExtraConvolution,
    PriorSpec,
    extra_convolutions,
    feature_map_sizes,
    prior_boxes,
)
from tests.reference import priors as reference

PRESETS = {"VOC300": VOC300, "COCO300": COCO300, "VOC512": VOC512, "COCO512": COCO512}
OTHER_SIZES = {"128": 128, "300 x 512": (300, 512), "64 x 20": (64, 20), "12": 12}


@pytest.mark.parametrize(
    ("spec", "num_priors"), [(VOC300, 8732), (COCO300, 8732), (VOC512, 24564), (COCO512, 24564)]
)
def test_number_of_priors_is_the_papers(spec, num_priors):
    assert spec.num_priors == num_priors
    assert prior_boxes(spec).shape == (num_priors, 4)


def test_first_cell_of_voc300_by_hand():
    # Step 8, sizes 30, 60: sqrt(30 * 60) = 42.4264, 30 sqrt(2) = 42.4264, 30 / sqrt(2) = 21.2132.
    expected = np.array(
        [
            [4, 4, 30, 30],
            [4, 4, 42.426407, 42.426407],
            [4, 4, 42.426407, 21.213203],
            [4, 4, 21.213203, 42.426407],
        ]
    )
    np.testing.assert_allclose(prior_boxes(VOC300)[:4], expected / 300, rtol=1e-6)


def test_first_cell_of_the_second_level_of_voc300_by_hand():
    # Step 16, sizes 60, 111: sqrt(60 * 111) = 81.609; 60 sqrt(3) = 103.923, 60 / sqrt(3) = 34.641.
    expected = np.array(
        [
            [8, 8, 60, 60],
            [8, 8, 81.608823, 81.608823],
            [8, 8, 84.852814, 42.426407],
            [8, 8, 42.426407, 84.852814],
            [8, 8, 103.923048, 34.641016],
            [8, 8, 34.641016, 103.923048],
        ]
    )
    start = 38 * 38 * 4
    np.testing.assert_allclose(prior_boxes(VOC300)[start : start + 6], expected / 300, rtol=1e-6)


def test_rows_come_before_columns():
    centers = prior_boxes(VOC300)[:, :2] * 300
    np.testing.assert_allclose(centers[4], [12, 4], rtol=1e-6)
    np.testing.assert_allclose(centers[38 * 4], [4, 12], rtol=1e-6)


def test_last_cell_of_voc512_by_hand():
    # One cell over the image, sizes 460.8 = .9 and 537.6 = 1.05: sqrt(.9 * 1.05) = .972111.
    expected = np.array(
        [[0.9, 0.9], [0.9721111, 0.9721111], [1.2727922, 0.6363961], [0.6363961, 1.2727922]]
    )
    np.testing.assert_allclose(prior_boxes(VOC512)[-4:, :2], 0.5)
    np.testing.assert_allclose(prior_boxes(VOC512)[-4:, 2:], expected, rtol=1e-6)


@pytest.mark.parametrize(
    "spec",
    [*PRESETS.values(), *map(PriorSpec.for_image_size, OTHER_SIZES.values())],
    ids=[*PRESETS, *OTHER_SIZES],
)
def test_priors_equal_the_literal_loops(spec):
    expected = reference.prior_boxes(
        spec.image_size,
        spec.feature_maps,
        spec.steps,
        spec.min_sizes,
        spec.max_sizes,
        spec.aspect_ratios,
    )
    assert spec.num_priors == len(expected)
    priors = prior_boxes(spec)
    assert priors.dtype == np.float32
    np.testing.assert_allclose(priors, np.array(expected), rtol=1e-7, atol=0)


def test_clip_none_leaves_priors_larger_than_the_image():
    assert prior_boxes(VOC300).max() == pytest.approx(264 / 300 * math.sqrt(2))


def test_clip_center_form_clips_all_four():
    outside = dataclasses.replace(VOC300, steps=(*VOC300.steps[:-1], (640.0, 700.0)))
    unclipped = prior_boxes(outside)
    assert unclipped[:, 0].max() > 1
    assert unclipped[:, 3].max() > 1
    clipped = prior_boxes(dataclasses.replace(outside, clip="center_form"))
    np.testing.assert_array_equal(clipped, np.clip(unclipped, 0, 1))


def test_clip_size_clips_width_and_height_only():
    outside = dataclasses.replace(VOC300, steps=(*VOC300.steps[:-1], (640.0, 700.0)))
    unclipped = prior_boxes(outside)
    clipped = prior_boxes(dataclasses.replace(outside, clip="size"))
    np.testing.assert_array_equal(clipped[:, :2], unclipped[:, :2])
    np.testing.assert_array_equal(clipped[:, 2:], np.clip(unclipped[:, 2:], 0, 1))


def test_image_sizes_of_the_paper_give_its_presets():
    assert PriorSpec.for_image_size(300) == PriorSpec.for_image_size((300, 300)) == VOC300
    assert PriorSpec.for_image_size(512) == PriorSpec.for_image_size((512, 512)) == VOC512


@pytest.mark.parametrize("preset", [VOC300, VOC512], ids=["300", "512"])
def test_the_rule_for_other_sizes_gives_the_papers_sizes_and_ratios(preset):
    side = preset.image_size[0]
    spec = PriorSpec.for_image_size((side, side + 1))
    assert spec.min_sizes == preset.min_sizes
    assert spec.max_sizes == preset.max_sizes
    assert spec.aspect_ratios == preset.aspect_ratios


def test_priors_of_another_size_by_hand():
    # 128 x 256: 16 x 32, 8 x 16, 4 x 8, 2 x 4, 1 x 2, 1 x 1: six levels, so VOC300's percents.
    spec = PriorSpec.for_image_size((128, 256))
    assert spec.feature_maps == ((16, 32), (8, 16), (4, 8), (2, 4), (1, 2), (1, 1))
    assert spec.steps[1] == (16.0, 16.0)
    assert spec.steps[4] == (128.0, 128.0)
    np.testing.assert_allclose(spec.min_sizes, 1.28 * np.array([10, 20, 37, 54, 71, 88]))
    assert spec.aspect_ratios == ((2.0,), (2.0, 3.0), (2.0, 3.0), (2.0, 3.0), (2.0,), (2.0,))
    # First prior: 12.8 pixels square, in the middle of an 8-pixel cell.
    expected = [4 / 256, 4 / 128, 12.8 / 256, 12.8 / 128]
    np.testing.assert_allclose(prior_boxes(spec)[0], expected, rtol=1e-6)


def test_feature_maps_are_the_papers():
    assert feature_map_sizes((300, 300)) == tuple((n, n) for n in (38, 19, 10, 5, 3, 1))
    assert feature_map_sizes((512, 512)) == tuple((n, n) for n in (64, 32, 16, 8, 4, 2, 1))


def test_extra_convolutions_are_the_papers():
    halving = ExtraConvolution((3, 3), (2, 2), (1, 1))
    unpadded = ExtraConvolution((3, 3), (1, 1), (0, 0))
    four_taps = ExtraConvolution((4, 4), (1, 1), (1, 1))
    assert extra_convolutions((300, 300)) == (halving, halving, unpadded, unpadded)
    assert extra_convolutions((512, 512)) == (halving,) * 4 + (four_taps,)


def test_every_size_ends_in_one_cell_through_its_convolutions():
    for length in range(12, 1100):
        maps = feature_map_sizes((length, 300))
        pooled = length // 2 // 2
        assert maps[0] == ((pooled + 1) // 2, 38)
        assert maps[1] == ((pooled + 1) // 4, 19)
        assert maps[-1] == (1, 1)
        convolutions = extra_convolutions((length, 300))
        for before, after, convolution in zip(maps[1:-1], maps[2:], convolutions, strict=True):
            for axis in range(2):
                kernel, stride = convolution.kernel[axis], convolution.stride[axis]
                padded = before[axis] + 2 * convolution.padding[axis]
                assert after[axis] == (padded - kernel) // stride + 1


@pytest.mark.parametrize("size", [11, (11, 300), (300, 4), 0])
def test_too_small_an_image_is_an_error_that_says_its_size(size):
    height, width = (size, size) if isinstance(size, int) else size
    with pytest.raises(ValueError, match=rf"image size \({height}, {width}\).*at least 12 pixels"):
        PriorSpec.for_image_size(size)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("steps", VOC300.steps[:-1], "steps has 5 entries for 6 feature maps"),
        ("aspect_ratios", ((2.0,),), "aspect_ratios has 1 entries"),
        ("image_size", (300, 0), "image_size must be positive"),
        ("feature_maps", ((38, -38), *VOC300.feature_maps[1:]), "feature_maps must be positive"),
        ("min_sizes", (0.0, *VOC300.min_sizes[1:]), "min_sizes must be positive"),
        ("min_sizes", (70.0, *VOC300.min_sizes[1:]), "level 0 has max size 60.0"),
        ("aspect_ratios", ((-2.0,), *VOC300.aspect_ratios[1:]), "aspect_ratios must be positive"),
        ("variances", (0.1, 0.0), "variances must be positive"),
        ("max_sizes", (math.nan, *VOC300.max_sizes[1:]), "level 0 has max size nan"),
        ("aspect_ratios", ((1.0, 2.0), *VOC300.aspect_ratios[1:]), "leave out 1"),
        ("aspect_ratios", ((2.0, 0.5), *VOC300.aspect_ratios[1:]), "the reciprocals of others"),
        ("aspect_ratios", ((1 / 3, 3.0), *VOC300.aspect_ratios[1:]), "the reciprocals of others"),
        ("aspect_ratios", ((2.0, 2.0), *VOC300.aspect_ratios[1:]), "ratios that come twice"),
    ],
)
def test_a_spec_that_makes_no_sense_is_an_error(field, value, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(VOC300, **{field: value})


def test_an_unknown_clip_is_an_error():
    with pytest.raises((ValueError, TypeError), match="corners"):  # the type checker is first
        dataclasses.replace(VOC300, clip="corners")


@pytest.mark.parametrize("size", [np.int64(300), [300, 300], (np.int32(300), 300)], ids=str)
def test_a_size_may_be_of_any_integers(size):
    assert PriorSpec.for_image_size(size) == VOC300


def test_a_level_may_have_square_priors_only():
    spec = PriorSpec((8, 8), ((1, 1),), ((8.0, 8.0),), (2.0,), (8.0,), ((),))
    assert spec.boxes_per_cell == (2,)
    np.testing.assert_array_equal(prior_boxes(spec), [[0.5, 0.5, 0.25, 0.25], [0.5, 0.5, 0.5, 0.5]])


def test_specs_are_hashable_and_equal_by_value():
    assert hash(dataclasses.replace(VOC300)) == hash(VOC300)
    assert len({VOC300, COCO300, VOC512, COCO512, dataclasses.replace(VOC300)}) == 4
