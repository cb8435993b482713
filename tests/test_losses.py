import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ssd_jax.losses import hard_negative_mask, multibox_loss, multibox_terms, smooth_l1
from tests.lowered import for_a_gpu
from tests.reference import losses as reference

jitted_mask = jax.jit(hard_negative_mask)
jitted_loss = jax.jit(multibox_loss, static_argnames=("neg_pos_ratio", "min_negatives"))


def random_batch(seed, *, batch=3, priors=40, classes=5, positive_rate=0.1):
    rng = np.random.default_rng(seed)
    labels = rng.integers(1, classes, (batch, priors))
    labels[rng.random((batch, priors)) >= positive_rate] = 0
    return (
        jnp.asarray(rng.normal(size=(batch, priors, 4)), jnp.float32),
        jnp.asarray(3 * rng.normal(size=(batch, priors, classes)), jnp.float32),
        jnp.asarray(rng.normal(size=(batch, priors, 4)), jnp.float32),
        jnp.asarray(labels, jnp.int32),
    )


def assert_equals_reference(arrays, **options):
    expected = reference.multibox_loss(
        *(np.asarray(a, np.float64).tolist() for a in arrays[:3]),
        np.asarray(arrays[3]).tolist(),
        **options,
    )
    np.testing.assert_allclose(jitted_loss(*arrays, **options), expected, rtol=2e-6)


def test_smooth_l1_by_hand():
    x = jnp.array([0, 0.5, -0.5, 1, -1, 3, -1e4])
    np.testing.assert_array_equal(smooth_l1(x), [0, 0.125, 0.125, 0.5, 0.5, 2.5, 9999.5])


def test_smooth_l1_gradient_is_the_difference_clipped_to_one():
    x = jnp.array([0, 0.25, -0.25, 1, -1, 7, -7, 1e30])
    gradient = jax.vmap(jax.grad(smooth_l1))(x)
    np.testing.assert_allclose(gradient, np.clip(x, -1, 1))


NUM_CANDIDATES = 24


@settings(deadline=None, max_examples=100)
@given(
    hnp.arrays(
        np.float32,
        NUM_CANDIDATES,
        # Few values for ties, and the ends of the range of float32.
        elements=st.sampled_from([0.0, 1e-45, 1e-38, 0.5, 1.0, 1.0000001, 2.0, 1e4, 3e38, math.inf])
        | st.floats(0, 20, width=32),
    ),
    hnp.arrays(bool, NUM_CANDIDATES),
    st.integers(0, NUM_CANDIDATES + 3),
)
def test_mining_equals_sorting(difficulty, candidates, count):
    mask = jitted_mask(jnp.asarray(difficulty), jnp.asarray(candidates), jnp.int32(count))
    expected = reference.mine(difficulty.tolist(), candidates.tolist(), count)
    assert set(np.flatnonzero(mask).tolist()) == expected
    assert mask.sum() == min(count, candidates.sum())


def test_mining_ties_go_to_the_lowest_index():
    difficulty = jnp.array([1.0, 2.0, 1.0, 1.0, 3.0, 1.0])
    candidates = jnp.array([False, True, True, True, True, True])
    mask = hard_negative_mask(difficulty, candidates, jnp.int32(4))
    np.testing.assert_array_equal(mask, [False, True, True, True, True, False])


def test_mining_takes_rounding_errors_for_zero():
    difficulty = jnp.array([-1e-7, -0.0, 0.0, 1e-7])
    mask = hard_negative_mask(difficulty, jnp.ones(4, bool), jnp.int32(2))
    np.testing.assert_array_equal(mask, [True, False, False, True])


@pytest.mark.parametrize("nan", [0x7FC00000, 0xFFC00000, 0xFFFFFFFF])
def test_mining_does_not_pass_over_nan(nan):
    """Of either sign: x86 gives inf - inf the sign bit."""
    difficulty = jnp.array(np.array([0x3F800000, 0x7F800000, nan], np.uint32).view(np.float32))
    mask = hard_negative_mask(difficulty, jnp.ones(3, bool), jnp.int32(1))
    np.testing.assert_array_equal(mask, [False, False, True])


def test_a_logit_that_is_nan_is_mined():
    labels = jnp.zeros((1, 40), jnp.int32).at[0, 0].set(1)
    conf = jnp.zeros((1, 40, 4)).at[0, 17, 2].set(jnp.nan)
    loc = jnp.zeros((1, 40, 4))
    losses = jitted_loss(loc, conf, loc, labels, neg_pos_ratio=1.0)
    assert [bool(jnp.isnan(loss)) for loss in losses] == [False, True]


