import functools

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ssd_jax import matching
from ssd_jax.boxes import center_to_corner, pairwise_iou
from ssd_jax.matching import match
from ssd_jax.priors import VOC300, prior_boxes
from tests.reference import boxes as reference_boxes
from tests.reference import matching as reference

NUM_TRUTHS = 6
REFERENCES = {"greedy": reference.greedy, "argmax": reference.argmax}

# Corners on multiples of 1/8, so that IoUs are quotients of small integers: equal ones are equal in
# float32 and in Python, different ones are different in both, and ties are frequent.
GRID_PRIORS = np.array(
    [
        [(j + 0.5) / 4, (i + 0.5) / 4, width, height]
        for i in range(4)
        for j in range(4)
        for width, height in [(0.25, 0.25), (0.5, 0.5), (0.5, 0.25)]
    ],
    np.float32,
)
grid_truths = hnp.arrays(np.int32, (NUM_TRUTHS, 4), elements=st.integers(0, 16)).map(
    lambda units: (np.sort(units.reshape(-1, 2, 2), axis=1).reshape(-1, 4) / 16).astype(np.float32)
)


@functools.partial(jax.jit, static_argnames=("threshold", "bipartite"))
def jitted_match(boxes, labels, priors, *, threshold=0.5, bipartite="greedy"):
    return match(boxes, labels, priors, threshold=threshold, bipartite=bipartite)


def iou_table(boxes, priors):
    corners = [reference_boxes.corners(prior) for prior in priors]
    return [[reference_boxes.iou(box, corner) for corner in corners] for box in boxes.tolist()]


def assert_matches(boxes, priors, *, threshold=0.5, bipartite="greedy", ignored=()):
    """Every box gets a label of its own, so that the labels tell which box a prior was given.

    The ignored ones have the label -1.
    """
    labels = np.arange(1, len(boxes) + 1, dtype=np.int32)
    labels[list(ignored)] = -1
    loc_targets, label_targets = jitted_match(
        jnp.asarray(boxes),
        jnp.asarray(labels),
        jnp.asarray(priors),
        threshold=threshold,
        bipartite=bipartite,
    )
    expected = REFERENCES[bipartite](iou_table(boxes, priors), threshold, ignored)
    assert label_targets.dtype == jnp.int32
    np.testing.assert_array_equal(label_targets, [labels[n] if n >= 0 else 0 for n in expected])
    expected_loc = [
        reference_boxes.encode(boxes[n], prior, (0.1, 0.2))
        if n >= 0 and n not in ignored
        else (0, 0, 0, 0)
        for n, prior in zip(expected, priors, strict=True)
    ]
    np.testing.assert_allclose(loc_targets, expected_loc, rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=80)
@given(grid_truths, st.sampled_from(["greedy", "argmax"]), st.sampled_from([0.5, 0.25]))
def test_match_equals_the_literal_loops(boxes, bipartite, threshold):
    assert_matches(boxes, GRID_PRIORS, threshold=threshold, bipartite=bipartite)


@settings(deadline=None, max_examples=80)
@given(
    grid_truths,
    st.sets(st.integers(0, NUM_TRUTHS - 1)),
    st.sampled_from(["greedy", "argmax"]),
    st.sampled_from([0.5, 0.25]),
)
def test_match_beside_ignored_objects_equals_the_literal_loops(
    boxes, ignored, bipartite, threshold
):
    assert_matches(
        boxes, GRID_PRIORS, threshold=threshold, bipartite=bipartite, ignored=sorted(ignored)
    )


