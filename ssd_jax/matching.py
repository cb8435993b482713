"""Matching: which prior is trained to predict which ground truth (SSD, section 2.2)."""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int

from ssd_jax.boxes import center_to_corner, encode, iou, sides_and_area

Bipartite = Literal["greedy", "argmax"]

SMALLEST_OVERLAP = 1e-6
"""Caffe's least IoU of a ground truth and the prior that it takes for its own."""

BLOCK = 16
"""Priors that the search for a ground truth's best prior tells apart only where it has to."""


def match(
    boxes: Float[Array, "N 4"],
    labels: Int[Array, "N"],
    priors: Float[Array, "P 4"],
    *,
    threshold: float = 0.5,
    variances: tuple[float, float] = (0.1, 0.2),
    bipartite: Bipartite = "greedy",
) -> tuple[Float[Array, "P 4"], Int[Array, "P"]]:
    """Give every prior of one image its target (SSD, section 2.2, matching strategy).

    First each ground truth takes its best prior, then every prior that is left takes the ground
    truth that it overlaps most, if their IoU is at least `threshold`.

    Args:
        boxes: ground truth in corner form, relative to the image (in pixels they would match
            nonsense without a word); N may be 0.
        labels: class of every box; 0 marks padding, -1 an object to ignore. Padding and boxes
            without area match nothing. An object to ignore takes priors as ground truth does, but
            none that ground truth takes for its best; those it takes are no negatives either.
        priors: centre form.
        threshold: least IoU of the second stage, above 0.
        variances: as for `encode`; of a `PriorSpec` its `variances`, which the priors do not tell.
        bipartite: 'greedy', Caffe's: the pair with the highest IoU first, both are removed, and so
            on (a tie goes to the lowest prior, then to the lowest ground truth), so that no ground
            truth loses its prior to another; or 'argmax', ssd.pytorch's: every ground truth takes
            its best prior, and one that several want goes to the last of them.

    Returns:
        (loc_targets, label_targets): offsets, 0 for all but positives; class as int32, 0 for a
        negative, -1 for a prior that is neither positive nor negative.

    Raises:
        ValueError: an unknown `bipartite`.
    """
    if bipartite not in _BEST_PRIORS:
        raise ValueError(f"bipartite is {bipartite!r}: it must be 'greedy' or 'argmax'")
    boxes, labels = jnp.asarray(boxes), jnp.asarray(labels)  # NumPy takes no traced index
    if boxes.shape[0] == 0:
        boxes, labels = jnp.zeros((1, 4), boxes.dtype), jnp.zeros(1, labels.dtype)
    # Padding becomes boxes without area, whose IoU is 0 everywhere.
    dtype = np.promote_types(boxes.dtype, priors.dtype)
    truths = _planes(jnp.where((labels != 0)[:, None], boxes, 0).astype(dtype))
    prior_planes = _planes(center_to_corner(priors).astype(dtype))
    best_overlap, best_truth = _best_truths(truths, prior_planes)
    taken_by = _BEST_PRIORS[bipartite](truths, labels, prior_planes)

    forced = taken_by >= 0
    truth = jnp.where(forced, taken_by, best_truth)
    matched = forced | (best_overlap >= threshold)
    label_targets = jnp.where(matched, labels[truth].astype(jnp.int32), 0)
    positive = label_targets > 0
    loc_targets = jnp.where(positive[:, None], encode(boxes[truth], priors, variances), 0)
    return loc_targets, label_targets


# There is no table of all overlaps: computing one anew in a vector register is several times as
# quick as fetching it. The last bit of a pair's overlap may then differ between two kernels (one
# fuses a multiplication with an addition, the other does not): nothing may rely on its being equal.


def _planes(corners: Float[Array, "M 4"]) -> Float[Array, "5 M"]:
    """The arguments of `iou`, each of them contiguous."""
    return jnp.stack(sides_and_area(corners))