@pytest.mark.parametrize("lowered", [jax.jit, for_a_gpu])
def test_mining_among_8732_priors(lowered):
    rng = np.random.default_rng(0)
    difficulty = rng.exponential(size=(4, 8732)).astype(np.float32).round(3)
    candidates = rng.random((4, 8732)) < 0.99
    counts = np.array([0, 1, 700, 9000], np.int32)
    masks = lowered(jax.vmap(hard_negative_mask))(
        jnp.asarray(difficulty), jnp.asarray(candidates), jnp.asarray(counts)
    )
    for i in range(4):
        ranked = np.argsort(np.where(candidates[i], -difficulty[i], np.inf), kind="stable")
        expected = ranked[: min(counts[i], candidates[i].sum())]
        np.testing.assert_array_equal(np.flatnonzero(masks[i]), np.sort(expected))


def test_loss_by_hand():
    # Equal logits of 4 classes: every cross-entropy is log 4. Two positives in the first image,
    # so 6 negatives there and none in the second: 8 log 4 / 2. Errors .5 and 2: (.125 + 1.5) / 2.
    labels = jnp.zeros((2, 10), jnp.int32).at[0, :2].set(jnp.array([1, 3], jnp.int32))
    loc = jnp.zeros((2, 10, 4)).at[0, 0, 1].set(0.5).at[0, 1, 2].set(-2.0)
    loss = multibox_loss(loc, jnp.zeros((2, 10, 4)), jnp.zeros((2, 10, 4)), labels)
    np.testing.assert_allclose(loss.loc, 1.625 / 2, rtol=1e-6)
    np.testing.assert_allclose(loss.conf, 4 * math.log(4), rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"neg_pos_ratio": 1.0},
        {"neg_pos_ratio": 2.5},
        {"neg_pos_ratio": 0.0},
        {"min_negatives": 7},
        {"neg_pos_ratio": 0.0, "min_negatives": 7},
        {"neg_pos_ratio": 100.0},
    ],
    ids=str,
)
def test_loss_equals_the_literal_reference(seed, options):
    assert_equals_reference(random_batch(seed), **options)


@pytest.mark.parametrize(("ratio", "least"), [(3.0, 0), (3.0, 7), (0.0, 7)])
def test_mining_may_be_an_argument_of_a_compiled_function(ratio, least):
    arrays, mining = random_batch(0), {"neg_pos_ratio": ratio, "min_negatives": least}
    traced = jax.jit(multibox_loss)(*arrays, **mining)
    np.testing.assert_allclose(traced, jitted_loss(*arrays, **mining), rtol=1e-6)


def test_fewer_negatives_than_asked():
    assert_equals_reference(random_batch(0, positive_rate=0.7))


def test_ignored_priors_are_neither_positive_nor_mined():
    loc, conf, loc_targets, labels = random_batch(0)
    hardest = jnp.argmax(jnp.where(labels == 0, conf.max(-1) - conf[..., 0], -1), axis=1)
    ignored = labels.at[jnp.arange(3), hardest].set(-1)
    assert_equals_reference((loc, conf, loc_targets, ignored))
    assert jitted_loss(loc, conf, loc_targets, ignored).conf < (
        jitted_loss(loc, conf, loc_targets, labels).conf
    )


def test_a_constant_added_to_a_priors_logits_changes_nothing():
    # With the maximum of the whole batch in the log-sum-exp, rows far below it would underflow and
    # the hardest negatives be passed over.
    loc, conf, loc_targets, labels = random_batch(0)
    shift = jnp.asarray(np.random.default_rng(1).integers(-4, 4, conf.shape[:2]), jnp.float32)
    shifted = jitted_loss(loc, conf + 256 * shift[..., None], loc_targets, labels)
    np.testing.assert_allclose(
        shifted.conf, jitted_loss(loc, conf, loc_targets, labels).conf, rtol=1e-4
    )


def test_no_ground_truth_costs_nothing():
    loc, conf, loc_targets, _ = random_batch(0)
    labels = jnp.zeros(conf.shape[:2], jnp.int32)
    assert jitted_loss(loc, conf, loc_targets, labels) == (0, 0)


def test_min_negatives_lets_empty_images_teach_the_background():
    loc, conf, loc_targets, _ = random_batch(0)
    labels = jnp.zeros(conf.shape[:2], jnp.int32)
    assert_equals_reference((loc, conf, loc_targets, labels), min_negatives=5)
    assert jitted_loss(loc, conf, loc_targets, labels, min_negatives=5).conf > 0


def test_empty_images_do_not_outweigh_the_objects_of_a_batch():
    """With equal logits each prior costs log 4, and 120 negatives divide as 40 positives do."""
    labels = jnp.zeros((2, 100), jnp.int32).at[0, 0].set(1)
    flat = jnp.zeros((2, 100, 4))
    loss = jitted_loss(flat, flat, flat, labels, min_negatives=60)
    np.testing.assert_allclose(loss.conf, (1 + 120) * math.log(4) / 40, rtol=1e-6)


