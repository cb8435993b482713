import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ssd_jax.detection import detect, nms
from ssd_jax.priors import VOC300, prior_boxes
from tests.reference import boxes as reference_boxes
from tests.reference import detection as reference

THRESHOLDS = [0.3, 0.45, 0.5, 0.7]
NUM_BOXES = 20

# Corners on whole numbers, negative ones among them: IoUs are exact quotients, thresholds are met
# exactly, and boxes are often equal, nested or empty.
whole_boxes = hnp.arrays(np.int32, (NUM_BOXES, 4), elements=st.integers(-5, 5)).map(
    lambda corners: np.sort(corners.reshape(-1, 2, 2), axis=1).reshape(-1, 4).astype(np.float32)
)
jitted_nms = jax.jit(nms, static_argnames="iou_threshold")
jitted_detect = jax.jit(
    detect,
    static_argnames=(
        "score_threshold",
        "iou_threshold",
        "pre_nms_top_k",
        "max_detections",
        "clip",
        "variances",
    ),
)


def assert_nms_equals_greedy(boxes, valid, threshold):
    boxes = np.asarray(boxes, np.float32)
    overlaps = [[reference_boxes.iou(a, b) for b in boxes.tolist()] for a in boxes.tolist()]
    keep = jitted_nms(jnp.asarray(boxes), jnp.asarray(valid), threshold)
    assert np.flatnonzero(keep).tolist() == reference.nms(overlaps, valid, threshold)


@settings(deadline=None, max_examples=100)
@given(whole_boxes, hnp.arrays(bool, NUM_BOXES), st.sampled_from(THRESHOLDS))
def test_nms_equals_the_greedy_loop(boxes, valid, threshold):
    assert_nms_equals_greedy(boxes, valid, threshold)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_nms_of_clustered_boxes_equals_the_greedy_loop(threshold):
    rng = np.random.default_rng(0)
    centers = rng.uniform(0, 1, (8, 2))[rng.integers(0, 8, 120)] + rng.normal(0, 0.05, (120, 2))
    sides = rng.uniform(0.15, 0.3, (120, 2))
    boxes = np.concatenate([centers - sides / 2, centers + sides / 2], axis=-1)
    assert_nms_equals_greedy(boxes, rng.random(120) < 0.9, threshold)


@pytest.mark.parametrize(("threshold", "shift"), [(0.3, 4), (0.45, 3), (0.5, 3), (0.7, 1)])
def test_a_long_chain_of_suppressions(threshold, shift):
    # 10 wide, each `shift` right of the last: IoU (10 - s) / (10 + s) with a neighbour, which is
    # above the threshold, and (10 - 2s) / (10 + 2s) with the next but one, which is not. So every
    # second box stays, and whether the last one does follows from all 200 before it.
    left = shift * np.arange(200.0) - 300
    chain = np.stack([left, np.full(200, -5.0), left + 10, np.full(200, 5.0)], axis=-1)
    keep = jitted_nms(jnp.asarray(chain, jnp.float32), jnp.ones(200, bool), threshold)
    np.testing.assert_array_equal(keep, np.arange(200) % 2 == 0)


@pytest.mark.parametrize(("threshold", "right"), [(0.3, 3.0), (0.45, 9.0), (0.5, 5.0), (0.7, 7.0)])
def test_an_iou_equal_to_the_threshold_does_not_suppress(threshold, right):
    width = 20.0 if threshold == 0.45 else 10.0
    boxes = jnp.array([[0.0, 0.0, width, 1.0], [0.0, 0.0, right, 1.0]])
    np.testing.assert_array_equal(jitted_nms(boxes, jnp.ones(2, bool), threshold), [True, True])
    wider = boxes.at[1, 2].add(0.01)
    np.testing.assert_array_equal(jitted_nms(wider, jnp.ones(2, bool), threshold), [True, False])


def test_nms_in_double_precision():
    with jax.enable_x64(True):
        boxes = jnp.array([[0.0, 0.0, 2.0, 1.0], [0.0, 0.0, 2.0, 1.5], [5.0, 0.0, 7.0, 1.0]])
        assert boxes.dtype == jnp.float64
        np.testing.assert_array_equal(nms(boxes, jnp.ones(3, bool), 0.5), [True, False, True])


def test_equal_boxes_leave_the_first():
    boxes = jnp.broadcast_to(jnp.array([-2.0, -2.0, -1.0, -1.0]), (5, 4))
    valid = jnp.array([False, True, True, False, True])
    np.testing.assert_array_equal(nms(boxes, valid, 0.5), [False, True, False, False, False])


