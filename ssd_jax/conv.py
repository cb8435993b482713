"""A convolution and the max pools of VGG, with gradients that are quick on CPUs too.

XLA's CPU backend computes the gradient of a convolution's weights 2 to 7 times slower than the
convolution itself. As one matrix product a kernel tap it gives the same numbers at the speed of a
matrix product, which halves the time of a full SSD300 training step. Other backends keep XLA's own.
The gradient of a windowed maximum is a scatter, four to fifteen times slower than that of the same
maximum written as comparisons of slices.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

DIMENSION_NUMBERS = ("NHWC", "HWIO", "NHWC")
Pads = tuple[tuple[int, int], tuple[int, int]]

# Below this many channels a tap's matrix product is too thin to beat XLA's convolution.
MIN_CHANNELS_FOR_PRODUCTS = 64

# What a band of rows may copy: a cache's size, as measured (docs/performance.md).
BAND_BYTES = 4 * 2**20


def conv_general_dilated(
    lhs: Float[Array, "B H W I"],
    rhs: Float[Array, "kh kw I O"],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    *,
    lhs_dilation: Sequence[int] = (1, 1),
    rhs_dilation: Sequence[int] = (1, 1),
    dimension_numbers: lax.ConvDimensionNumbers | None = None,
    feature_group_count: int = 1,
    precision: lax.PrecisionLike = None,
) -> Float[Array, "B h w O"]:
    """NHWC convolution for `flax.linen.Conv(conv_general_dilated=...)`.

    Args:
      lhs: images or features; their type is what is computed in.
      rhs: the kernel, of that type or a wider one, which its gradient then has.
      window_strides: vertical and horizontal stride.
      padding: rows (above, below) and columns (left, right) of zeros to add.
      lhs_dilation: must be (1, 1).
      rhs_dilation: the kernel's dilation.
      dimension_numbers: ignored: always NHWC, HWIO, NHWC, which is what linen asks for.
      feature_group_count: must be 1.
      precision: must be None, the backend's default.

    Returns:
      The features, equal to `jax.lax.conv_general_dilated`, as are the gradients.
    """
    del dimension_numbers
    if tuple(lhs_dilation) != (1, 1) or feature_group_count != 1 or precision is not None:
        raise NotImplementedError(
            "ssd_jax.conv supports neither transposed nor grouped convolutions nor a precision; "
            f"got lhs_dilation={lhs_dilation}, feature_group_count={feature_group_count}, "
            f"precision={precision}"
        )
    (top, bottom), (left, right) = padding
    return _conv(
        lhs,
        rhs,
        (window_strides[0], window_strides[1]),
        ((top, bottom), (left, right)),
        (rhs_dilation[0], rhs_dilation[1]),
    )


def _xla_conv(
    x: Array, kernel: Array, stride: tuple[int, int], padding: Pads, dilation: tuple[int, int]
) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        stride,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=DIMENSION_NUMBERS,
    )


_conv = jax.custom_vjp(_xla_conv, nondiff_argnums=(2, 3, 4))


def _conv_forward(x, kernel, stride, padding, dilation):
    return _conv(x, kernel, stride, padding, dilation), (x, kernel)


def _conv_backward(stride, padding, dilation, residuals, cotangent):
    x, kernel = residuals
    plain = functools.partial(_xla_conv, stride=stride, padding=padding, dilation=dilation)
    (x_gradient,) = jax.vjp(lambda x: plain(x, kernel), x)[1](cotangent)

    def by_xla(x, cotangent):
        return jax.vjp(lambda kernel: plain(x, kernel), kernel)[1](cotangent)[0]

    def by_products(x, cotangent):
        return weight_gradient_by_products(
            x, cotangent, kernel.shape[:2], stride, padding, dilation
        ).astype(kernel.dtype)

    def by_xla_unrounded(x, cotangent):
        # On a CPU narrow types are computed as float32 and rounded after; the gradient is not.
        wide = np.promote_types(x.dtype, kernel.dtype)
        return by_xla(x.astype(wide), cotangent.astype(wide))

    thin = min(kernel.shape[2:]) < MIN_CHANNELS_FOR_PRODUCTS
    on_cpu = by_xla_unrounded if thin else by_products
    return x_gradient, lax.platform_dependent(x, cotangent, cpu=on_cpu, default=by_xla)


_conv.defvjp(_conv_forward, _conv_backward)


def weight_gradient_by_products(
    x: Float[Array, "B H W I"],
    cotangent: Float[Array, "B h w O"],
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: Pads,
    dilation: tuple[int, int],
) -> Float[Array, "kh kw I O"]:
    """The gradient of a convolution's weights as matrix products, float32 or wider.

    For tap (i, j) it is the product of the input as that tap sees it with the gradient at the
    output, summed over images and places.
    """
    if stride == (1, 1) and kernel_size[1] > 1:
        return _rows_by_columns(x, cotangent, kernel_size, padding, dilation)
    batch, height, width, _ = cotangent.shape
    channels = x.shape[3]
    dtype = np.promote_types(x.dtype, np.float32)
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))

    def tap(i: int, j: int) -> Array:
        top, left = i * dilation[0], j * dilation[1]
        bottom = top + (height - 1) * stride[0] + 1
        right = left + (width - 1) * stride[1] + 1
        seen = lax.slice(
            padded, (0, top, left, 0), (batch, bottom, right, channels), (1, *stride, 1)
        )
        return jnp.einsum("bhwi,bhwo->io", seen, cotangent, preferred_element_type=dtype)

    rows, columns = kernel_size
    return jnp.stack([jnp.stack([tap(i, j) for j in range(columns)]) for i in range(rows)])


def _rows_by_columns(
    x: Float[Array, "B H W I"],
    cotangent: Float[Array, "B h w O"],
    kernel_size: tuple[int, int],
    padding: Pads,
    dilation: tuple[int, int],
) -> Float[Array, "kh kw I O"]:
    """All taps of a convolution of stride 1 in one product, [kh I, pixels] by [pixels, kw O].

    The input is shifted by rows, the gradient by columns: tap (i, j) is where shift i of the one
    meets shift j of the other. The factors are kh and kw times as large as what they copy, where
    taps one by one copy the input kh kw times, and the product is large enough to be quick.

    It goes by bands of rows that fit in a cache, unless the result is so large that adding to it
    for every band costs more. Images are summed at the end, not in a band: split over devices, they
    are summed once then, and not for each band.
    """
    kh, kw = kernel_size
    batch, height, _, outputs = cotangent.shape
    width, channels = x.shape[2:]
    dtype = np.promote_types(x.dtype, np.float32)
    reach_rows, reach = (kh - 1) * dilation[0], (kw - 1) * dilation[1]
    x = jnp.pad(x, ((0, 0), padding[0], (0, 0), (0, 0)))
    left, right = padding[1]
    cotangent = jnp.pad(cotangent, ((0, 0), (0, 0), (reach - left, reach - right), (0, 0)))
    row_bytes = width * (kh * channels + kw * outputs) * x.dtype.itemsize
    rows = max(1, BAND_BYTES // row_bytes)

    def factors(x: Array, cotangent: Array) -> tuple[Array, Array]:
        count = cotangent.shape[1]
        tops = [i * dilation[0] for i in range(kh)]
        lefts = [reach - j * dilation[1] for j in range(kw)]
        seen = jnp.concatenate([x[:, top : top + count] for top in tops], axis=3)
        sent = jnp.concatenate([cotangent[:, :, at : at + width] for at in lefts], axis=3)
        return seen, sent

    if rows >= height or kh * channels * kw * outputs * dtype.itemsize > BAND_BYTES:
        product = jnp.einsum("bhwi,bhwo->io", *factors(x, cotangent), preferred_element_type=dtype)
    else:
        bands = -(-height // rows)
        missing = ((0, 0), (0, bands * rows - height), (0, 0), (0, 0))
        # Materialised: fused into the bands' copies, the padding's comparisons slow them down.
        x, cotangent = lax.optimization_barrier((jnp.pad(x, missing), jnp.pad(cotangent, missing)))

        def add_band(band: Array, sums: Array) -> Array:
            start = band * rows
            seen, sent = factors(
                lax.dynamic_slice_in_dim(x, start, rows + reach_rows, axis=1),
                lax.dynamic_slice_in_dim(cotangent, start, rows, axis=1),
            )
            return sums + jnp.einsum("bhwi,bhwo->bio", seen, sent, preferred_element_type=dtype)

        sums = jnp.zeros((batch, kh * channels, kw * outputs), dtype)
        product = jnp.sum(lax.fori_loop(0, bands, add_band, sums), axis=0)
    return product.reshape(kh, channels, kw, outputs).transpose(0, 2, 1, 3)


def max_pool_2x2(x: Float[Array, "B H W C"], *, ceil: bool = False) -> Float[Array, "B h w C"]:
    """Maximum over 2x2 windows at stride 2; `ceil` keeps an odd last row and column (pool3)."""
    if ceil:
        x = _pad_places(x, (0, x.shape[1] % 2), (0, x.shape[2] % 2))
    batch, height, width, channels = x.shape
    height, width = height // 2, width // 2
    # Both columns of a window side by side in the channels: two contiguous halves to compare.
    x = x[:, : 2 * height, : 2 * width].reshape(batch, height, 2, width, 2 * channels)
    x = _larger(x[:, :, 0], x[:, :, 1])
    return _larger(x[..., :channels], x[..., channels:])


def max_pool_3x3(x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
    """Maximum over 3x3 windows at stride 1, padded by 1 (pool5 of SSD)."""
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
