"""Boxes: corner and centre form, IoU, and the offsets that the network predicts."""

from collections.abc import Iterable

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

SMALLEST_SIDE = 1e-6
"""Sides below this (relative to the image, far below a pixel) are encoded as this long."""


def center_to_corner(boxes: Float[Array, "*B 4"]) -> Float[Array, "*B 4"]:
    """(cx, cy, w, h) to (xmin, ymin, xmax, ymax), in any unit."""
    center, half = boxes[..., :2], boxes[..., 2:] / 2
    return jnp.concatenate([center - half, center + half], axis=-1)


def corner_to_center(boxes: Float[Array, "*B 4"]) -> Float[Array, "*B 4"]:
    """(xmin, ymin, xmax, ymax) to (cx, cy, w, h), in any unit."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return jnp.concatenate([(low + high) / 2, high - low], axis=-1)


def box_area(boxes: Float[Array, "*B 4"]) -> Float[Array, "*B"]:
    """Area of corner-form boxes; 0 for a box whose corners are not in order."""
    sides = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def sides_and_area(boxes: Float[Array, "*B 4"]) -> tuple[Float[Array, "*B"], ...]:
    """(xmin, ymin, xmax, ymax, area) of corner-form boxes, an array each."""
    xmin, ymin, xmax, ymax = (boxes[..., i] for i in range(4))
    return xmin, ymin, xmax, ymax, box_area(boxes)


def iou(a: Iterable[Float[Array, "*#S"]], b: Iterable[Float[Array, "*#S"]]) -> Float[Array, "*S"]:
    """Intersection over union of boxes given by `sides_and_area`, broadcast to each other.

    One array a side: a trailing axis of 4 would waste most of a vector register.
    """
    a_xmin, a_ymin, a_xmax, a_ymax, a_area = a
    b_xmin, b_ymin, b_xmax, b_ymax, b_area = b
    width = jnp.maximum(jnp.minimum(a_xmax, b_xmax) - jnp.maximum(a_xmin, b_xmin), 0)
    height = jnp.maximum(jnp.minimum(a_ymax, b_ymax) - jnp.maximum(a_ymin, b_ymin), 0)
    intersection = width * height
    union = a_area + b_area - intersection
    return intersection / jnp.where(intersection > 0, union, 1)


def pairwise_iou(a: Float[Array, "*B N 4"], b: Float[Array, "*B M 4"]) -> Float[Array, "*B N M"]:
    """Intersection over union (Jaccard overlap) of every box of `a` with every box of `b`.

    Corner form, in any one unit. A box without area has IoU 0 with every box, itself included.
    """
    return iou(
        (side[..., :, None] for side in sides_and_area(a)),
        (side[..., None, :] for side in sides_and_area(b)),
    )


def encode(
    boxes: Float[Array, "*B 4"],
    priors: Float[Array, "*B 4"],
    variances: tuple[float, float] = (0.1, 0.2),
) -> Float[Array, "*B 4"]:
    """Offsets that lead from priors to boxes (SSD, section 2.2, equation 2).

    Args:
        boxes: corner form. Sides shorter than SMALLEST_SIDE count as that long, so that a
            degenerate box has finite offsets.
        priors: centre form, one for each box, in the same unit.
        variances: divisors of the centre's and of the log size's offset.

    Returns:
        (dx, dy, dw, dh): d = (c - c_prior) / side_prior / v0 and log(side / side_prior) / v1.
    """
    center_variance, size_variance = variances
    centered = corner_to_center(boxes)
    sides = jnp.maximum(centered[..., 2:], SMALLEST_SIDE)
    shifts = (centered[..., :2] - priors[..., :2]) / priors[..., 2:] / center_variance
    scales = jnp.log(sides / priors[..., 2:]) / size_variance
    return jnp.concatenate([shifts, scales], axis=-1)


def decode(
    offsets: Float[Array, "*B 4"],
    priors: Float[Array, "*B 4"],
    variances: tuple[float, float] = (0.1, 0.2),
) -> Float[Array, "*B 4"]:
    """Boxes in corner form from offsets and priors in centre form: the inverse of `encode`."""
    center_variance, size_variance = variances
    centers = priors[..., :2] + offsets[..., :2] * center_variance * priors[..., 2:]
    sides = priors[..., 2:] * jnp.exp(offsets[..., 2:] * size_variance)
    return center_to_corner(jnp.concatenate([centers, sides], axis=-1))