def test_nms_under_vmap():
    rng = np.random.default_rng(0)
    corners = np.sort(rng.integers(-5, 6, (6, NUM_BOXES, 2, 2)), axis=2)
    boxes = jnp.asarray(corners.reshape(6, NUM_BOXES, 4), jnp.float32)
    valid = jnp.asarray(rng.random((6, NUM_BOXES)) < 0.8).at[2].set(False)
    batched = jax.jit(jax.vmap(lambda b, v: nms(b, v, 0.45)))(boxes, valid)
    for i in range(6):
        np.testing.assert_array_equal(batched[i], jitted_nms(boxes[i], valid[i], 0.45))


def random_outputs(seed, *, batch=2, priors=60, classes=4):
    rng = np.random.default_rng(seed)
    centered = np.concatenate(
        [rng.uniform(0, 1, (priors, 2)), rng.uniform(0.2, 0.6, (priors, 2))], axis=-1
    )
    return (
        jnp.asarray(rng.normal(size=(batch, priors, 4)), jnp.float32),
        jnp.asarray(2 * rng.normal(size=(batch, priors, classes)), jnp.float32),
        jnp.asarray(centered, jnp.float32),
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"iou_threshold": 0.3},
        {"iou_threshold": 0.7, "max_detections": 20},
        {"score_threshold": 0.4},
        {"pre_nms_top_k": 10},
        {"pre_nms_top_k": 60, "max_detections": 5},
        {"variances": (0.2, 0.1)},
    ],
    ids=str,
)
def test_detect_equals_the_literal_reference(options):
    loc, conf, priors = random_outputs(0)
    found = jitted_detect(loc, conf, priors, **options)
    max_detections = options.get("max_detections", 200)
    assert found.boxes.shape == (2, max_detections, 4)
    assert found.labels.dtype == jnp.int32
    for i in range(2):
        expected = reference.detect(
            np.asarray(loc[i]).tolist(),
            np.asarray(conf[i]).tolist(),
            np.asarray(priors).tolist(),
            iou=reference_boxes.iou,
            score_threshold=options.get("score_threshold", 0.01),
            iou_threshold=options.get("iou_threshold", 0.45),
            top_k=options.get("pre_nms_top_k", 400),
            max_detections=max_detections,
            variances=options.get("variances", (0.1, 0.2)),
        )
        count = len(expected)
        assert 0 < count <= max_detections
        scores, labels, boxes = zip(*expected, strict=True)
        np.testing.assert_allclose(found.scores[i, :count], scores, rtol=1e-5)
        np.testing.assert_array_equal(found.labels[i, :count], labels)
        np.testing.assert_allclose(found.boxes[i, :count], boxes, atol=1e-5)
        for padding in (found.scores[i, count:], found.labels[i, count:], found.boxes[i, count:]):
            np.testing.assert_array_equal(padding, np.zeros_like(padding))


def logits_of(probabilities):
    return jnp.log(jnp.array(probabilities, jnp.float32))[None]


@pytest.mark.parametrize(
    ("clip", "expected"),
    [
        ("after", [[0, 0, 0.5, 1], [0, 0, 0.5, 1], [0, 0, 0, 0]]),
        ("before", [[0, 0, 0.5, 1], [0, 0, 0, 0], [0, 0, 0, 0]]),
        ("never", [[0, 0, 0.5, 1], [-1, 0, 0.5, 1], [0, 0, 0, 0]]),
    ],
)
def test_boxes_are_clipped_before_nms_after_it_or_never(clip, expected):
    # IoU 1/3 as they are, 1 after clipping.
    priors = jnp.array([[0.25, 0.5, 0.5, 1.0], [-0.25, 0.5, 1.5, 1.0]])
    loc, conf = jnp.zeros((1, 2, 4)), logits_of([[0.2, 0.8], [0.4, 0.6]])
    found = jitted_detect(loc, conf, priors, max_detections=3, clip=clip)
    np.testing.assert_allclose(found.boxes[0], expected, atol=1e-6)
    scores = [0.8, 0.0 if clip == "before" else 0.6, 0.0]
    np.testing.assert_allclose(found.scores[0], scores, rtol=1e-6)
    if clip == "after":
        chosen = jitted_detect(loc, conf, priors, max_detections=3)
        np.testing.assert_array_equal(chosen.boxes, found.boxes)