def test_the_second_derivative_is_softmaxs():
    """diag(p) - p p^T of each prior that counts; both ways to take it."""
    conf = jnp.asarray(np.random.default_rng(0).normal(size=(1, 3, 4)), jnp.float32)
    labels, loc = jnp.array([[2, 0, 0]]), jnp.zeros((1, 3, 4))

    def loss(conf):
        return multibox_loss(loc, conf, loc, labels).conf

    for hessian in (jax.hessian(loss), jax.jacrev(jax.grad(loss))):
        ours = np.asarray(hessian(conf))[0, :, :, 0]
        for prior in range(3):  # all count: one is positive, and it takes up to three negatives
            p = np.exp(conf[0, prior]) / np.exp(conf[0, prior]).sum()
            np.testing.assert_allclose(
                ours[prior, :, prior], np.diag(p) - np.outer(p, p), atol=1e-6
            )


def test_gradient_in_closed_form():
    loc, conf, loc_targets, labels = random_batch(0)

    def total(loc, conf):
        return sum(multibox_loss(loc, conf, loc_targets, labels))

    loc_gradient, conf_gradient = jax.jit(jax.grad(total, (0, 1)))(loc, conf)
    positive = np.asarray(labels) > 0
    expected_loc = np.clip(loc - loc_targets, -1, 1) * positive[..., None] / positive.sum()
    np.testing.assert_allclose(loc_gradient, expected_loc, rtol=1e-5, atol=1e-7)

    logits = np.asarray(conf, np.float64)
    softmax = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    taken = positive.copy()
    for i in range(len(logits)):
        difficulty = -np.log(softmax[i, :, 0])
        taken[i, list(reference.mine(difficulty, ~positive[i], 3 * positive[i].sum()))] = True
    expected_conf = (softmax - np.eye(5)[labels]) * taken[..., None] / positive.sum()
    np.testing.assert_allclose(conf_gradient, expected_conf, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("positive_rate", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("scale", [0.0, 1e4, 1e30])
def test_gradients_are_finite(scale, positive_rate):
    loc, conf, loc_targets, labels = random_batch(0, positive_rate=positive_rate)

    def total(loc, conf):
        return sum(multibox_loss(loc, conf, loc_targets, labels, min_negatives=2))

    gradients = jax.grad(total, (0, 1))(scale * loc, scale * conf)
    assert all(np.isfinite(g).all() for g in gradients)
    assert np.abs(gradients[1]).max() > 0


def test_targets_of_negatives_do_not_matter():
    loc, conf, loc_targets, labels = random_batch(0)
    garbage = jnp.where((labels > 0)[..., None], loc_targets, jnp.nan)
    assert jitted_loss(loc, conf, garbage, labels) == jitted_loss(loc, conf, loc_targets, labels)
    gradient = jax.grad(lambda loc: multibox_loss(loc, conf, garbage, labels).loc)(loc)
    assert np.isfinite(gradient).all()


def test_bfloat16_outputs_are_summed_in_float32():
    loc, conf, loc_targets, labels = random_batch(0)
    rounded_loc, rounded_conf = loc.astype(jnp.bfloat16), conf.astype(jnp.bfloat16)
    loss = jitted_loss(rounded_loc, rounded_conf, loc_targets, labels)
    assert loss.loc.dtype == loss.conf.dtype == jnp.float32
    assert_equals_reference((rounded_loc, rounded_conf, loc_targets, labels))


def test_every_row_of_the_batch_is_mined_by_itself():
    loc, conf, loc_targets, labels = random_batch(0, batch=4)
    whole = jitted_loss(loc, conf, loc_targets, labels)
    sums = np.zeros(2)
    for i in range(4):
        rows = slice(i, i + 1)
        part = jitted_loss(loc[rows], conf[rows], loc_targets[rows], labels[rows])
        sums += np.array(part) * max(1, int((labels[rows] > 0).sum()))
    np.testing.assert_allclose(whole, sums / int((labels > 0).sum()), rtol=1e-5)


def test_under_shard_map_the_loss_is_that_of_all_images():
    arrays = random_batch(0, batch=8)
    positives = jnp.sum(arrays[3] > 0).astype(jnp.float32)
    mesh = jax.sharding.Mesh(jax.devices(), ("data",))

    def of_a_device(*arrays):
        terms = multibox_terms(*arrays)
        return jax.lax.psum(jnp.stack(terms.loss(jnp.float32(1))), "data")

    rows = jax.P("data")
    sums = jax.jit(jax.shard_map(of_a_device, mesh=mesh, in_specs=(rows,) * 4, out_specs=jax.P()))
    np.testing.assert_allclose(sums(*arrays) / positives, jitted_loss(*arrays), rtol=1e-5)
