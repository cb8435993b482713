"""Matching: which prior is trained to predict which ground truth (SSD, section 2.2)."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from ssd_jax.boxes import center_to_corner, encode, pairwise_iou

Bipartite = Literal["greedy", "argmax"]

SMALLEST_OVERLAP = 1e-6
"""Caffe's least IoU of a ground truth and the prior that it takes for its own."""


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
        boxes: ground truth in corner form, relative to the image.
        labels: class of every box; 0 marks padding, -1 an object to ignore. Padding and boxes
            without area match nothing. An object to ignore takes priors as ground truth does, but
            none that ground truth takes for its best; those it takes are no negatives either.
        priors: centre form.
        threshold: least IoU of the second stage, above 0.
        variances: as for `encode`.
        bipartite: 'greedy', Caffe's: the pair with the highest IoU first, both are removed, and so
            on (a tie goes to the lowest prior, then to the lowest ground truth), so that no ground
            truth loses its prior to another; or 'argmax', ssd.pytorch's: every ground truth takes
            its best prior, and one that several want goes to the last of them.

    Returns:
        (loc_targets, label_targets): offsets, 0 for all but positives; class as int32, 0 for a
        negative, -1 for a prior that is neither positive nor negative.
    """
    overlaps = pairwise_iou(boxes, center_to_corner(priors))  # 0 where a box has no area
    overlaps = jnp.where((labels != 0)[:, None], overlaps, -1)
    # Compared for equality from here on: XLA must not compute them anew, rounded otherwise.
    overlaps = jax.lax.optimization_barrier(overlaps)
    best_overlap, best_truth = _max_and_first(overlaps, axis=0)

    take_best_priors = {"greedy": _greedy_priors, "argmax": _best_priors}[bipartite]
    untaken = jnp.full(priors.shape[0], -1, jnp.int32)
    taken_by = take_best_priors(overlaps, labels > 0, untaken)
    taken_by = take_best_priors(overlaps, labels < 0, taken_by)

    forced = taken_by >= 0
    truth = jnp.where(forced, taken_by, best_truth)
    matched = forced | (best_overlap >= threshold)
    label_targets = jnp.where(matched, labels[truth].astype(jnp.int32), 0)
    positive = label_targets > 0
    loc_targets = jnp.where(positive[:, None], encode(boxes[truth], priors, variances), 0)
    return loc_targets, label_targets


def _max_and_first(
    values: Float[Array, "R S"], axis: int
) -> tuple[Float[Array, "_"], Int[Array, "_"]]:
    """Maximum along an axis, and the lowest index where it is reached.

    Two plain reductions: XLA's argmax on the CPU is a scalar loop, several times slower.
    """
    best = jnp.max(values, axis=axis, keepdims=True)
    index = jax.lax.broadcasted_iota(jnp.int32, values.shape, axis)
    first = jnp.min(jnp.where(values == best, index, values.shape[axis]), axis=axis)
    return jnp.squeeze(best, axis), first


def _best_priors(
    overlaps: Float[Array, "N P"], waiting: Bool[Array, "N"], taken_by: Int[Array, "P"]
) -> Int[Array, "P"]:
    """`taken_by` after the waiting boxes took their best priors: ssd.pytorch's rule.

    A box whose best prior is taken already goes without.
    """
    num_truths, num_priors = overlaps.shape
    best_overlap, best_prior = _max_and_first(overlaps, axis=1)
    best_prior = jnp.where(waiting & (best_overlap > 0), best_prior, num_priors)
    # The maximum makes the last one win: with `set`, duplicate indices have no defined winner.
    taken_now = (
        jnp.full(num_priors, -1, jnp.int32)
        .at[best_prior]
        .max(jnp.arange(num_truths, dtype=jnp.int32), mode="drop")
    )
    return jnp.where(taken_by >= 0, taken_by, taken_now)


def _greedy_priors(
    overlaps: Float[Array, "N P"], waiting: Bool[Array, "N"], taken_by: Int[Array, "P"]
) -> Int[Array, "P"]:
    """`taken_by` (-1: free) after the waiting boxes took their best free priors: Caffe's rule.

    In rounds: each ground truth without a prior names its best free prior, and gets it if it is
    also that prior's best among the ground truths without one. Such a pair beats every other that
    either could be in, so that greedy picks it too, in whatever order; one or two rounds are usual,
    and every round makes at least the pair with the highest IoU of all.
    """
    num_truths, num_priors = overlaps.shape
    truths = jnp.arange(num_truths, dtype=jnp.int32)

    def searching(state: tuple[Int[Array, "P"], Bool[Array, "N"]]) -> Bool[Array, ""]:
        return jnp.any(state[1])

    def match_mutual_bests(
        state: tuple[Int[Array, "P"], Bool[Array, "N"]],
    ) -> tuple[Int[Array, "P"], Bool[Array, "N"]]:
        taken_by, unmatched = state
        free = jnp.where((taken_by < 0)[None, :], overlaps, -1)
        best_overlap, best_prior = _max_and_first(free, axis=1)
        unmatched = unmatched & (best_overlap > SMALLEST_OVERLAP)
        # Only the priors that are named matter: [rival, the n-th's named prior].
        rivals = jnp.where(unmatched[:, None], overlaps[:, best_prior], -1)
        _, winner = _max_and_first(rivals, axis=0)
        matched = unmatched & (winner == truths)
        # Out of range, and so dropped, for the rest: indices stay unique.
        index = jnp.where(matched, best_prior, num_priors + truths)
        taken_by = taken_by.at[index].set(truths, mode="drop", unique_indices=True)
        return taken_by, unmatched & ~matched

    taken_by, _ = jax.lax.while_loop(searching, match_mutual_bests, (taken_by, waiting))
    return taken_by