def test_classes_do_not_suppress_each_other():
    priors = jnp.broadcast_to(jnp.array([0.5, 0.5, 0.5, 0.5]), (3, 4))
    conf = logits_of([[0.1, 0.8, 0.1], [0.1, 0.2, 0.7], [0.3, 0.6, 0.1]])
    found = jitted_detect(jnp.zeros((1, 3, 4)), conf, priors, max_detections=4)
    np.testing.assert_array_equal(found.labels[0], [1, 2, 0, 0])
    np.testing.assert_allclose(found.scores[0], [0.8, 0.7, 0, 0], rtol=1e-6)


def test_equal_scores_rank_by_class_then_by_prior():
    # Three boxes apart from each other, all of the same score in both classes.
    priors = jnp.array([[x, 0.5, 0.2, 0.2] for x in (0.8, 0.2, 0.5)])
    found = jitted_detect(
        jnp.zeros((1, 3, 4)), logits_of([[0.2, 0.4, 0.4]] * 3), priors, max_detections=6
    )
    np.testing.assert_array_equal(found.labels[0], [1, 1, 1, 2, 2, 2])
    np.testing.assert_allclose(found.boxes[0, :, 0], [0.7, 0.1, 0.4] * 2, rtol=1e-6)


def test_the_score_has_to_exceed_the_threshold():
    priors = jnp.array([[0.5, 0.5, 0.5, 0.5]])
    conf = jnp.zeros((1, 1, 2))  # a score of exactly .5
    at = jitted_detect(jnp.zeros((1, 1, 4)), conf, priors, score_threshold=0.5)
    below = jitted_detect(jnp.zeros((1, 1, 4)), conf, priors, score_threshold=0.4999)
    assert at.labels.max() == 0
    assert below.labels[0].tolist() == [1] + [0] * 199


def test_nothing_found_is_all_padding():
    loc, conf, priors = random_outputs(0)
    found = jitted_detect(loc, conf.at[..., 0].set(50.0), priors)
    assert all((np.asarray(field) == 0).all() for field in found)


@pytest.mark.parametrize("scale", [1e2, 1e4])
def test_extreme_outputs_stay_finite(scale):
    loc, conf, priors = random_outputs(0)
    found = jitted_detect(scale * loc, scale * conf, priors)
    assert all(np.isfinite(field).all() for field in found)
    assert found.scores.max() == 1
    assert found.boxes.min() >= 0
    assert found.boxes.max() <= 1


def test_bfloat16_outputs_give_float32_detections():
    loc, conf, priors = random_outputs(0)
    rounded_loc, rounded_conf = loc.astype(jnp.bfloat16), conf.astype(jnp.bfloat16)
    found = jitted_detect(rounded_loc, rounded_conf, priors)
    expected = jitted_detect(
        rounded_loc.astype(jnp.float32), rounded_conf.astype(jnp.float32), priors
    )
    assert found.boxes.dtype == found.scores.dtype == jnp.float32
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


def test_a_batch_equals_its_images_one_by_one():
    loc, conf, priors = random_outputs(1, batch=4)
    batched = jitted_detect(loc, conf, priors)
    for i in range(4):
        single = jitted_detect(loc[i : i + 1], conf[i : i + 1], priors)
        for whole, part in zip(batched, single, strict=True):
            np.testing.assert_allclose(whole[i], part[0], rtol=1e-6, atol=1e-7)


def test_detections_at_the_priors_of_ssd300():
    # One prior in a thousand has an object, far from the others: all are found, each in its place.
    priors = jnp.asarray(prior_boxes(VOC300))
    chosen = np.array([0, 1000, 3000, 6000, 8000, 8731])
    conf = jnp.zeros((1, 8732, 21)).at[0, :, 0].set(20.0)
    labels = np.array([1, 5, 9, 13, 17, 20])
    conf = conf.at[0, chosen, labels].set(20.0 + math.log(20.0) + 0.1 * np.arange(6))
    found = jitted_detect(jnp.zeros((1, 8732, 4)), conf, priors)
    np.testing.assert_array_equal(found.labels[0, :6], labels[::-1])
    assert found.scores[0, 6] == 0
    expected = [np.clip(reference_boxes.corners(priors[p]), 0, 1) for p in chosen[::-1]]
    np.testing.assert_allclose(found.boxes[0, :6], np.array(expected), atol=1e-6)
