import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ssd_jax import conv

# (height, width, channels in, channels out, kernel, stride, padding, dilation): SSD's kinds
CASES = {
    "3x3": (9, 11, 64, 80, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    "stride 2, even": (10, 8, 64, 64, (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1)),
    "stride 2, odd": (9, 7, 64, 64, (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1)),
    "no padding": (5, 5, 64, 64, (3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    "dilation 6": (9, 9, 64, 64, (3, 3), (1, 1), ((6, 6), (6, 6)), (6, 6)),
    "1x1": (6, 6, 64, 70, (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    "4x4": (2, 2, 64, 64, (4, 4), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    "few channels": (9, 9, 3, 8, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
}


def arrays(case):
    height, width, inputs, outputs, kernel, *_ = case
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], (2, height, width, inputs))
    return x, jax.random.normal(keys[1], (*kernel, inputs, outputs))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_convolution_and_gradients_equal_xlas(case):
    *_, stride, padding, dilation = case
    x, kernel = arrays(case)

    def ours(x, kernel):
        return conv.conv_general_dilated(x, kernel, stride, padding, rhs_dilation=dilation)

    def theirs(x, kernel):
        return lax.conv_general_dilated(
            x,
            kernel,
            stride,
            padding,
            rhs_dilation=dilation,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    expected, pull_back = jax.vjp(theirs, x, kernel)
    output, our_pull_back = jax.vjp(jax.jit(ours), x, kernel)
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-4)
    cotangent = jax.random.normal(jax.random.key(2), expected.shape)
    for ours_, theirs_ in zip(our_pull_back(cotangent), pull_back(cotangent), strict=True):
        np.testing.assert_allclose(ours_, theirs_, rtol=1e-4, atol=1e-3)


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


def test_unsupported_convolutions_are_refused():
    x, kernel = arrays(CASES["1x1"])
    with pytest.raises(NotImplementedError, match="feature_group_count=2"):
        conv.conv_general_dilated(x, kernel, (1, 1), ((0, 0), (0, 0)), feature_group_count=2)


def literal_max_pool(x, window, stride, padding, ceil):
    batch, height, width, channels = x.shape
    sizes = [
        (n + 2 * padding - window + (stride - 1 if ceil else 0)) // stride + 1
        for n in (height, width)
    ]
    out = np.full((batch, *sizes, channels), -np.inf, np.float32)
    for i in range(sizes[0]):
        for j in range(sizes[1]):
            top, left = i * stride - padding, j * stride - padding
            seen = x[:, max(top, 0) : top + window, max(left, 0) : left + window]
            out[:, i, j] = seen.max((1, 2))
    return out


@pytest.mark.parametrize("size", [(8, 6), (7, 8), (75, 9)])
def test_max_pools_equal_a_literal_loop(size):
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    pooled = conv.max_pool_2x2(jnp.asarray(x))
    np.testing.assert_array_equal(pooled, literal_max_pool(x, 2, 2, 0, ceil=False))
    pooled = conv.max_pool_2x2(jnp.asarray(x), ceil=True)
    np.testing.assert_array_equal(pooled, literal_max_pool(x, 2, 2, 0, ceil=True))
    pooled = conv.max_pool_3x3(jnp.asarray(x))
    np.testing.assert_array_equal(pooled, literal_max_pool(x, 3, 1, 1, ceil=False))


def test_max_pool_gradient_goes_to_the_maximum():
    x = jnp.asarray(
        np.random.default_rng(1).permutation(2 * 7 * 6 * 3).reshape(2, 7, 6, 3), jnp.float32
    )
    window = dict(window_dimensions=(1, 2, 2, 1), window_strides=(1, 2, 2, 1))
    padding = ((0, 0), (0, 1), (0, 0), (0, 0))

    def theirs(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, padding=padding, **window)

    expected = jax.grad(lambda x: jnp.sum(theirs(x) ** 2))(x)
    gradient = jax.grad(lambda x: jnp.sum(conv.max_pool_2x2(x, ceil=True) ** 2))(x)
    np.testing.assert_array_equal(gradient, expected)


def test_max_pool_gradient_of_equal_values_goes_to_one_of_them():
    gradient = jax.grad(lambda x: jnp.sum(conv.max_pool_2x2(x)))(jnp.ones((1, 6, 4, 2)))
    assert set(np.unique(gradient)) == {0.0, 1.0}
    np.testing.assert_array_equal(gradient.reshape(3, 2, 2, 2, 2).sum((1, 3)), np.ones((3, 2, 2)))


def test_max_pools_pass_on_what_is_not_a_number():
    for place in ((0, 0), (0, 1), (1, 0), (1, 1)):
        x = jnp.zeros((1, 4, 4, 1)).at[0, place[0], place[1], 0].set(jnp.nan)
        assert jnp.isnan(conv.max_pool_2x2(x)[0, 0, 0, 0])
        assert jnp.isnan(conv.max_pool_3x3(x)[0, :2, :2]).all()
