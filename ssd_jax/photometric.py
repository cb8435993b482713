"""Distorting the colours of an image: brightness, contrast, saturation, hue, channel order."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int


class Photometric(NamedTuple):
    """One distortion of the colours; (0, 1, any, 1, 0, any, (0, 1, 2)) is none."""

    brightness: Float[Array, ""]  # added, of 255
    contrast: Float[Array, ""]  # factor
    contrast_last: Bool[Array, ""]  # after saturation and hue instead of before
    saturation: Float[Array, ""]  # factor
    hue: Float[Array, ""]  # degrees
    hue_wraps: Bool[Array, ""]  # below 0 degrees it goes on from 360 instead of staying at 0
    channels: Int[Array, "3"]  # the channel that each channel is taken from


def distort(image: Float[Array, "h w 3"], parameters: Photometric) -> Float[Array, "h w 3"]:
    """Distort the colours of an RGB image in 0..255, saturating at both ends after each step.

    Saturation and hue are those of HSV (OpenCV's, as floats). With V the maximum of r, g, b and C
    its distance from the minimum, S = C / V: a factor on S is one on C that stops at C = V, and
    each channel is V - C clip(2 - |k - 2|, 0, 1) with k = (n + hue / 60) mod 6 and n = 5, 3, 1.
    """
    first = jnp.where(parameters.contrast_last, 1.0, parameters.contrast)
    last = jnp.where(parameters.contrast_last, parameters.contrast, 1.0)
    image = jnp.clip(image + parameters.brightness, 0.0, 255.0)
    image = jnp.clip(image * first, 0.0, 255.0)
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]

    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    is_red, is_green = value == red, value == green
    difference = jnp.where(is_red, green - blue, jnp.where(is_green, blue - red, red - green))
    sextant = jnp.where(is_red, 0.0, jnp.where(is_green, 2.0, 4.0))
    hue = sextant + difference / jnp.where(chroma > 0.0, chroma, 1.0)
    hue = jnp.where(hue < 0.0, hue + 6.0, hue) + parameters.hue / 60.0
    hue = jnp.where(parameters.hue_wraps, hue, jnp.maximum(hue, 0.0))
    chroma = jnp.minimum(chroma * parameters.saturation, value)
    untouched = (parameters.saturation == 1.0) & (parameters.hue == 0.0)
    planes = []
    for n, plane in ((5.0, red), (3.0, green), (1.0, blue)):
        turned = hue + n
        turned -= 6.0 * jnp.floor(turned / 6.0)
        turned = value - chroma * jnp.clip(2.0 - jnp.abs(turned - 2.0), 0.0, 1.0)
        # Not to lose bits where there is nothing to do.
        planes.append(jnp.clip(jnp.where(untouched, plane, turned) * last, 0.0, 255.0))

    def taken_from(source: Int[Array, ""]) -> Float[Array, "h w"]:
        return jnp.where(source == 0, planes[0], jnp.where(source == 1, planes[1], planes[2]))

    return jnp.stack([taken_from(parameters.channels[c]) for c in range(3)], axis=-1)