@settings(deadline=None, max_examples=40)
@given(grid_truths, grid_truths, st.sampled_from(["greedy", "argmax"]))
def test_an_ignored_object_only_turns_targets_into_ignored_ones(boxes, ignored_boxes, bipartite):
    labels = np.arange(1, NUM_TRUTHS + 1, dtype=np.int32)
    alone = jitted_match(
        jnp.asarray(boxes), jnp.asarray(labels), jnp.asarray(GRID_PRIORS), bipartite=bipartite
    )
    beside = jitted_match(
        jnp.asarray(np.concatenate([boxes, ignored_boxes])),
        jnp.asarray(np.concatenate([labels, np.full(NUM_TRUTHS, -1, np.int32)])),
        jnp.asarray(GRID_PRIORS),
        bipartite=bipartite,
    )
    changed = np.asarray(beside[1]) != np.asarray(alone[1])
    assert np.all(np.asarray(beside[1])[changed] == -1)
    # Every ground truth keeps the prior that it took for its best.
    overlaps = iou_table(boxes, GRID_PRIORS)
    impossible = 2.0  # as a threshold: then only those priors are matched
    for n, own in ((n, p) for p, n in enumerate(REFERENCES[bipartite](overlaps, impossible))):
        if n >= 0:
            assert beside[1][own] == labels[n]


@pytest.mark.parametrize("bipartite", ["greedy", "argmax"])
@pytest.mark.parametrize("seed", range(3))
def test_match_on_the_priors_of_ssd300(seed, bipartite):
    rng = np.random.default_rng(seed)
    centers, sides = rng.uniform(0.2, 0.8, (NUM_TRUTHS, 2)), rng.uniform(0.15, 0.6, (NUM_TRUTHS, 2))
    boxes = np.concatenate([centers - sides / 2, centers + sides / 2], -1).astype(np.float32)
    assert_matches(boxes, prior_boxes(VOC300), bipartite=bipartite)


@pytest.mark.parametrize("bipartite", ["greedy", "argmax"])
def test_crowded_truths_take_several_rounds(bipartite):
    # All want the same few priors: nearly equal boxes in one place.
    rng = np.random.default_rng(0)
    boxes = np.array([0.25, 0.25, 0.5, 0.5]) + rng.integers(-2, 3, (20, 4)) / 64
    assert_matches(boxes.astype(np.float32), GRID_PRIORS, bipartite=bipartite)


@pytest.mark.parametrize("bipartite", ["greedy", "argmax"])
@pytest.mark.parametrize("spread", [0.02, 0.3])
def test_many_truths_over_many_priors(spread, bipartite):
    # Crowded, their best priors are taken again and again, and the next best are elsewhere.
    rng = np.random.default_rng(0)
    centers = rng.uniform(0.5 - spread, 0.5 + spread, (60, 2))
    sides = rng.uniform(0.3 - spread / 2, 0.3 + spread / 2, (60, 2))
    boxes = np.concatenate([centers - sides / 2, centers + sides / 2], -1).astype(np.float32)
    labels = np.arange(1, 61, dtype=np.int32)
    labels[::4] = -1
    priors = jnp.asarray(prior_boxes(VOC300)[::16])
    # A table in float32: some of its overlaps are equal, or nearly, and differ in Python's floats.
    overlaps = np.asarray(jax.jit(pairwise_iou)(jnp.asarray(boxes), center_to_corner(priors)))
    expected = REFERENCES[bipartite](overlaps.tolist(), 0.5, range(0, 60, 4))
    _, label_targets = jitted_match(
        jnp.asarray(boxes), jnp.asarray(labels), priors, bipartite=bipartite
    )
    np.testing.assert_array_equal(label_targets, [labels[n] if n >= 0 else 0 for n in expected])


# Two priors side by side, and two boxes that both overlap the first one most: A is the prior
# itself, B has IoU .6 with it (.375 / .625) and 1/7 with the second (.125 / .875).
TWO_PRIORS = jnp.array([[0.25, 0.5, 0.5, 1.0], [0.75, 0.5, 0.5, 1.0]])
BOX_A, BOX_B = [0.0, 0.0, 0.5, 1.0], [0.125, 0.0, 0.625, 1.0]


