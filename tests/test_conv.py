import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ssd_jax import conv
from tests.lowered import for_a_gpu

# (height, width, channels in, channels out, kernel, stride, padding, dilation): SSD's kinds
CASES = {
    "3x3": (9, 11, 64, 80, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    "stride 2, even": (10, 8, 64, 64, (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1)),
    "stride 2, odd": (9, 7, 64, 64, (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1)),
    "no padding": (5, 5, 64, 64, (3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    "dilation 6": (9, 9, 64, 64, (3, 3), (1, 1), ((6, 6), (6, 6)), (6, 6)),
    "wide padding": (5, 6, 64, 64, (3, 3), (1, 1), ((4, 4), (3, 5)), (1, 1)),
    "1x1": (6, 6, 64, 70, (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    "4x4": (2, 2, 64, 64, (4, 4), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    "few channels": (9, 9, 3, 8, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    "channels not by eights": (9, 9, 64, 100, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
}


def arrays(case):
    height, width, inputs, outputs, kernel, *_ = case
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], (2, height, width, inputs))
    return x, jax.random.normal(keys[1], (*kernel, inputs, outputs))


@pytest.mark.parametrize("lowered", [jax.jit, for_a_gpu])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_convolution_and_gradients_equal_xlas(case, lowered):
    *_, stride, padding, dilation = case
    x, kernel = arrays(case)

    def ours(x, kernel):
        return conv.conv(x, kernel, stride=stride, padding=padding, dilation=dilation)

    def theirs(x, kernel):
        return lax.conv_general_dilated(
            x,
            kernel,
            stride,
            padding,
            rhs_dilation=dilation,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    def pulled_back(convolve, x, kernel, cotangent):
        output, pull_back = jax.vjp(convolve, x, kernel)
        return output, *pull_back(cotangent)

    cotangent = jax.random.normal(jax.random.key(2), jax.eval_shape(theirs, x, kernel).shape)
    expected = pulled_back(theirs, x, kernel, cotangent)
    found = lowered(functools.partial(pulled_back, ours))(x, kernel, cotangent)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-4)
    for ours_, theirs_ in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_allclose(ours_, theirs_, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("case", ["3x3", "stride 2, odd", "few channels", "channels not by eights"])
def test_a_gpus_bfloat16_convolution_and_gradients_equal_float32s(case):
    *_, stride, padding, dilation = CASES[case]
    x, kernel = arrays(CASES[case])
    x = x.astype(jnp.bfloat16)

    def pulled_back(x, kernel):
        def convolve(x, kernel):
            return conv.conv(x, kernel, stride=stride, padding=padding, dilation=dilation)

        output, pull_back = jax.vjp(convolve, x, kernel)
        return output, *pull_back(output)

    found = for_a_gpu(pulled_back)(x, kernel)
    assert [array.dtype for array in found] == [jnp.bfloat16, jnp.bfloat16, jnp.float32]
    expected = jax.jit(pulled_back)(x.astype(jnp.float32), kernel)
    for ours, exact in zip(found, expected, strict=True):
        exact = np.asarray(exact, np.float64)
        np.testing.assert_allclose(
            np.asarray(ours, np.float64), exact, rtol=0.02, atol=0.02 * exact.std()
        )


def test_bfloat16_weight_gradient_is_summed_in_float32():
    x, kernel = arrays(CASES["3x3"])
    x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    cotangent = jnp.ones((2, 9, 11, 80), jnp.bfloat16)
    gradient = conv.weight_gradient_by_products(
        x, cotangent, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)
    )
    assert gradient.dtype == jnp.float32
    # With a cotangent of ones the centre tap is the plain sum of the input.
    expected = np.asarray(x, np.float64).sum((0, 1, 2))
    np.testing.assert_allclose(gradient[1, 1, :, 0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_bias_is_added_and_its_gradient_summed_in_float32(dtype):
    x, bias = jnp.zeros((3, 37, 41, 3), dtype), jnp.array([1.0, 2.0, 1 / 3])
    y, pull_back = jax.vjp(conv.add_bias, x, bias)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y[1, 7, 9], bias.astype(dtype))
    # In bfloat16 a sum of ones stops at 256, and 4551 is rounded.
    x_gradient, gradient = pull_back(jnp.ones_like(y))
    assert x_gradient.dtype == dtype
    np.testing.assert_array_equal(gradient, np.full(3, 4551, np.float32))
