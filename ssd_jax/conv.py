"""The convolution of SSD's layers, as each kind of machine does it best.

XLA's CPU backend computes the gradient of a convolution's weights 2 to 7 times slower than the
convolution itself. As matrix products it gives the same numbers at the speed of a matrix product,
which halves the time of a full SSD300 training step. On GPUs channels are filled up to what cuDNN
takes at once, and the gradient of the weights comes in the layout of the weights.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Float

DIMENSION_NUMBERS = ("NHWC", "HWIO", "NHWC")
ROW_MAJOR = Layout((0, 1, 2, 3))
Pads = tuple[tuple[int, int], tuple[int, int]]
Geometry = tuple[tuple[int, int], Pads, tuple[int, int]]  # stride, padding, dilation
Convolve = Callable[[Array, Array, Geometry], Array]

# A GPU's tensor cores take channels by eights.
CHANNELS_AT_ONCE = 8

# Below this many channels a tap's matrix product is too thin to beat XLA's convolution.
MIN_CHANNELS_FOR_PRODUCTS = 64

# What a band of rows may copy: a cache's size, as measured (docs/performance.md).
BAND_BYTES = 4 * 2**20


def conv(
    x: Float[Array, "B H W I"],
    kernel: Float[Array, "kh kw I O"],
    *,
    stride: tuple[int, int] = (1, 1),
    padding: Pads = ((0, 0), (0, 0)),
    dilation: tuple[int, int] = (1, 1),
) -> Float[Array, "B h w O"]:
    """Convolution, equal to `jax.lax.conv_general_dilated`, as are its gradients.

    Args:
      x: images or features; their type is what is computed in.
      kernel: its gradient has its type.
      stride: vertical and horizontal.
      padding: rows (above, below) and columns (left, right) of zeros to add.
      dilation: of the kernel.
    """
    return _conv(x, kernel, (stride, padding, dilation))


@jax.custom_vjp
def add_bias(x: Float[Array, "B H W C"], bias: Float[Array, "C"]) -> Float[Array, "B H W C"]:
    """`x` plus a number a channel, in the type of `x`.

    Its gradient is a sum over all places of all images: it is made in float32 at least, where that
    of the plain addition would be made in the type of `x`.
    """
    return x + bias.astype(x.dtype)[None, None, None, :]


def _add_bias_forward(x, bias):
    return add_bias(x, bias), bias


def _add_bias_backward(bias, cotangent):
    wide = np.promote_types(cotangent.dtype, np.float32)
    return cotangent, jnp.sum(cotangent, axis=(0, 1, 2), dtype=wide).astype(bias.dtype)


add_bias.defvjp(_add_bias_forward, _add_bias_backward)


def _xla_conv(x: Array, kernel: Array, geometry: Geometry) -> Array:
    stride, padding, dilation = geometry
    return lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        stride,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=DIMENSION_NUMBERS,
    )


def _by_eights(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """The same with zeros for the channels that are missing to a multiple of eight."""
    inputs, outputs = kernel.shape[2:]
    more = (0, -inputs % CHANNELS_AT_ONCE)
    x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), more))
    kernel = jnp.pad(kernel, ((0, 0), (0, 0), more, (0, -outputs % CHANNELS_AT_ONCE)))
    return _xla_conv(x, kernel, geometry)[..., :outputs]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(x: Array, kernel: Array, geometry: Geometry) -> Array:
    plain = functools.partial(_xla_conv, geometry=geometry)
    if all(channels % CHANNELS_AT_ONCE == 0 for channels in kernel.shape[2:]):
        return plain(x, kernel)
    by_eights = functools.partial(_by_eights, geometry=geometry)
    return lax.platform_dependent(x, kernel, cuda=by_eights, rocm=by_eights, default=plain)


def _conv_forward(x: Array, kernel: Array, geometry: Geometry) -> tuple[Array, tuple[Array, Array]]:
    return _conv(x, kernel, geometry), (x, kernel)


def _conv_backward(
    geometry: Geometry, residuals: tuple[Array, Array], cotangent: Array
) -> tuple[Array, Array]:
    def gradients(
        convolve: Convolve, x: Array, kernel: Array, cotangent: Array
    ) -> tuple[Array, Array]:
        return jax.vjp(lambda x, kernel: convolve(x, kernel, geometry), x, kernel)[1](cotangent)

    def on_cpu(x: Array, kernel: Array, cotangent: Array) -> tuple[Array, Array]:
        x_gradient, _ = gradients(_xla_conv, x, kernel, cotangent)
        if min(kernel.shape[2:]) < MIN_CHANNELS_FOR_PRODUCTS:
            # CPUs compute narrow types as float32 and round after; here nothing is rounded.
            wide = np.promote_types(x.dtype, kernel.dtype)
            _, gradient = gradients(_xla_conv, x.astype(wide), kernel, cotangent.astype(wide))
        else:
            kernel_size = kernel.shape[0], kernel.shape[1]
            gradient = weight_gradient_by_products(x, cotangent, kernel_size, *geometry)
        return x_gradient, gradient.astype(kernel.dtype)

    def on_gpu(x: Array, kernel: Array, cotangent: Array) -> tuple[Array, Array]:
        x_gradient, gradient = gradients(_by_eights, x, kernel, cotangent)
        # Turned from cuDNN's layout here, once (the barrier), and not by all that reads it.
        return x_gradient, lax.optimization_barrier(with_layout_constraint(gradient, ROW_MAJOR))

    by_xla = functools.partial(gradients, _xla_conv)
    return lax.platform_dependent(
        *residuals, cotangent, cpu=on_cpu, cuda=on_gpu, rocm=on_gpu, default=by_xla
    )


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
    reach = (kernel_size[1] - 1) * dilation[1]
    if stride == (1, 1) and 0 < reach >= max(padding[1]):
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