@pytest.mark.parametrize(
    ("order", "bipartite", "expected"),
    [
        ([(BOX_A, 7), (BOX_B, 9)], "greedy", [7, 9]),
        ([(BOX_B, 9), (BOX_A, 7)], "greedy", [7, 9]),
        ([(BOX_A, 7), (BOX_B, 9)], "argmax", [9, 0]),  # A has lost its prior
        ([(BOX_B, 9), (BOX_A, 7)], "argmax", [7, 0]),  # B has
    ],
)
def test_two_truths_want_one_prior(order, bipartite, expected):
    boxes, labels = zip(*order, strict=True)
    _, label_targets = match(
        jnp.array(boxes), jnp.array(labels, jnp.int32), TWO_PRIORS, bipartite=bipartite
    )
    np.testing.assert_array_equal(label_targets, expected)


@pytest.mark.parametrize("bipartite", ["greedy", "argmax"])
def test_a_prior_is_ignored_where_an_ignored_object_fits_best(bipartite):
    # B has IoU .6 with the first prior, .14 with the second; A is the first prior itself.
    def label_targets(*objects):
        boxes, labels = zip(*objects, strict=True)
        boxes, labels = jnp.array(boxes), jnp.array(labels, jnp.int32)
        return match(boxes, labels, TWO_PRIORS, bipartite=bipartite)[1].tolist()

    assert label_targets((BOX_B, -1)) == [-1, 0]
    assert label_targets((BOX_B, -1), (BOX_A, 7)) == [7, -1 if bipartite == "greedy" else 0]
    # A's ignored twin fits the prior better than B, but the prior is the best that B has.
    assert label_targets((BOX_A, -1), (BOX_B, 9)) == [9, 0]
    # B's best prior is the first, where the ignored A fits better: B's only other one is below .5.
    assert label_targets((BOX_B, 9), (BOX_A, -1)) == [9, 0]


def test_equal_truths_take_priors_in_order():
    # Four equal boxes over four priors, IoU 1/4 with each: lowest prior, lowest ground truth first.
    priors = jnp.array([[x, y, 0.5, 0.5] for y in (0.25, 0.75) for x in (0.25, 0.75)])
    boxes = jnp.broadcast_to(jnp.array([0.0, 0.0, 1.0, 1.0]), (4, 4))
    _, label_targets = match(boxes, jnp.array([4, 3, 2, 1], jnp.int32), priors)
    np.testing.assert_array_equal(label_targets, [4, 3, 2, 1])


def test_more_truths_than_priors():
    boxes = jnp.array([BOX_B, BOX_A, BOX_A, BOX_B])
    _, label_targets = match(boxes, jnp.array([1, 2, 3, 4], jnp.int32), TWO_PRIORS)
    np.testing.assert_array_equal(label_targets, [2, 1])  # the first of each pair of equals


def test_an_iou_equal_to_the_threshold_matches():
    # The box is the whole image: IoU 1/2 with either prior; one is forced, the other reaches .5.
    whole, labels = jnp.array([[0.0, 0.0, 1.0, 1.0]]), jnp.array([3], jnp.int32)
    np.testing.assert_array_equal(match(whole, labels, TWO_PRIORS)[1], [3, 3])
    np.testing.assert_array_equal(match(whole, labels, TWO_PRIORS, threshold=0.51)[1], [3, 0])


def test_variances_divide_the_targets():
    boxes, labels = jnp.array([BOX_B]), jnp.array([1], jnp.int32)
    loc_targets, _ = match(boxes, labels, TWO_PRIORS, variances=(1.0, 1.0))
    np.testing.assert_allclose(loc_targets, [[0.25, 0, 0, 0], [0, 0, 0, 0]])
    loc_targets, _ = match(boxes, labels, TWO_PRIORS)
    np.testing.assert_allclose(loc_targets, [[2.5, 0, 0, 0], [0, 0, 0, 0]], rtol=1e-6)


