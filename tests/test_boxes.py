import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ssd_jax.boxes import (
    box_area,
    center_to_corner,
    corner_to_center,
    decode,
    encode,
    pairwise_iou,
)
from tests.reference import boxes as reference

# Multiples of 1/16: areas are exact in float32, touching, nested, equal and empty boxes frequent.
grid_boxes = hnp.arrays(np.int32, (6, 4), elements=st.integers(-24, 24)).map(
    lambda units: (units / 16).astype(np.float32)
)
centered_boxes = st.tuples(
    hnp.arrays(np.float32, (6, 2), elements=st.floats(-1, 2, width=32)),
    hnp.arrays(np.float32, (6, 2), elements=st.floats(0.0625, 2, width=32)),
).map(lambda parts: np.concatenate(parts, axis=-1))


def test_forms_by_hand():
    centered = jnp.array([[0.5, 0.25, 0.5, 0.25]])
    corners = jnp.array([[0.25, 0.125, 0.75, 0.375]])
    np.testing.assert_array_equal(center_to_corner(centered), corners)
    np.testing.assert_array_equal(corner_to_center(corners), centered)


@settings(deadline=None, max_examples=50)
@given(grid_boxes)
def test_forms_are_inverses(boxes):
    np.testing.assert_array_equal(center_to_corner(corner_to_center(jnp.asarray(boxes))), boxes)
    np.testing.assert_array_equal(corner_to_center(center_to_corner(jnp.asarray(boxes))), boxes)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([0, 0, 2, 2], [1, 1, 3, 3], 1 / 7),
        ([0, 0, 2, 2], [0, 0, 2, 2], 1),
        ([0, 0, 2, 2], [2, 0, 4, 2], 0),  # a common edge
        ([0, 0, 2, 2], [5, 5, 6, 6], 0),
        ([0, 0, 4, 4], [1, 1, 3, 3], 1 / 4),
        ([-3, -3, -1, -1], [-2, -3, 0, -1], 1 / 3),
        ([1, 1, 1, 1], [1, 1, 1, 1], 0),  # no area
        ([0, 1, 2, 1], [0, 0, 2, 2], 0),
        ([2, 2, 0, 0], [0, 0, 2, 2], 0),  # corners not in order
        ([2, 2, 0, 0], [2, 2, 0, 0], 0),
    ],
)
def test_iou_by_hand(a, b, expected):
    iou = pairwise_iou(jnp.array([a], jnp.float32), jnp.array([b], jnp.float32))
    np.testing.assert_allclose(iou, [[expected]], rtol=1e-7)


@settings(deadline=None, max_examples=50)
@given(grid_boxes, grid_boxes)
def test_iou_equals_the_literal_loop(a, b):
    expected = [[reference.iou(x, y) for y in b.tolist()] for x in a.tolist()]
    iou = pairwise_iou(jnp.asarray(a), jnp.asarray(b))
    np.testing.assert_allclose(iou, expected, rtol=1e-6, atol=0)


@settings(deadline=None, max_examples=50)
@given(grid_boxes)
def test_area_equals_the_literal_loop(boxes):
    np.testing.assert_array_equal(
        box_area(jnp.asarray(boxes)), [reference.area(box) for box in boxes]
    )


def test_iou_takes_leading_batch_dimensions():
    rng = np.random.default_rng(0)
    a = jnp.asarray(rng.uniform(size=(3, 5, 4)), jnp.float32).sort()
    b = jnp.asarray(rng.uniform(size=(3, 2, 4)), jnp.float32).sort()
    batched = jax.jit(pairwise_iou)(a, b)
    assert batched.shape == (3, 5, 2)
    for i in range(3):
        np.testing.assert_allclose(batched[i], pairwise_iou(a[i], b[i]), rtol=1e-6)


def test_iou_gradient_is_finite_for_boxes_without_area():
    boxes = jnp.array([[0.5, 0.5, 0.5, 0.5], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    gradient = jax.grad(lambda b: jnp.sum(pairwise_iou(b, b)))(boxes)
    assert np.isfinite(gradient).all()


def test_encode_by_hand():
    prior = jnp.array([[0.5, 0.5, 0.2, 0.4]])
    # Centre (.52, .46): +.1 widths and -.1 heights. Sides: width e^.2 times, height e^-.4 times.
    width, height = 0.2 * np.exp(0.2), 0.4 * np.exp(-0.4)
    box = jnp.array(
        [[0.52 - width / 2, 0.46 - height / 2, 0.52 + width / 2, 0.46 + height / 2]], jnp.float32
    )
    np.testing.assert_allclose(encode(box, prior), [[1, -1, 1, -2]], rtol=1e-5)
    np.testing.assert_allclose(encode(box, prior, (1.0, 1.0)), [[0.1, -0.1, 0.2, -0.4]], rtol=1e-5)


def test_no_offset_decodes_to_the_prior():
    prior = jnp.array([[0.5, 0.5, 0.25, 0.5]])
    np.testing.assert_array_equal(decode(jnp.zeros((1, 4)), prior), [[0.375, 0.25, 0.625, 0.75]])


@settings(deadline=None, max_examples=50)
@given(centered_boxes, centered_boxes)
def test_encode_equals_the_literal_formula_and_decode_inverts_it(boxes, priors):
    corners = np.asarray(center_to_corner(jnp.asarray(boxes)))
    offsets = encode(jnp.asarray(corners), jnp.asarray(priors))
    expected = [reference.encode(b, p, (0.1, 0.2)) for b, p in zip(corners, priors, strict=True)]
    np.testing.assert_allclose(offsets, expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(decode(offsets, jnp.asarray(priors)), corners, rtol=0, atol=2e-6)


@settings(deadline=None, max_examples=50)
@given(hnp.arrays(np.float32, (6, 4), elements=st.floats(-5, 5, width=32)), centered_boxes)
def test_decode_equals_the_literal_formula(offsets, priors):
    expected = [reference.decode(o, p, (0.1, 0.2)) for o, p in zip(offsets, priors, strict=True)]
    boxes = decode(jnp.asarray(offsets), jnp.asarray(priors))
    np.testing.assert_allclose(boxes, expected, rtol=2e-6, atol=2e-6)


def test_degenerate_boxes_have_finite_offsets_and_gradients():
    boxes = jnp.array([[0.5, 0.5, 0.5, 0.5], [0.2, 0.2, 0.2, 0.9], [0.9, 0.9, 0.1, 0.1]])
    priors = jnp.broadcast_to(jnp.array([0.5, 0.5, 0.3, 0.3]), (3, 4))
    offsets = encode(boxes, priors)
    # log(1e-6 / .3) / .2 = -63.06 for a side of no length.
    np.testing.assert_allclose(offsets[0], [0, 0, -63.0577, -63.0577], rtol=1e-5)
    np.testing.assert_allclose(offsets[1, 2:], [-63.0577, np.log(0.7 / 0.3) / 0.2], rtol=1e-5)
    assert np.isfinite(offsets).all()
    gradient = jax.grad(lambda b: jnp.sum(encode(b, priors)))(boxes)
    assert np.isfinite(gradient).all()
