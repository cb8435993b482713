"""The augmentation against a literal OpenCV version, closed forms, and its own promises."""

from functools import partial

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssd_jax import augment as augment_module
from ssd_jax.augment import (
    Augmentation,
    Parameters,
    Photometric,
    apply_to_boxes,
    apply_to_image,
    augment,
    distort,
    resize_for_evaluation,
    sample_crop,
    sample_parameters,
)
from ssd_jax.resample import INTERPOLATIONS, resample
from tests.reference import augment as reference
from tests.reference.boxes import iou

MEAN = (123.0, 117.0, 104.0)
DEFAULTS = Augmentation()
WHOLE = (0.0, 0.0, 1.0, 1.0)
NO_DISTORTION = (0.0, 1.0, False, 1.0, 0.0, False, (0, 1, 2))

# A small object, a large one, a narrow one, one without width, one in a corner; and empty slots
# with boxes left in them.
BOXES = np.array(
    [
        [0.1, 0.2, 0.25, 0.3],
        [0.15, 0.1, 0.95, 0.9],
        [0.0, 0.0, 1.0, 1.0],
        [0.6, 0.1, 0.7, 0.6],
        [0.4, 0.5, 0.4, 0.8],
        [0.8, 0.0, 1.0, 0.15],
        [0.2, 0.2, 0.8, 0.8],
        [0.0, 0.0, 0.0, 0.0],
    ],
    np.float32,
)
NO_WIDTH = 5
LABELS = np.array([3, 1, 0, 2, NO_WIDTH, 4, 0, 0], np.int32)


def make_photometric(
    brightness, contrast, contrast_last, saturation, hue, hue_wraps, channels
) -> Photometric:
    return Photometric(
        *(jnp.float32(value) for value in (brightness, contrast)),
        jnp.bool_(contrast_last),
        *(jnp.float32(value) for value in (saturation, hue)),
        jnp.bool_(hue_wraps),
        jnp.array(channels, jnp.int32),
    )


def make_parameters(
    *, photometric=NO_DISTORTION, expand=1.0, offset=(0.0, 0.0), crop=WHOLE, mirror=False, kernel=0
) -> Parameters:
    return Parameters(
        photometric=make_photometric(*photometric),
        expand=jnp.float32(expand),
        offset=jnp.array(offset, jnp.float32),
        crop=jnp.array(crop, jnp.float32),
        sampler=jnp.int32(0),
        mirror=jnp.bool_(mirror),
        interpolation=jnp.int32(kernel),
    )


def random_picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise of two grains, saturated in places: hard for every kernel."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.uniform(-60, 315, (8, 8, 3)), (width, height))
    return np.clip(coarse + rng.normal(0, 30, (height, width, 3)), 0, 255).astype(np.uint8)