def test_greedy_takes_no_prior_below_caffes_least_overlap():
    # Area 1e-8 within a prior of area .5: IoU 2e-8.
    boxes, labels = jnp.array([[0.1, 0.1, 0.1001, 0.1001]]), jnp.array([1], jnp.int32)
    np.testing.assert_array_equal(match(boxes, labels, TWO_PRIORS)[1], [0, 0])
    np.testing.assert_array_equal(match(boxes, labels, TWO_PRIORS, bipartite="argmax")[1], [1, 0])


@pytest.mark.parametrize("bipartite", ["greedy", "argmax"])
@pytest.mark.parametrize(
    "boxes",
    [
        [[0.0, 0.0, 0.0, 0.0]],
        [[0.25, 0.0, 0.25, 1.0]],
        [[0.5, 1.0, 0.0, 0.0]],
        [[2.0, 2.0, 3.0, 3.0]],
    ],
    ids=["point", "line", "corners not in order", "outside"],
)
def test_a_truth_without_area_or_overlap_matches_nothing(boxes, bipartite):
    for threshold in (0.5, 1e-6):
        loc_targets, label_targets = match(
            jnp.array(boxes),
            jnp.array([5], jnp.int32),
            TWO_PRIORS,
            threshold=threshold,
            bipartite=bipartite,
        )
        np.testing.assert_array_equal(label_targets, [0, 0])
        np.testing.assert_array_equal(loc_targets, np.zeros((2, 4)))


@pytest.mark.parametrize("bipartite", ["greedy", "argmax"])
def test_no_ground_truth_at_all(bipartite):
    boxes = jnp.broadcast_to(jnp.array(BOX_A), (NUM_TRUTHS, 4))  # padding need not be zeros
    labels = jnp.zeros(NUM_TRUTHS, jnp.int32)
    for slots in (NUM_TRUTHS, 0):
        loc_targets, label_targets = match(
            boxes[:slots], labels[:slots], TWO_PRIORS, bipartite=bipartite
        )
        np.testing.assert_array_equal(label_targets, [0, 0])
        np.testing.assert_array_equal(loc_targets, np.zeros((2, 4)))


@settings(deadline=None, max_examples=40)
@given(
    grid_truths,
    grid_truths,
    st.permutations(range(2 * NUM_TRUTHS)),
    st.sampled_from(["greedy", "argmax"]),
)
def test_padding_anywhere_changes_nothing(boxes, padding_boxes, order, bipartite):
    labels = np.arange(1, NUM_TRUTHS + 1, dtype=np.int32)
    slots = np.sort(order[:NUM_TRUTHS])  # the truths keep their order, padding lies between
    padded_boxes = np.tile(padding_boxes, (2, 1))
    padded_labels = np.zeros(2 * NUM_TRUTHS, np.int32)
    padded_boxes[slots], padded_labels[slots] = boxes, labels
    expected = jitted_match(
        jnp.asarray(boxes), jnp.asarray(labels), jnp.asarray(GRID_PRIORS), bipartite=bipartite
    )
    padded = jitted_match(
        jnp.asarray(padded_boxes),
        jnp.asarray(padded_labels),
        jnp.asarray(GRID_PRIORS),
        bipartite=bipartite,
    )
    np.testing.assert_array_equal(padded[1], expected[1])
    np.testing.assert_allclose(padded[0], expected[0], rtol=1e-6)


