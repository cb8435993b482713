"""ReLU and the max pools of VGG, written so that a training step keeps and moves little memory.

The gradient of a windowed maximum is a scatter; written as comparisons of slices it is four to
fifteen times faster.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float


@jax.custom_jvp
def relu(x: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """max(x, 0), whose gradient is found from the result.

    `jax.nn.relu` finds it from `x`, which then has to be kept beside the result: cuDNN could not
    do bias and ReLU as the last part of a convolution. Where `x` is NaN, so is the result, and the
    gradient passes, which there is 0.
    """
    return jnp.maximum(x, 0)


@relu.defjvp
def _relu_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    y = relu(*primals)
    # Not `y > 0`: that XLA would simplify to `x > 0`.
    return y, jnp.where(y != 0, tangents[0], 0)


def max_pool_2x2(x: Float[Array, "B H W C"], *, ceil: bool = False) -> Float[Array, "B h w C"]:
    """Maximum over 2x2 windows at stride 2; `ceil` keeps an odd last row and column (pool3)."""
    height, width = x.shape[1:3]
    if ceil:
        x = _pad_places(x, (0, height % 2), (0, width % 2))
    return _max_2x2(x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2])


@jax.custom_vjp
def _max_2x2(x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
    """For its gradient a byte a window is kept, where the maximum stands."""
    return _max_and_place(x)[0]


def _max_and_place(x: Float[Array, "B H W C"]) -> tuple[Array, Array]:
    """The maximum of each window, and its place: row + 2 column; of equal ones the first."""
    batch, height, width, channels = x.shape
    # Both columns of a window side by side in the channels: two contiguous halves to compare.
    x = x.reshape(batch, height // 2, 2, width // 2, 2 * channels)
    top, bottom = x[:, :, 0], x[:, :, 1]
    columns = jnp.maximum(top, bottom)
    left, right = columns[..., :channels], columns[..., channels:]
    row = (bottom > top).astype(jnp.int8)
    place = jnp.where(right > left, row[..., channels:] + 2, row[..., :channels])
    return jnp.maximum(left, right), place


def _max_2x2_backward(place: Array, cotangent: Array) -> tuple[Array]:
    batch, height, width, channels = cotangent.shape
    places = jnp.array([[0, 2], [1, 3]], jnp.int8)[None, None, :, None, :, None]
    is_maximum = place[:, :, None, :, None] == places
    gradient = jnp.where(is_maximum, cotangent[:, :, None, :, None], 0)
    return (gradient.reshape(batch, 2 * height, 2 * width, channels),)


_max_2x2.defvjp(_max_and_place, _max_2x2_backward)


def max_pool_3x3(x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
    """Maximum over 3x3 windows at stride 1, padded by 1 (pool5 of SSD).

    Its windows overlap, so that no byte a window says where a gradient goes: it is that of the
    comparisons. The features are small here.
    """
    x = _pad_places(x, (1, 1), (0, 0))
    x = _larger(_larger(x[:, :-2], x[:, 1:-1]), x[:, 2:])
    x = _pad_places(x, (0, 0), (1, 1))
    return _larger(_larger(x[:, :, :-2], x[:, :, 1:-1]), x[:, :, 2:])


@jax.custom_jvp
def _larger(a: Float[Array, "*S"], b: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """The maximum; its gradient goes whole to the larger, to the first of two that are equal.

    `jnp.maximum` finds where its gradient goes by comparing arguments with the result. XLA may
    compute both anew for that, rounded otherwise: then neither is equal and the gradient is lost,
    as was seen behind batch norm on several devices.
    """
    return jnp.maximum(a, b)


@_larger.defjvp
def _larger_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    a, b = primals
    return jnp.maximum(a, b), jnp.where(a >= b, *tangents)


def _pad_places(x: Array, rows: tuple[int, int], columns: tuple[int, int]) -> Array:
    return jnp.pad(x, ((0, 0), rows, columns, (0, 0)), constant_values=-jnp.inf)
