"""The random crop of SSD's training augmentation (section 2.2), and how other programs draw it."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int, PRNGKeyArray

from ssd_jax.augmentation import Augmentation
from ssd_jax.boxes import pairwise_iou


def sample_crop(
    key: PRNGKeyArray,
    boxes: Float[Array, "N 4"],
    labels: Int[Array, "N"],
    options: Augmentation,
    picture_aspect: Float[Array, ""] | float = 1.0,
) -> tuple[Float[Array, "4"], Int[Array, ""]]:
    """Draw a crop by one of the samplers that succeed (paper, section 2.2).

    Each sampler of `options.crop_min_ious` tries `options.crop_trials` crops and offers the first
    that the objects allow (`options.crop_overlap`, `crop_keeps_object`); none of them succeeds
    without objects. All trials are drawn and judged at once.

    Args:
        key: decides everything random.
        boxes: corner form.
        labels: classes from 1; slots of 0 and -1 are not looked at.
        options: what may happen; its `crop_` fields count.
        picture_aspect: width by height of the picture; only `crop_shape='sides'` looks at it.

    Returns:
        The crop, corner form, relative to what the boxes are relative to; and its sampler: 0 the
        whole, then those of `options.crop_min_ious` in order, last the free one.
    """
    trials = (options.crop_trials,) * len(options.crop_min_ious) + (_free_trials(options),)
    # Drawn in single precision, so that a key gives the same crop where JAX computes in double.
    uniform = jax.random.uniform(key, (2 + 4 * sum(trials),), jnp.float32).astype(float)
    crops, drawn = _random_crops(uniform[2:].reshape(-1, 4), options, picture_aspect)
    least = jnp.asarray(np.repeat((*options.crop_min_ious, 0.0), trials), jnp.float32)
    constrained = sum(trials[:-1])
    allowed = _allowed(crops, boxes, labels > 0, least, options)
    if not options.crop_keeps_object:
        allowed = allowed | (jnp.arange(sum(trials)) >= constrained)
    passed = drawn & allowed

    starts = np.cumsum((0, *trials[:-1]))
    of_sampler = [
        passed[start : start + count] for start, count in zip(starts, trials, strict=True)
    ]
    first = jnp.asarray(starts) + jnp.stack([jnp.argmax(group) for group in of_sampler])
    whole = jnp.array([[0.0, 0.0, 1.0, 1.0]], jnp.float32)
    offered = jnp.concatenate([whole, crops[first]])
    succeeded = jnp.stack([jnp.bool_(True), *(jnp.any(group) for group in of_sampler)])
    chosen = jnp.argmax(jnp.cumsum(succeeded) > below(jnp.sum(succeeded), uniform[0]))
    chosen = jnp.where(uniform[1] < options.crop_probability, chosen, 0)
    return offered[chosen], chosen


def _free_trials(options: Augmentation) -> int:
    """Trials of the sampler without a least IoU: 1 where no crop can fail."""
    can_fail = options.crop_keeps_object or options.crop_shape == "sides"
    return options.crop_trials if can_fail else 1


def _random_crops(
    uniform: Float[Array, "K 4"], options: Augmentation, picture_aspect: Float[Array, ""] | float
) -> tuple[Float[Array, "K 4"], Bool[Array, "K"]]:
    """Crops of random shape and place inside 0..1, and whether their shape is allowed."""
    low, high = options.crop_aspect
    if options.crop_shape == "sides":
        extent = between(*options.crop_scale, uniform[:, :2])
        aspect = extent[:, 0] / extent[:, 1] * picture_aspect
        allowed = (aspect >= low) & (aspect <= high)
    else:
        side = between(*options.crop_scale, uniform[:, 0])
        # Bounded so that neither edge gets longer than the picture's.
        aspect = jnp.clip(between(low, high, uniform[:, 1]), side * side, 1.0 / (side * side))
        extent = jnp.stack([side * jnp.sqrt(aspect), side / jnp.sqrt(aspect)], axis=1)
        allowed = jnp.ones(len(uniform), bool)
    start = uniform[:, 2:] * (1.0 - extent)
    return jnp.clip(jnp.concatenate([start, start + extent], axis=1), 0.0, 1.0), allowed


def _allowed(
    crops: Float[Array, "K 4"],
    boxes: Float[Array, "N 4"],
    is_object: Bool[Array, "N"],
    least: Float[Array, "K"],
    options: Augmentation,
) -> Bool[Array, "K"]:
    """Whether each crop has its least IoU with the objects that the options name."""
    iou = pairwise_iou(crops, boxes)
    counts = jnp.broadcast_to(is_object[None, :], iou.shape)
    if options.crop_keeps_object:
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = (centre[None] > crops[:, None, :2]) & (centre[None] < crops[:, None, 2:])
        counts = counts & jnp.all(inside, axis=-1)
    if options.crop_overlap == "all":
        lowest = jnp.min(jnp.where(is_object[None, :], iou, 2.0), axis=1, initial=2.0)
        return (lowest >= least) & jnp.any(counts, axis=1)
    return jnp.max(jnp.where(counts, iou, -1.0), axis=1, initial=-1.0) >= least


def between(low: float, high: float, uniform: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Numbers from 0..1 moved to low..high."""
    return low + (high - low) * uniform


def below(count: int | Int[Array, ""], uniform: Float[Array, ""]) -> Int[Array, ""]:
    """A number from 0..1 as one of the integers 0..count-1."""
    return jnp.floor(uniform * jnp.asarray(count, jnp.float32)).astype(jnp.int32)