@pytest.mark.parametrize("bipartite", ["greedy", "argmax"])
def test_a_batch_equals_its_images_one_by_one(bipartite):
    rng = np.random.default_rng(0)
    corners = np.sort(rng.integers(0, 17, (8, NUM_TRUTHS, 2, 2)), axis=2) / 16
    boxes = jnp.asarray(corners.reshape(8, NUM_TRUTHS, 4), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 4, (8, NUM_TRUTHS)), jnp.int32).at[3].set(0)
    priors = jnp.asarray(GRID_PRIORS)
    one_image = functools.partial(match, bipartite=bipartite)
    loc_targets, label_targets = jax.jit(jax.vmap(one_image, (0, 0, None)))(boxes, labels, priors)
    assert (label_targets > 0).any(axis=1).tolist() == [i != 3 for i in range(8)]
    for i in range(8):
        expected_loc, expected_labels = jitted_match(
            boxes[i], labels[i], priors, bipartite=bipartite
        )
        np.testing.assert_array_equal(label_targets[i], expected_labels)
        np.testing.assert_allclose(loc_targets[i], expected_loc, rtol=1e-5, atol=1e-6)


def test_labels_of_other_integer_types_give_int32():
    _, label_targets = match(jnp.array([BOX_A]), jnp.array([3], jnp.int16), TWO_PRIORS)
    assert label_targets.dtype == jnp.int32
    np.testing.assert_array_equal(label_targets, [3, 0])


def test_of_equal_boxes_each_gets_a_prior_whatever_the_last_bits_are(monkeypatch):
    """Two kernels may round one overlap differently: here each thinks that its own is higher."""

    def own_is_higher(a, b):
        overlap = iou(a, b)
        return overlap * (1 + 2.0**-20) if overlap.shape == (4,) else overlap

    iou = matching.iou
    monkeypatch.setattr(matching, "iou", own_is_higher)
    boxes = np.array([[0.1, 0.1, 0.38, 0.35]] * 2 + [[0.5, 0.5, 0.93, 0.8]] * 2, np.float32)
    labels = np.arange(1, 5, dtype=np.int32)
    priors = jnp.asarray(GRID_PRIORS)
    _, targets = match(jnp.asarray(boxes), jnp.asarray(labels), priors, threshold=2.0)
    expected = reference.greedy(iou_table(boxes, GRID_PRIORS), 2.0)
    np.testing.assert_array_equal(targets, [labels[n] if n >= 0 else 0 for n in expected])
    assert sorted(targets[targets > 0].tolist()) == [1, 2, 3, 4]


@pytest.mark.parametrize("bipartite", ["greedy", "argmax"])
def test_arrays_of_numpy_may_be_constants_of_what_is_jitted(bipartite, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # that would ask for JAX's
    boxes = np.array([BOX_A, [0.5, 0.5, 1, 1]], np.float32)
    labels = np.array([3, 1], np.int32)
    expected = match(jnp.asarray(boxes), jnp.asarray(labels), TWO_PRIORS, bipartite=bipartite)
    for ours in (
        jax.jit(lambda priors: match(boxes, labels, priors, bipartite=bipartite))(TWO_PRIORS),
        jax.jit(lambda x: match(x, labels, np.asarray(TWO_PRIORS), bipartite=bipartite))(boxes),
    ):
        jax.tree.map(np.testing.assert_array_equal, ours, expected)


@pytest.mark.parametrize("bipartite", ["greedy", "argmax"])
def test_under_shard_map_a_batch_is_matched_as_without(bipartite):
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(0, 1, (8, NUM_TRUTHS, 2, 2)), axis=2).astype(np.float32)
    batch = corners.reshape(8, NUM_TRUTHS, 4), rng.integers(0, 4, (8, NUM_TRUTHS)).astype(np.int32)
    matched = jax.vmap(lambda *one: match(*one, jnp.asarray(GRID_PRIORS), bipartite=bipartite))
    mesh = jax.sharding.Mesh(jax.devices(), ("data",))
    rows = jax.P("data")
    shared = jax.shard_map(matched, mesh=mesh, in_specs=(rows, rows), out_specs=(rows, rows))
    jax.tree.map(
        lambda ours, alone: np.testing.assert_allclose(ours, alone, rtol=1e-5, atol=1e-6),
        jax.jit(shared)(*batch),
        jax.jit(matched)(*batch),
    )