def _best_truths(
    truths: Float[Array, "5 N"], priors: Float[Array, "5 P"]
) -> tuple[Float[Array, "P"], Int[Array, "P"]]:
    """The highest overlap of each prior, and the first ground truth that reaches it."""
    num_truths = truths.shape[1]

    def keep_better(
        n: Int[Array, ""], state: tuple[Float[Array, "P"], Int[Array, "P"]]
    ) -> tuple[Float[Array, "P"], Int[Array, "P"]]:
        best, truth = state
        overlap = iou(truths[:, n], priors)
        better = overlap > best
        return jnp.where(better, overlap, best), jnp.where(better, n, truth)

    # Like the overlaps, which `jax.shard_map` tells from constants.
    none = jnp.zeros_like(iou(truths[:, 0], priors))
    nothing = none, jnp.zeros_like(none, jnp.int32)
    return jax.lax.fori_loop(0, num_truths, keep_better, nothing, unroll=5)


def _blocks(priors: Float[Array, "5 P"]) -> Float[Array, "5 G S"]:
    """BLOCK consecutive priors a row; what the last one lacks has no area."""
    missing = -priors.shape[1] % BLOCK
    return jnp.pad(priors, ((0, 0), (0, missing))).reshape(5, -1, BLOCK)


def _block_maxima(
    truths: Float[Array, "5 N"], blocks: Float[Array, "5 G S"]
) -> Float[Array, "N G"]:
    """The highest overlap of each ground truth in each block."""
    # The first priors of all blocks side by side, then the second: all contiguous. By index, as
    # a transposition would only change strides.
    order = np.arange(blocks[0].size).reshape(blocks[0].shape).T
    priors = blocks.reshape(5, -1)[:, jnp.asarray(order.ravel())].reshape(5, *order.shape)
    # Written out for one kernel: as a reduction, XLA does not vectorise it on a CPU.
    return functools.reduce(
        jnp.maximum, (iou(truths[:, :, None], priors[:, i, None]) for i in range(BLOCK))
    )


def _first_maximum(values: Float[Array, "N G"]) -> tuple[Float[Array, "N"], Int[Array, "N"]]:
    """Maximum of each row, and the first index where it is reached.

    Two plain reductions: XLA's argmax on the CPU is a scalar loop, several times slower.
    """
    # Compared for equality: XLA must not compute them anew, rounded otherwise.
    values = jax.lax.optimization_barrier(values)
    best = jnp.max(values, axis=1)
    index = jnp.arange(values.shape[1], dtype=jnp.int32)[None, :]
    return best, jnp.min(jnp.where(values == best[:, None], index, values.shape[1]), axis=1)


def _best_of_block(
    truths: Float[Array, "5 N"],
    blocks: Float[Array, "5 G S"],
    free: Bool[Array, "G S"],
    block: Int[Array, "N"],
) -> tuple[Float[Array, "N"], Int[Array, "N"]]:
    """Each ground truth's highest overlap with a free prior of its block, and the first such."""
    overlaps = jnp.where(free[block], iou(truths[:, :, None], blocks[:, block]), -1)
    first = jnp.argmax(overlaps, axis=1).astype(jnp.int32)
    return jnp.max(overlaps, axis=1), block * BLOCK + first


def _best_priors(
    truths: Float[Array, "5 N"], labels: Int[Array, "N"], priors: Float[Array, "5 P"]
) -> Int[Array, "P"]:
    """The box that takes each prior for its best, -1 for none: ssd.pytorch's rule.

    A box to ignore goes without if its best prior is a ground truth's best.
    """
    num_truths, num_priors = truths.shape[1], priors.shape[1]
    blocks = _blocks(priors)
    _, block = _first_maximum(_block_maxima(truths, blocks))
    free = jnp.ones(blocks.shape[1:], bool)
    best_overlap, best_prior = _best_of_block(truths, blocks, free, block)
    best_prior = jnp.where(best_overlap > 0, best_prior, num_priors)
    # The maximum makes the last one win, and ground truth before all that is to be ignored. With
    # `set`, duplicate indices have no defined winner.
    rank = jnp.arange(num_truths, dtype=jnp.int32) + jnp.where(labels > 0, num_truths, 0)
    taken_by = jnp.full(num_priors, -1, jnp.int32).at[best_prior].max(rank, mode="drop")
    return jnp.where(taken_by < num_truths, taken_by, taken_by - num_truths)


