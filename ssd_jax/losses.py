"""The MultiBox loss: smooth L1 on offsets, cross-entropy on classes, hard negative mining."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int


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
    difficulty of the last one taken is found by a binary search over the bits of the floats, which
    for non-negative floats are ordered as the floats are.

    Args:
        difficulty: at least 0; a rounding error below it counts as 0, NaN as above all numbers.
        candidates: the priors that may be taken.
        count: how many to take.
    """
    bits = jax.lax.bitcast_convert_type(difficulty.astype(jnp.float32), jnp.int32)
    ranks = jnp.where(candidates, jnp.maximum(bits, 0), -1)

    def refine(step: Int[Array, ""], bound: Int[Array, ""]) -> Int[Array, ""]:
        raised = bound | (jnp.int32(1) << (30 - step))
        return jnp.where(jnp.sum(ranks >= raised) >= count, raised, bound)

    last_taken = jax.lax.fori_loop(0, 31, refine, jnp.int32(0))
    harder = ranks > last_taken
    ties = ranks == last_taken
    return harder | (ties & (jnp.cumsum(ties) <= count - jnp.sum(harder)))


def _multibox_sums(
    loc: Float[Array, "P 4"],
    conf: Float[Array, "P C"],
    loc_targets: Float[Array, "P 4"],
    label_targets: Int[Array, "P"],
    neg_pos_ratio: float,
    min_negatives: int,
) -> tuple[Float[Array, ""], Float[Array, ""], Int[Array, ""]]:
    """Sums of the two terms over one image, and its number of positives."""
    positives = label_targets > 0
    num_positives = jnp.sum(positives)

    log_sum = jax.nn.logsumexp(conf, axis=-1)
    against_background = jax.lax.stop_gradient(log_sum - conf[:, 0])
    wanted = jnp.floor(neg_pos_ratio * num_positives.astype(jnp.float32)).astype(jnp.int32)
    negatives = hard_negative_mask(
        against_background, label_targets == 0, jnp.maximum(wanted, min_negatives)
    )

    # A selection by comparison and not by index: its gradient is no scatter.
    is_target = jnp.maximum(label_targets, 0)[:, None] == jnp.arange(conf.shape[1])[None, :]
    cross_entropy = log_sum - jnp.sum(jnp.where(is_target, conf, 0), axis=-1)
    conf_sum = jnp.sum(jnp.where(positives | negatives, cross_entropy, 0))
    differences = jnp.where(positives[:, None], loc - loc_targets, 0)
    return jnp.sum(smooth_l1(differences)), conf_sum, num_positives


def multibox_loss(
    loc: Float[Array, "B P 4"],
    conf: Float[Array, "B P C"],
    loc_targets: Float[Array, "B P 4"],
    label_targets: Int[Array, "B P"],
    *,
    neg_pos_ratio: float = 3.0,
    min_negatives: int = 0,
) -> MultiboxLoss:
    """SSD's training objective (section 2.2, equations 1 to 3), at least in float32.

    Smooth L1 over positives, and cross-entropy over positives and the negatives that are hardest
    to tell from an object: those of highest cross-entropy against background, up to
    `neg_pos_ratio` times the positives of their image (section 2.2, hard negative mining).

    Args:
        loc: predicted offsets.
        conf: class logits, background first.
        loc_targets: offsets to reach; only those of positives count.
        label_targets: class of every prior; 0 is a negative, -1 a prior to ignore.
        neg_pos_ratio: negatives taken for each positive of an image, rounded down.
        min_negatives: negatives taken at least, also from an image without any positive.

    Returns:
        The two terms, each a sum over the batch divided by max(1, positives of the batch).
    """
    dtype = np.promote_types(np.promote_types(loc.dtype, conf.dtype), np.float32)

    def image_sums(
        loc: Array, conf: Array, loc_targets: Array, label_targets: Array
    ) -> tuple[Array, Array, Array]:
        return _multibox_sums(loc, conf, loc_targets, label_targets, neg_pos_ratio, min_negatives)

    loc_sums, conf_sums, positives = jax.vmap(image_sums)(
        loc.astype(dtype), conf.astype(dtype), loc_targets.astype(dtype), label_targets
    )
    normalizer = jnp.maximum(jnp.sum(positives), 1).astype(dtype)
    return MultiboxLoss(jnp.sum(loc_sums) / normalizer, jnp.sum(conf_sums) / normalizer)
