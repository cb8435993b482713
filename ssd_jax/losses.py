"""The MultiBox loss: smooth L1 on offsets, cross-entropy on classes, hard negative mining."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int

Ratio = float | Float[Array, ""]
Count = int | Int[Array, ""]


class MultiboxLoss(NamedTuple):
    """The two terms of SSD's objective, each already divided by the number of positives."""

    loc: Float[Array, ""]
    conf: Float[Array, ""]


def smooth_l1(differences: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """x^2 / 2 where |x| < 1, else |x| - 1/2 (Fast R-CNN, arXiv 1504.08083, equation 3)."""
    absolute = jnp.abs(differences)
    quadratic = jnp.where(absolute < 1, absolute, 1)
    # One expression for both branches: no square of a large difference that might overflow.
    return quadratic * (absolute - quadratic / 2)


def hard_negative_mask(
    difficulty: Float[Array, "P"], candidates: Bool[Array, "P"], count: Int[Array, ""]
) -> Bool[Array, "P"]:
    """The `count` most difficult of the candidates of one image; all where there are fewer.

    Exact: as sorting by falling difficulty, a tie going to the lowest index. Instead of a sort, the
    difficulty of the last one taken is found by a search over the bits of the floats, which for
    non-negative floats are ordered as the floats are: bit by bit on a CPU, four at a time on a GPU,
    where a pass over the priors costs next to nothing and starting it does.

    Args:
        difficulty: at least 0; a rounding error below it counts as 0, NaN as above all numbers.
        candidates: the priors that may be taken.
        count: how many to take.
    """
    bits = jax.lax.bitcast_convert_type(difficulty.astype(jnp.float32), jnp.int32)
    # A NaN may have the sign bit, as x86 makes them: its bits are then a negative number.
    ranks = jnp.where(jnp.isnan(difficulty), jnp.iinfo(jnp.int32).max, jnp.maximum(bits, 0))
    ranks = jnp.where(candidates, ranks, -1)
    return jax.lax.platform_dependent(
        ranks,
        count,
        cuda=functools.partial(_highest, bits_at_once=4),
        rocm=functools.partial(_highest, bits_at_once=4),
        default=functools.partial(_highest, bits_at_once=1),
    )


def _highest(
    ranks: Int[Array, "P"], count: Int[Array, ""], *, bits_at_once: int
) -> Bool[Array, "P"]:
    """The `count` highest ranks, ties by index; a negative rank is never among them."""
    last_taken = _largest(31, lambda rank: _count(ranks >= rank) >= count, bits_at_once)
    harder, ties = ranks > last_taken, ranks == last_taken
    places = jnp.arange(ranks.size, 0, -1, dtype=jnp.int32)  # the lowest index ranks highest
    missing = count - _count(harder)
    last_tie = _largest(
        ranks.size.bit_length(),
        lambda place: _count(ties & (places >= place)) >= missing,
        bits_at_once,
    )
    return harder | (ties & (places >= last_tie))


def _largest(
    num_bits: int, holds: Callable[[Int[Array, ""]], Bool[Array, ""]], bits_at_once: int
) -> Int[Array, ""]:
    """The largest number of `num_bits` bits for which a falling condition holds, or 0.

    Args:
        num_bits: 31 at most; rounded up to a multiple of `bits_at_once`.
        holds: true up to some number and false above it.
        bits_at_once: 1, 2 or 4: how many are found at once, the highest first.
    """
    digits = jnp.arange(1, 2**bits_at_once, dtype=jnp.int32)
    steps = -(-num_bits // bits_at_once)

    def refine(step: Int[Array, ""], bound: Int[Array, ""]) -> Int[Array, ""]:
        shift = bits_at_once * (steps - 1 - step)
        raised = bound | (digits << shift)
        # What overflows, in the highest digit, is negative.
        held = jax.vmap(holds)(raised) & (raised > bound)
        return bound | (jnp.sum(held, dtype=jnp.int32) << shift)

    # Like what is counted, which `jax.shard_map` tells from a constant.
    nothing = jnp.zeros_like(holds(jnp.int32(0)), jnp.int32)
    # Unrolled where there are few steps: a GPU's loop starts kernels of its own.
    return jax.lax.fori_loop(0, steps, refine, nothing, unroll=bits_at_once > 1)


def _count(mask: Bool[Array, "P"]) -> Int[Array, ""]:
    """How many are true. XLA vectorises sums of floats on a CPU; they are exact up to 2^24."""
    return jnp.sum(mask, dtype=jnp.float32).astype(jnp.int32)


class MultiboxTerms(NamedTuple):
    """What each prior adds to the two sums of SSD's objective.

    Attributes:
        loc: smooth L1 of each offset of the positives, 0 of all else.
        conf: cross-entropy of the positives and the mined negatives, 0 of all else.
        negatives: the priors that were mined.
    """

    loc: Float[Array, "*B P 4"]
    conf: Float[Array, "*B P"]
    negatives: Bool[Array, "*B P"]

    def loss(self, normalizer: Float[Array, ""]) -> MultiboxLoss:
        """The sums over all priors, divided by what `loss_normalizer` gives."""
        divisor = normalizer.astype(self.conf.dtype)
        return MultiboxLoss(jnp.sum(self.loc) / divisor, jnp.sum(self.conf) / divisor)


def _image_terms(
    loc: Float[Array, "P 4"],
    conf: Float[Array, "P C"],
    loc_targets: Float[Array, "P 4"],
    label_targets: Int[Array, "P"],
    *,
    neg_pos_ratio: Ratio,
    min_negatives: Count,
) -> MultiboxTerms:
    """The terms of one image."""
    positives = label_targets > 0
    wanted = _wanted_negatives(jnp.sum(positives), neg_pos_ratio, min_negatives)

    log_sum = jax.nn.logsumexp(conf, axis=-1)
    against_background = jax.lax.stop_gradient(log_sum - conf[:, 0])
    negatives = hard_negative_mask(against_background, label_targets == 0, wanted)
    differences = jnp.where(positives[:, None], loc - loc_targets, 0)
    return MultiboxTerms(
        loc=smooth_l1(differences),
        conf=_cross_entropy(conf, log_sum, jnp.maximum(label_targets, 0), positives | negatives),
        negatives=negatives,
    )


def _wanted_negatives(
    num_positives: Int[Array, "*B"],
    neg_pos_ratio: Ratio,
    min_negatives: Count,
) -> Int[Array, "*B"]:
    """How many negatives an image is to have, if there are so many."""
    wanted = jnp.floor(neg_pos_ratio * num_positives.astype(jnp.float32)).astype(jnp.int32)
    return jnp.maximum(wanted, min_negatives)


@jax.custom_jvp
def _cross_entropy(
    logits: Float[Array, "P C"],
    log_sum: Float[Array, "P"],
    target: Int[Array, "P"],
    counts: Bool[Array, "P"],
) -> Float[Array, "P"]:
    """-log softmax(logits)[target] of the priors that count, 0 of the others.

    `log_sum` is the logits' logsumexp, whose part in the derivative is seen to here; its own
    derivative counts in the second.
    """
    of_target = jnp.take_along_axis(logits, target[:, None], axis=-1)[:, 0]
    return jnp.where(counts, log_sum - of_target, 0)


@_cross_entropy.defjvp
def _cross_entropy_jvp(
    primals: tuple[Array, ...], tangents: tuple[Array, ...]
) -> tuple[Array, Array]:
    """Softmax, less one at the target.

    JAX's own derivative would be a scatter, and XLA would compute the softmax of all priors; with
    the selection here, it can skip those that do not count.
    """
    logits, log_sum, target, counts = primals
    is_target = target[:, None] == jnp.arange(logits.shape[1])[None, :]
    slope = jnp.exp(logits - log_sum[:, None]) - is_target.astype(logits.dtype)
    slope = jnp.where(counts[:, None], slope, 0)
    return _cross_entropy(*primals), jnp.sum(slope * tangents[0], axis=-1)


def multibox_terms(
    loc: Float[Array, "B P 4"],
    conf: Float[Array, "B P C"],
    loc_targets: Float[Array, "B P 4"],
    label_targets: Int[Array, "B P"],
    *,
    neg_pos_ratio: Ratio = 3.0,
    min_negatives: Count = 0,
) -> MultiboxTerms:
    """The terms that `multibox_loss` sums, at least in float32; arguments as there."""
    dtype = np.promote_types(np.promote_types(loc.dtype, conf.dtype), np.float32)
    image_terms = functools.partial(
        _image_terms, neg_pos_ratio=neg_pos_ratio, min_negatives=min_negatives
    )
    return jax.vmap(image_terms)(
        loc.astype(dtype), conf.astype(dtype), loc_targets.astype(dtype), label_targets
    )


def loss_normalizer(
    label_targets: Int[Array, "B P"],
    *,
    neg_pos_ratio: Ratio = 3.0,
    min_negatives: Count = 0,
) -> Float[Array, ""]:
    """What a batch's sums are divided by: its positives, 1 at least.

    Where images have negatives without positives (`min_negatives`), it is as many positives as
    would have brought that many: else the few objects of a batch would give a huge step. At a ratio
    of 0 no positives bring any, and all that were mined count.
    """
    positives = jnp.sum(label_targets > 0, axis=1)
    wanted = _wanted_negatives(positives, neg_pos_ratio, min_negatives)
    mined = jnp.sum(jnp.minimum(wanted, jnp.sum(label_targets == 0, axis=1)))
    ratio = jnp.asarray(neg_pos_ratio, jnp.float32)
    brought = mined.astype(jnp.float32) / jnp.where(ratio > 0, ratio, 1)
    count = jnp.sum(positives).astype(jnp.float32)
    count = jnp.where(jnp.asarray(min_negatives) > 0, jnp.maximum(count, brought), count)
    return jnp.maximum(count, 1)


def multibox_loss(
    loc: Float[Array, "B P 4"],
    conf: Float[Array, "B P C"],
    loc_targets: Float[Array, "B P 4"],
    label_targets: Int[Array, "B P"],
    *,
    neg_pos_ratio: Ratio = 3.0,
    min_negatives: Count = 0,
) -> MultiboxLoss:
    """SSD's training objective (section 2.2, equations 1 to 3), at least in float32.

    Smooth L1 over positives, and cross-entropy over positives and the negatives that are hardest
    to tell from an object: those of highest cross-entropy against background, up to
    `neg_pos_ratio` times the positives of their image (section 2.2, hard negative mining).

    Args:
        loc: predicted offsets.
        conf: class logits, background first.
        loc_targets: offsets to reach; only those of positives count.
        label_targets: class of every prior, below C (else the loss is NaN); 0 is a negative, -1 a
            prior to ignore.
        neg_pos_ratio: negatives taken for each positive of an image, rounded down.
        min_negatives: negatives taken at least, also from an image without any positive.

    Returns:
        The two terms, each a sum over the batch divided by max(1, positives of the batch), or with
        `min_negatives` by the `loss_normalizer`.
    """
    terms = multibox_terms(
        loc,
        conf,
        loc_targets,
        label_targets,
        neg_pos_ratio=neg_pos_ratio,
        min_negatives=min_negatives,
    )
    normalizer = loss_normalizer(
        label_targets, neg_pos_ratio=neg_pos_ratio, min_negatives=min_negatives
    )
    return terms.loss(normalizer)