def on_canvas(picture: np.ndarray, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """The picture at the top left of a canvas otherwise full of noise, and its size."""
    canvas = np.random.default_rng(9).integers(128, 256, (height, width, 3), np.uint8)
    canvas[: picture.shape[0], : picture.shape[1]] = picture
    return jnp.asarray(canvas), jnp.array(picture.shape[:2], jnp.int32)


# The tests share these and the shapes they are compiled for: compiling takes longer than running.
apply_jitted = jax.jit(apply_to_image, static_argnames=("image_size", "mean", "interpolations"))
evaluation_jitted = jax.jit(resize_for_evaluation, static_argnames=("image_size", "mean"))
SMALL, LARGE, SQUASHED = (19, 23), (71, 89), (101, 19)
KERNEL = {name: index for index, name in enumerate(INTERPOLATIONS)}


def augmented(picture: np.ndarray, parameters: Parameters, image_size=LARGE) -> np.ndarray:
    pixels = apply_jitted(
        *on_canvas(picture, 80, 96),
        parameters,
        image_size=image_size,
        mean=MEAN,
        interpolations=INTERPOLATIONS,
    )
    return np.asarray(pixels)


@pytest.mark.parametrize("picture_size", [(80, 96), (90, 120), (50, 33), (127, 40), (1, 3)])
def test_evaluation_resize_is_opencvs_linear_one(picture_size):
    picture = random_picture(*picture_size)
    image, size = on_canvas(picture, 128, 128)
    resized = evaluation_jitted(image, size, image_size=(80, 96), mean=MEAN)
    expected = cv2.resize(picture.astype(np.float32), (96, 80)) - np.float32(MEAN)
    np.testing.assert_allclose(resized, expected, atol=5e-3)


def test_evaluation_resize_at_full_size():
    picture = random_picture(375, 500)
    image, size = on_canvas(picture, 512, 512)
    resized = evaluation_jitted(image, size, image_size=(300, 300), mean=MEAN)
    expected = cv2.resize(picture.astype(np.float32), (300, 300)) - np.float32(MEAN)
    np.testing.assert_allclose(resized, expected, atol=2e-2)


def test_the_mean_is_subtracted_before_std_divides():
    picture = random_picture(80, 96)
    std = (58.0, 57.0, 0.5)
    image, size = on_canvas(picture, 128, 128)
    resized = jax.jit(
        lambda image, size: resize_for_evaluation(
            image, size, image_size=(80, 96), mean=MEAN, std=std
        )
    )(image, size)
    expected = (picture.astype(np.float32) - np.float32(MEAN)) / np.float32(std)
    np.testing.assert_allclose(resized, expected, rtol=1e-5, atol=1e-4)


def test_parameters_that_change_nothing_give_the_evaluation_resize():
    picture = random_picture(60, 70)
    unchanged = augmented(picture, make_parameters(kernel=KERNEL["linear"]))
    expected = evaluation_jitted(*on_canvas(picture, 80, 96), image_size=LARGE, mean=MEAN)
    np.testing.assert_array_equal(unchanged, expected)


GEOMETRIES = {
    "whole": {},
    "crop": {"crop": (0.125, 0.25, 0.875, 0.75)},
    "mirrored crop": {"crop": (0.0, 0.125, 0.625, 1.0), "mirror": True},
    "expanded": {"expand": 2.0, "offset": (0.5, 0.25)},
    "crop over an edge": {
        "expand": 2.0,
        "offset": (0.25, 0.75),
        "crop": (0.0625, 0.25, 0.5, 0.625),
    },
    "crop inside the picture": {
        "expand": 2.0,
        "offset": (0.25, 0.25),
        "crop": (0.25, 0.25, 0.5, 0.5),
        "mirror": True,
    },
    "crop beside the picture": {
        "expand": 4.0,
        "offset": (2.0, 0.0),
        "crop": (0.0, 0.0, 0.375, 0.5),
    },
}


@pytest.mark.parametrize("image_size", [SMALL, LARGE, SQUASHED])
@pytest.mark.parametrize("kernel", INTERPOLATIONS)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_geometry_is_opencvs(geometry, kernel, image_size):
    values = {"expand": 1.0, "offset": (0.0, 0.0), "crop": WHOLE, "mirror": False}
    values |= GEOMETRIES[geometry]
    picture = random_picture(64, 80)
    pixels = augmented(picture, make_parameters(**values, kernel=KERNEL[kernel]), image_size)

    def expanded(start: np.ndarray, fill: tuple[float, ...]) -> np.ndarray:
        return reference.expand(start.astype(np.float32), values["expand"], values["offset"], fill)

    def cropped_and_resized(start: np.ndarray) -> np.ndarray:
        resized = reference.resize(reference.crop(start, values["crop"]), image_size, kernel)
        return reference.mirror(resized) if values["mirror"] else resized

    expected = cropped_and_resized(expanded(picture, MEAN)) - np.float32(MEAN)
    if kernel in ("cubic", "lanczos4"):
        # Next to the edge of the picture, negative weights reach over it: there, and only there,
        # the colours are blended otherwise.
        inside = expanded(np.ones_like(picture), (0.0, 0.0, 0.0))
        noise = np.random.default_rng(1).uniform(50, 100, inside.shape).astype(np.float32)
        reads_inside, reads_outside = (
            np.abs(cropped_and_resized(128 + noise * part) - 128) > 2e-3
            for part in (inside, 1 - inside)
        )
        compared = ~(reads_inside & reads_outside)
        assert np.mean(compared) > 0.5
        pixels, expected = pixels[compared], expected[compared]
    np.testing.assert_allclose(pixels, expected, atol=3e-2)


@pytest.mark.parametrize("image_size", [(80, 96), (20, 30)])
def test_nearest_is_opencvs_exact_one(image_size):
    """Of odd sizes to even ones no position is just between two pixels."""
    picture = random_picture(65, 81)
    pixels = augmented(picture, make_parameters(kernel=KERNEL["nearest"]), image_size)
    expected = cv2.resize(picture, image_size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    np.testing.assert_array_equal(pixels, expected.astype(np.float32) - np.float32(MEAN))


def test_a_window_between_the_pixels_reads_between_them():
    """Linear interpolation of a ramp is the ramp, wherever the grid lies."""
    row, column = np.mgrid[:60, :90]
    ramp = np.stack([2 * column, 3 * row, column + row], axis=-1).astype(np.uint8)
    xmin, ymin, xmax, ymax = 10.3, 7.6, 71.9, 50.1
    window = jnp.array([xmin / 90, ymin / 60, xmax / 90, ymax / 60], jnp.float32)
    colours, share = resample(
        *on_canvas(ramp, 64, 96),
        window,
        jnp.int32(0),
        output_size=(50, 70),
        interpolations=("linear",),
    )
    y = ymin + (np.arange(50) + 0.5) * (ymax - ymin) / 50 - 0.5
    x = xmin + (np.arange(70) + 0.5) * (xmax - xmin) / 70 - 0.5
    y, x = np.meshgrid(y, x, indexing="ij")
    expected = np.stack([2 * x, 3 * y, x + y], axis=-1)
    np.testing.assert_allclose(colours[1:-1, 1:-1], expected[1:-1, 1:-1], atol=1e-3)
    np.testing.assert_allclose(share, 1.0, atol=1e-6)


@pytest.mark.parametrize("kernel", INTERPOLATIONS)
def test_no_size_gives_no_picture(kernel):
    """The rows that fill up a last batch have no picture."""
    nothing = np.zeros((0, 0, 3), np.uint8)
    np.testing.assert_array_equal(augmented(nothing, make_parameters(kernel=KERNEL[kernel])), 0.0)


DISTORTIONS = [
    NO_DISTORTION,
    (25.0, 1.0, False, 1.0, 0.0, False, (0, 1, 2)),
    (-32.0, 1.5, False, 1.0, 0.0, False, (0, 1, 2)),
    (0.0, 0.5, True, 1.5, 0.0, True, (0, 1, 2)),
    (0.0, 1.0, False, 0.5, 36.0, False, (0, 1, 2)),
    (0.0, 1.0, True, 1.0, -36.0, True, (1, 2, 0)),
    (0.0, 1.0, True, 1.0, -36.0, False, (0, 1, 2)),
    (30.0, 1.4, True, 1.3, 20.0, True, (2, 0, 1)),
    (30.0, 1.4, False, 1.3, -20.0, False, (2, 1, 0)),
]


@pytest.mark.parametrize("values", DISTORTIONS)
def test_distortion_is_opencvs(values):
    levels = np.array([0, 1, 37, 64, 100, 128, 200, 254, 255], np.float32)
    every_colour = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(27, 27, 3)
    distorted = distort(jnp.asarray(every_colour), make_photometric(*values))
    np.testing.assert_allclose(distorted, reference.distort(every_colour, *values), atol=5e-3)


@pytest.mark.parametrize("turn", [-30, -14, 20])
def test_hues_stop_where_the_bytes_of_caffe_do(turn):
    """src/caffe/util/im_transforms.cpp, AdjustHue: OpenCV's hues, of two degrees, saturate at 0."""
    colours = np.array([[[200, 30, 30], [230, 120, 30], [214, 160, 140], [40, 90, 250]]], np.uint8)
    hue, saturation, value = cv2.split(cv2.cvtColor(colours, cv2.COLOR_RGB2HSV))
    hue = np.clip(hue.astype(int) + turn // 2, 0, 255).astype(np.uint8)
    expected = cv2.cvtColor(cv2.merge([hue, saturation, value]), cv2.COLOR_HSV2RGB).astype(float)
    turned = [
        distort(
            jnp.asarray(colours, jnp.float32),
            make_photometric(0.0, 1.0, False, 1.0, float(turn), wraps, (0, 1, 2)),
        )
        for wraps in (False, True)
    ]
    np.testing.assert_allclose(turned[0], expected, atol=5)  # a byte's hue is known to a degree
    assert (np.abs(turned[1] - expected).max() > 30) == (turn < 0)


@pytest.mark.parametrize("values", DISTORTIONS)
def test_distortion_and_mean_at_the_pictures_own_size(values):
    picture = random_picture(*LARGE)
    pixels = augmented(picture, make_parameters(photometric=values, kernel=KERNEL["linear"]))
    expected = reference.distort(picture.astype(np.float32), *values) - np.float32(MEAN)
    np.testing.assert_allclose(pixels, expected, atol=5e-3)


@pytest.mark.parametrize("kernel", INTERPOLATIONS)
def test_expansion_is_filled_with_the_mean_whatever_the_distortion(kernel):
    parameters = make_parameters(
        photometric=DISTORTIONS[-1], expand=4.0, offset=(1.0, 2.0), kernel=KERNEL[kernel]
    )
    pixels = augmented(random_picture(64, 64), parameters)
    outside = np.ones(LARGE, bool)
    outside[33:56, 20:47] = False
    np.testing.assert_array_equal(pixels[outside], 0.0)
    assert np.all(np.any(pixels[38:50, 25:42] != 0, axis=-1))


@partial(jax.jit, static_argnames="options")
def draw(boxes, labels, *, options) -> Parameters:
    one = partial(sample_parameters, options=options)
    keys = jax.random.split(jax.random.key(5), 20000)
    return jax.vmap(one, in_axes=(0, None, None))(keys, boxes, labels)


def draw_many(count: int, boxes=BOXES, labels=LABELS, options=DEFAULTS) -> Parameters:
    """Parameters of up to 20000 draws for one image, as NumPy arrays."""
    drawn = draw(jnp.asarray(boxes), jnp.asarray(labels), options=options)
    return jax.tree.map(lambda values: np.asarray(values)[:count], drawn)


def assert_same_distribution(a: np.ndarray, b: np.ndarray, name: str) -> None:
    """Two-sample Kolmogorov-Smirnov test at the level of one in a thousand."""
    points = np.sort(np.concatenate([a, b]))
    share_a = np.searchsorted(np.sort(a), points, side="right") / len(a)
    share_b = np.searchsorted(np.sort(b), points, side="right") / len(b)
    distance = np.max(np.abs(share_a - share_b))
    bound = 1.95 * np.sqrt(1 / len(a) + 1 / len(b))
    assert distance < bound, f"{name}: distance {distance:.4f} of the distributions, {bound:.4f}"


def assert_share(values: np.ndarray, expected: float, name: str) -> None:
    """Within four standard deviations of the binomial distribution."""
    bound = 4 * np.sqrt(expected * (1 - expected) / len(values))
    assert abs(np.mean(values) - expected) < bound, f"{name}: {np.mean(values):.4f} of {expected}"


def test_geometry_is_distributed_as_caffes():
    ours = draw_many(20000)
    rng = np.random.default_rng(11)
    theirs = [reference.draw_geometry(rng, BOXES, LABELS) for _ in range(2000)]
    expand, offset, crop, sampler = (np.array(column) for column in zip(*theirs, strict=True))

    for which in range(7):
        share = np.mean(ours.sampler == which)
        bound = 4 * np.sqrt(share * (1 - share) * (1 / len(ours.sampler) + 1 / len(sampler)))
        assert abs(share - np.mean(sampler == which)) < bound, f"sampler {which}"
    assert_share(ours.expand > 1, 0.5, "expand")
    assert_same_distribution(ours.expand[ours.expand > 1], expand[expand > 1], "expand")
    for axis in range(2):
        assert_same_distribution(
            ours.offset[ours.expand > 1, axis] / (ours.expand[ours.expand > 1] - 1),
            offset[expand > 1, axis] / (expand[expand > 1] - 1),
            f"offset {axis}",
        )
    for name, kind, kinds in (
        ("free", ours.sampler == 6, sampler == 6),
        ("constrained", (ours.sampler > 0) & (ours.sampler < 6), (sampler > 0) & (sampler < 6)),
    ):
        a, b = ours.crop[kind], crop[kinds]
        size_a, size_b = a[:, 2:] - a[:, :2], b[:, 2:] - b[:, :2]
        assert_same_distribution(size_a[:, 0] / size_a[:, 1], size_b[:, 0] / size_b[:, 1], name)
        assert_same_distribution(np.prod(size_a, 1), np.prod(size_b, 1), f"{name}, area")
        for axis in range(2):
            assert_same_distribution(size_a[:, axis], size_b[:, axis], f"{name}, side {axis}")
            assert_same_distribution(a[:, axis], b[:, axis], f"{name}, place {axis}")


def test_chances_and_ranges_are_the_options():
    drawn = draw_many(20000)
    photometric = drawn.photometric
    assert_share(drawn.mirror, 0.5, "mirror")
    assert_share(photometric.contrast_last, 0.5, "contrast last")
    for which, _ in enumerate(DEFAULTS.interpolations):
        assert_share(drawn.interpolation == which, 0.2, "interpolation")
    applied = {}
    for name, none, low, high in (
        ("brightness", 0.0, -32.0, 32.0),
        ("contrast", 1.0, 0.5, 1.5),
        ("saturation", 1.0, 0.5, 1.5),
        ("hue", 0.0, -36.0, 36.0),
    ):
        values = getattr(photometric, name)
        applied[name] = values != none
        assert_share(applied[name], 0.5, name)
        uniform = np.linspace(low, high, 20001)
        assert_same_distribution(values[applied[name]], uniform, name)
    for other in ("contrast", "saturation", "hue"):
        assert_share(applied["brightness"] & applied[other], 0.25, f"brightness and {other}")
    np.testing.assert_array_equal(photometric.channels, np.tile([0, 1, 2], (20000, 1)))

    options = Augmentation(
        channel_shuffle_probability=0.6,
        crop_probability=0.3,
        expand_probability=0.0,
        photometric_probability=0.0,
        mirror_probability=1.0,
    )
    drawn = draw_many(20000, labels=np.zeros(8, np.int32), options=options)
    order = drawn.photometric.channels @ np.array([9, 3, 1])
    assert_share(order == 5, 0.4 + 0.6 / 6, "channels in order")
    assert_share(order == 2 * 9 + 3, 0.1, "channels in one other order")
    assert_share(drawn.sampler == 0, 0.7 + 0.3 / 2, "whole")
    assert np.all(drawn.mirror) and np.all(drawn.expand == 1) and np.all(drawn.offset == 0)
    assert np.all(drawn.photometric.hue == 0) and np.all(drawn.photometric.contrast == 1)


def test_ranges_are_those_of_the_options():
    options = Augmentation(
        photometric_probability=1.0,
        brightness_delta=5.0,
        contrast_range=(0.8, 0.9),
        saturation_range=(1.1, 1.2),
        hue_delta=9.0,
        hue_wraps=True,
        expand_probability=1.0,
        max_expand=1.5,
    )
    drawn = draw_many(20000, options=options)
    for values, low, high in (
        (drawn.photometric.brightness, -5, 5),
        (drawn.photometric.contrast, 0.8, 0.9),
        (drawn.photometric.saturation, 1.1, 1.2),
        (drawn.photometric.hue, -9, 9),
        (drawn.expand, 1, 1.5),
    ):
        ends = values.min(), values.max()
        np.testing.assert_allclose(ends, (low, high), rtol=0, atol=0.01 * (high - low))
    assert np.all(drawn.photometric.hue_wraps)
    assert not np.any(draw_many(10).photometric.hue_wraps)


def test_the_crop_knows_the_pictures_width_by_its_height(monkeypatch):
    seen = []

    def sample(*arguments):
        seen.append(float(arguments[4]))
        return sample_crop(*arguments)

    monkeypatch.setattr(augment_module, "sample_crop", sample)
    augment(
        jax.random.key(0),
        jnp.zeros((128, 128, 3), jnp.uint8),
        jnp.array([60, 120], jnp.int32),  # height, width
        jnp.asarray(BOXES),
        jnp.asarray(LABELS),
        image_size=(32, 32),
        mean=MEAN,
        options=DEFAULTS,
    )
    assert seen == [2.0]


def test_constrained_crops_overlap_some_object_enough():
    drawn = draw_many(20000)
    objects = BOXES[LABELS > 0].astype(np.float64)
    for sampler, minimum in enumerate(DEFAULTS.crop_min_ious, start=1):
        rows = np.flatnonzero(drawn.sampler == sampler)[:400]
        assert len(rows) > 50
        for row in rows:
            expanded = (objects + np.tile(drawn.offset[row], 2)) / drawn.expand[row]
            assert max(iou(drawn.crop[row], box) for box in expanded) >= minimum - 1e-5
    assert np.all((drawn.crop >= 0) & (drawn.crop <= 1))
    assert np.all(drawn.crop[:, 2:] - drawn.crop[:, :2] > 0.2)


def test_without_objects_only_the_whole_and_the_free_crop():
    drawn = draw_many(4000, labels=np.zeros(8, np.int32))
    assert_share(drawn.sampler == 0, 0.5, "whole")
    assert_share(drawn.sampler == 6, 0.5, "free")
    _, sampler = jax.vmap(
        lambda key: sample_crop(key, jnp.zeros((0, 4)), jnp.zeros(0, jnp.int32), DEFAULTS)
    )(jax.random.split(jax.random.key(0), 30))
    assert set(np.asarray(sampler)) == {0, 6}


def test_empty_slots_do_not_touch_the_draw():
    other = BOXES.copy()
    other[LABELS == 0] = [0.4, 0.4, 0.5, 0.5]
    for a, b in zip(
        jax.tree.leaves(draw_many(500)), jax.tree.leaves(draw_many(500, boxes=other)), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_objects_to_ignore_do_not_touch_the_draw():
    ignored = np.where(LABELS == 0, -1, LABELS).astype(np.int32)
    for a, b in zip(
        jax.tree.leaves(draw_many(500)),
        jax.tree.leaves(draw_many(500, labels=ignored)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("ignored", [(), (1, 4)], ids=["all trained on", "two ignored"])
def test_boxes_that_stay_are_those_of_the_literal_rule(ignored):
    drawn = draw_many(20000)
    slots = LABELS.copy()
    slots[list(ignored)] = -1
    new_boxes, new_labels = jax.jit(jax.vmap(apply_to_boxes, in_axes=(None, None, 0)))(
        jnp.asarray(BOXES), jnp.asarray(slots), jax.tree.map(jnp.asarray, drawn)
    )
    new_boxes, new_labels = np.asarray(new_boxes), np.asarray(new_labels)
    for row in range(2000):
        expected_boxes, expected_labels = reference.move_boxes(
            BOXES,
            slots,
            drawn.expand[row],
            drawn.offset[row],
            drawn.crop[row],
            drawn.mirror[row],
        )
        np.testing.assert_array_equal(new_labels[row], expected_labels)
        np.testing.assert_allclose(new_boxes[row], expected_boxes, atol=1e-5)
    objects = (slots > 0) & (LABELS != NO_WIDTH)
    assert np.all((kept := np.mean(new_labels > 0, axis=0))[~objects] == 0)
    assert np.all((kept[objects] > 0.2) & (kept[objects] < 0.95))


edge = st.floats(0, 1, width=32)
box = st.tuples(edge, edge, edge, edge).map(
    lambda ends: (*np.minimum(ends[:2], ends[2:]), *np.maximum(ends[:2], ends[2:]))
)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(box, st.integers(0, 5)), min_size=8, max_size=8), st.integers(0, 2**31))
def test_boxes_come_out_sound(objects, seed):
    boxes = jnp.array([box for box, _ in objects], jnp.float32)
    labels = jnp.array([label for _, label in objects], jnp.int32)
    drawn, new_boxes, new_labels = draw_and_move(jax.random.key(seed), boxes, labels)
    new_boxes, new_labels = np.asarray(new_boxes), np.asarray(new_labels)
    assert np.all((new_labels == labels) | (new_labels == 0))
    assert np.all((new_boxes >= 0) & (new_boxes <= 1))
    kept = new_labels > 0
    assert np.all(new_boxes[kept, 2:] > new_boxes[kept, :2])
    assert np.all(new_boxes[~kept] == 0)
    assert np.all(np.isfinite(drawn.crop))


@jax.jit
def draw_and_move(key, boxes, labels):
    drawn = sample_parameters(key, boxes, labels, DEFAULTS)
    return drawn, *apply_to_boxes(boxes, labels, drawn)


def test_mirror_exchanges_left_and_right():
    picture = random_picture(50, 70)
    values = {"expand": 1.7, "offset": (0.31, 0.22), "crop": (0.13, 0.21, 0.77, 0.93)}
    for kernel in range(len(INTERPOLATIONS)):
        straight, mirrored = (
            augmented(picture, make_parameters(**values, kernel=kernel, mirror=mirror))
            for mirror in (False, True)
        )
        np.testing.assert_allclose(mirrored, straight[:, ::-1], atol=2e-2)
    straight, mirrored = (
        apply_to_boxes(jnp.asarray(BOXES), jnp.asarray(LABELS), make_parameters(mirror=mirror))
        for mirror in (False, True)
    )
    expected = np.where(LABELS == NO_WIDTH, 0, LABELS)
    np.testing.assert_array_equal(straight[0], np.where(expected[:, None] > 0, BOXES, 0.0))
    np.testing.assert_array_equal(straight[1], expected)
    np.testing.assert_allclose(mirrored[0][1], [0.05, 0.1, 0.85, 0.9], atol=1e-6)
    back = apply_to_boxes(*mirrored, make_parameters(mirror=True))
    np.testing.assert_allclose(back[0], straight[0], atol=1e-6)
    np.testing.assert_array_equal(back[1], expected)


def test_boxes_stay_on_their_objects():
    """A white rectangle on black is found, in pixels, where its box says, through everything."""
    options = Augmentation(photometric_probability=0.0)
    picture = np.zeros((90, 120, 3), np.uint8)
    picture[20:60, 30:96] = 255
    box = jnp.array([[30 / 120, 20 / 90, 96 / 120, 60 / 90], [0, 0, 0, 0]], jnp.float32)
    image, size = on_canvas(picture, 128, 128)
    one = partial(augment, image_size=(100, 80), mean=(0.0, 0.0, 0.0), options=options)
    pixels, boxes, labels = jax.jit(jax.vmap(one, in_axes=(0, None, None, None, None)))(
        jax.random.split(jax.random.key(1), 200), image, size, box, jnp.array([4, 0], jnp.int32)
    )
    white = np.asarray(pixels)[..., 0] > 127.5
    seen = 0
    for row in range(200):
        if labels[row, 0] == 0:
            continue
        assert labels[row, 0] == 4
        ys, xs = np.where(white[row])
        found = [xs.min() / 80, ys.min() / 100, (xs.max() + 1) / 80, (ys.max() + 1) / 100]
        np.testing.assert_allclose(found, boxes[row, 0], atol=1.01 / 80)
        seen += 1
    assert seen > 100


def random_batch(count: int):
    rng = np.random.default_rng(2)
    images = jnp.asarray(np.stack([random_picture(48, 48, seed) for seed in range(count)]))
    sizes = jnp.asarray(rng.integers(24, 49, (count, 2)), jnp.int32)
    boxes = jnp.tile(jnp.asarray(BOXES)[None], (count, 1, 1))
    labels = jnp.tile(jnp.asarray(LABELS)[None], (count, 1))
    return jax.random.split(jax.random.key(8), count), images, sizes, boxes, labels


augment_small = partial(augment, image_size=(32, 40), mean=MEAN, options=DEFAULTS)
augment_batch = jax.jit(jax.vmap(augment_small))


def test_a_batch_is_its_images_one_by_one_and_repeatable():
    batch = random_batch(6)
    together = augment_batch(*batch)
    for a, b in zip(together, augment_batch(*batch), strict=True):
        np.testing.assert_array_equal(a, b)
    augment_one = jax.jit(augment_small)
    for row in range(6):
        pixels, boxes, labels = augment_one(*(part[row] for part in batch))
        # The compiler may order float operations otherwise; what is drawn is the same.
        np.testing.assert_allclose(pixels, together[0][row], atol=2e-3)
        np.testing.assert_allclose(boxes, together[1][row], atol=1e-6)
        np.testing.assert_array_equal(labels, together[2][row])


def test_other_keys_give_other_images():
    keys, *parts = random_batch(6)
    same = [jnp.stack([part[0]] * 6) for part in parts]
    pixels = np.asarray(augment_batch(keys, *same)[0])
    assert all(np.mean(np.abs(pixels[i] - pixels[j])) > 1 for i in range(6) for j in range(i))


def test_a_constraint_no_crop_can_meet_leaves_the_others():
    """No crop below a side of .5 has an IoU of .9 with the whole picture."""
    options = Augmentation(crop_min_ious=(0.9,), crop_scale=(0.3, 0.5), crop_trials=10)
    _, sampler = jax.vmap(
        lambda key: sample_crop(key, jnp.array([WHOLE]), jnp.ones(1, jnp.int32), options)
    )(jax.random.split(jax.random.key(0), 200))
    assert set(np.asarray(sampler)) == {0, 2}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("expand_probability", 1.5),
        ("mirror_probability", -0.1),
        ("contrast_range", (1.5, 0.5)),
        ("crop_scale", (0.3, 1.2)),
        ("crop_aspect", (0.0, 2.0)),
        ("hue_delta", 200.0),
        ("max_expand", 0.5),
        ("crop_trials", 0),
        ("crop_min_ious", (0.1, 1.0)),
        ("interpolations", ()),
    ],
)
def test_impossible_options_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=field):
        Augmentation(**{field: value})