class _Search(NamedTuple):
    """Where `_greedy_priors` stands.

    Attributes:
        taken_by: the box that has a prior of the blocks, -1 for a free one.
        waiting: boxes that may still get one.
        bounds: at least the overlap of a box with any free prior of a block.
        block: the first block of the highest bound, of each box.
    """

    taken_by: Int[Array, "Q"]
    waiting: Bool[Array, "N"]
    bounds: Float[Array, "N G"]
    block: Int[Array, "N"]


def _greedy_priors(
    truths: Float[Array, "5 N"], labels: Int[Array, "N"], priors: Float[Array, "5 P"]
) -> Int[Array, "P"]:
    """The box that takes each prior, -1 for none: Caffe's rule; ground truth first, then the rest.

    In rounds: each box without a prior names its best free prior, and gets it if it is also that
    prior's best among the boxes without one. Such a pair beats every other that either could be in,
    so that greedy picks it too, in whatever order; a few rounds are usual.

    A round computes overlaps in one block for each box, the one of its highest bound. If the bound
    that they replace was too high, as priors were taken, another block may now have the highest:
    then the box waits for the next round.
    """
    num_priors = priors.shape[1]
    numbers = jnp.arange(truths.shape[1], dtype=jnp.int32)
    blocks = _blocks(priors)

    def match_mutual_bests(search: _Search) -> _Search:
        taken_by, waiting, bounds, block = search
        free = (taken_by < 0).reshape(blocks.shape[1:])
        best, prior = _best_of_block(truths, blocks, free, block)
        is_block = jnp.arange(bounds.shape[1], dtype=jnp.int32)[None, :] == block[:, None]
        bounds = jnp.where(is_block, best[:, None], bounds)
        bound, next_block = _first_maximum(bounds)
        waiting &= bound > SMALLEST_OVERLAP
        rival = waiting & ((labels > 0) | ~jnp.any(waiting & (labels > 0)))
        # Only the priors that are named matter: [rival, the n-th's named prior].
        named = blocks.reshape(5, -1)[:, prior]
        own, others = iou(truths, named)[None, :], iou(truths[:, :, None], named[:, None])
        better = (others > own) | ((others == own) & (numbers[:, None] < numbers[None, :]))
        wins = ~jnp.any(rival[:, None] & better, axis=0)
        # The highest of all wins in any case: so the rounds end, whatever the last bits are.
        wins |= jnp.argmax(jnp.where(rival, bound, -1)) == numbers
        # One box a prior: of equal ones the first, if the last bits say that each is the best.
        earlier = (prior[:, None] == prior[None, :]) & (numbers[:, None] < numbers[None, :])
        wins &= ~jnp.any((rival & wins)[:, None] & earlier, axis=0)
        matched = rival & wins & (next_block == block)
        # Out of range, and so dropped, for the rest: indices stay unique.
        index = jnp.where(matched, prior, taken_by.size + numbers)
        taken_by = taken_by.at[index].set(numbers, mode="drop", unique_indices=True)
        return _Search(taken_by, waiting & ~matched, bounds, next_block)

    bounds = _block_maxima(truths, blocks)
    _, block = _first_maximum(bounds)
    untaken = jnp.full_like(bounds, -1, jnp.int32, shape=blocks[0].size)
    search = _Search(untaken, labels != 0, bounds, block)
    search = jax.lax.while_loop(lambda s: jnp.any(s.waiting), match_mutual_bests, search)
    return search.taken_by[:num_priors]


_BEST_PRIORS = {"greedy": _greedy_priors, "argmax": _best_priors}
