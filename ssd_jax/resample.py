"""Cutting a window out of a picture and resizing it, as two small matrix products.

Expanding, cropping, mirroring and resizing are one and the same thing: reading the picture on a
regular grid. Along each axis that is a matrix with one row a pixel of the output and one column a
pixel of the canvas, so the whole is ``rows @ canvas @ columns.T``: no gather a pixel, quick on a
CPU and next to nothing on an accelerator.

The weights are OpenCV's (`cv2.resize` on the pixels that the window touches), so that a window on
whole pixels gives what slicing and `cv2.resize` give; a window may also lie anywhere between the
pixels, or reach beyond the picture.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Int, UInt8

Interpolation = Literal["nearest", "linear", "area", "cubic", "lanczos4"]
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)

Dimension = Any
"""Pixels along an axis: an int, or a symbolic dimension of `jax.export`."""


def resample(
    canvas: UInt8[Array, "Hc Wc 3"],
    size: Int[Array, "2"],
    window: Float[Array, "4"],
    interpolation: Int[Array, ""],
    *,
    output_size: tuple[int, int],
    interpolations: tuple[Interpolation, ...],
) -> tuple[Float[Array, "h w 3"], Float[Array, "h w"]]:
    """Read a window of a picture at another size.

    Args:
        canvas: the picture at the top left, anything around it.
        size: (height, width) of the picture on the canvas, pixels.
        window: (xmin, ymin, xmax, ymax) relative to the picture; may reach beyond it. With xmin
            and xmax exchanged, the picture is read mirrored.
        interpolation: index into `interpolations`.
        output_size: (height, width) to give.
        interpolations: the kernels to choose from. Only these are computed.

    Returns:
        The colours, 0..255, of the part of the picture that each output pixel reads (beyond the
        picture, of what is nearest to it, or 0); and the share of each output pixel, 0..1, that is
        picture. Blended with a fill colour by that share, they are the picture expanded with that
        colour, then resized: exactly for the kernels without negative weights, and otherwise but
        for the few pixels next to the edge of the picture.
    """
    height, width = output_size
    size = size.astype(jnp.float32)
    across, share_across = _axis_weights(
        window[0] * size[1],
        window[2] * size[1],
        size[1],
        interpolation,
        canvas=canvas.shape[1],
        output=width,
        interpolations=interpolations,
    )
    down, share_down = _axis_weights(
        window[1] * size[0],
        window[3] * size[0],
        size[0],
        interpolation,
        canvas=canvas.shape[0],
        output=height,
        interpolations=interpolations,
    )
    # Full float32 also where the default is less (TF32 on GPUs): the products cost little.
    full = lax.Precision.HIGHEST
    rows = jnp.einsum("yY,YXc->yXc", down, canvas.astype(jnp.float32), precision=full)
    colours = jnp.einsum("yXc,xX->yxc", rows, across, precision=full)
    # Kernels with negative weights overshoot beside edges; OpenCV saturates there too.
    colours = jnp.clip(colours, 0.0, 255.0)
    share = jnp.clip(share_down[:, None] * share_across[None, :], 0.0, 1.0)
    return colours, share


def _axis_weights(
    start: Float[Array, ""],
    stop: Float[Array, ""],
    size: Float[Array, ""],
    interpolation: Int[Array, ""],
    *,
    canvas: Dimension,
    output: int,
    interpolations: tuple[Interpolation, ...],
) -> tuple[Float[Array, "output canvas"], Float[Array, "output"]]:
    """Weights of the canvas pixels in each output pixel along one axis, rows summing to one.

    Args:
        start, stop: edges of the window in pixels of the picture; start > stop mirrors.
        size: pixels of the picture along this axis; pixels from there on are never read.
        interpolation, interpolations: as in `resample`.
        canvas, output: pixels of the canvas and of the output along this axis.

    Returns:
        The weights, and the share of each output pixel that lies on the picture.
    """
    # Multiplied before divided: exact wherever the edge of a cell is a whole number.
    left = start + jnp.arange(output, dtype=jnp.float32) * (stop - start) / output
    cell = (stop - start) / output

    weights, share = jnp.zeros((output, canvas), jnp.float32), jnp.zeros(output, jnp.float32)
    if any(name != "area" for name in interpolations):
        weights, share = _tap_weights(
            left + 0.5 * cell - 0.5,
            jnp.floor(jnp.minimum(start, stop)),
            jnp.ceil(jnp.maximum(start, stop)) - 1.0,
            size,
            interpolation,
            canvas=canvas,
            interpolations=interpolations,
        )
    if "area" in interpolations:
        area_weights, area_share = _area_weights(left, cell, size, canvas=canvas)
        is_area = interpolation == interpolations.index("area")
        weights = jnp.where(is_area, area_weights, weights)
        share = jnp.where(is_area, area_share, share)
    return weights, share


def _area_weights(
    left: Float[Array, "output"],
    cell: Float[Array, ""],
    size: Float[Array, ""],
    *,
    canvas: Dimension,
) -> tuple[Float[Array, "output canvas"], Float[Array, "output"]]:
    """INTER_AREA: the mean over what an output pixel covers, here also where that is below a pixel.

    OpenCV takes this mean only if both axes shrink or both grow; where one does and the other does
    not, it reads two pixels a row along both, and aliases. Here each axis decides for itself.
    """
    low = jnp.clip(jnp.minimum(left, left + cell), 0.0, size)
    high = jnp.clip(jnp.maximum(left, left + cell), 0.0, size)
    pixel = jnp.arange(canvas, dtype=jnp.float32)
    overlap = jnp.minimum(pixel[None, :] + 1.0, high[:, None]) - jnp.maximum(
        pixel[None, :], low[:, None]
    )
    covered = high - low
    # The smallest cells are some hundredths of a pixel: a cell below 1e-6 is beside the picture.
    weights = jnp.maximum(overlap, 0.0) * (1.0 / jnp.maximum(covered, 1e-6))[:, None]
    return weights, covered / jnp.maximum(jnp.abs(cell), 1e-6)


def _tap_weights(
    position: Float[Array, "output"],
    first: Float[Array, ""],
    last: Float[Array, ""],
    size: Float[Array, ""],
    interpolation: Int[Array, ""],
    *,
    canvas: Dimension,
    interpolations: tuple[Interpolation, ...],
) -> tuple[Float[Array, "output canvas"], Float[Array, "output"]]:
    """The kernels that read a fixed number of neighbours (taps) around a position.

    `position` counts from the centre of pixel 0; `first` and `last` are the pixels that the window
    touches: as OpenCV has only these after the crop, a tap beyond them repeats them.
    """
    count = max(_KERNELS[name][0] for name in interpolations if name != "area")
    below = jnp.floor(position)
    fraction = (position - below)[:, None]
    taps = jnp.zeros((position.shape[0], count), jnp.float32)
    for index, name in enumerate(interpolations):
        if name == "area":
            continue
        own, kernel = _KERNELS[name]
        offset = (count - own) // 2
        own_taps = jnp.pad(kernel(fraction), ((0, 0), (offset, offset)))
        taps = jnp.where(interpolation == index, own_taps, taps)

    reach = jnp.arange(count, dtype=jnp.float32) - (count // 2 - 1)
    pixel = jnp.clip(below[:, None] + reach[None, :], first, last)
    on_picture = (pixel >= 0.0) & (pixel < size)
    share = jnp.sum(jnp.where(on_picture, taps, 0.0), axis=1)
    pixel = jnp.clip(pixel, 0.0, size - 1.0)
    column = jnp.arange(canvas, dtype=jnp.float32)[None, :]
    weights = jnp.zeros((position.shape[0], canvas), jnp.float32)
    for tap in range(count):
        weights += jnp.where(pixel[:, tap, None] == column, taps[:, tap, None], 0.0)
    return weights, share


# The kernels of OpenCV's modules/imgproc/src/resize.cpp, from the fraction of a pixel by which the
# position lies beyond the tap just below it (the middle one, or left of the middle).


def _nearest(fraction: Float[Array, "output 1"]) -> Float[Array, "output 2"]:
    """INTER_NEAREST_EXACT. (INTER_NEAREST is off by half an output pixel, hence from the boxes.)"""
    # Where the position is just between two pixels the upper one is read, rounding or not.
    above = fraction >= 0.5 - 1e-4
    return jnp.concatenate([~above, above], axis=1).astype(jnp.float32)


def _linear(fraction: Float[Array, "output 1"]) -> Float[Array, "output 2"]:
    return jnp.concatenate([1.0 - fraction, fraction], axis=1)


def _cubic(fraction: Float[Array, "output 1"]) -> Float[Array, "output 4"]:
    """Keys' cubic convolution with a = -0.75."""
    a = -0.75

    def near(x: Array) -> Array:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0

    def far(x: Array) -> Array:
        return ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a

    inner = [far(fraction + 1.0), near(fraction), near(1.0 - fraction)]
    return jnp.concatenate([*inner, 1.0 - inner[0] - inner[1] - inner[2]], axis=1)


def _lanczos4(fraction: Float[Array, "output 1"]) -> Float[Array, "output 8"]:
    """Windowed sinc over 8 pixels, scaled to sum to one.

    sin(pi x) is the same for all taps but for its sign and leaves with the scaling, which keeps
    the taps finite: what remains is sin(pi x / 4) / x^2 with alternating sign.
    """
    distance = jnp.arange(-3.0, 5.0, dtype=jnp.float32)[None, :] - fraction
    # On a pixel, its own tap is infinitely above the others; a millionth beside it is as good.
    distance = jnp.where(jnp.abs(distance) < 1e-6, 1e-6, distance)
    sign = jnp.array([[-1.0, 1.0] * 4], jnp.float32)
    taps = sign * jnp.sin(jnp.float32(np.pi / 4) * distance) / (distance * distance)
    return taps / jnp.sum(taps, axis=1, keepdims=True)


_KERNELS: dict[str, tuple[int, Callable[[Array], Array]]] = {
    "nearest": (2, _nearest),
    "linear": (2, _linear),
    "cubic": (4, _cubic),
    "lanczos4": (8, _lanczos4),
}
