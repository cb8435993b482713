import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ssd_jax.nonlinear import max_pool_2x2, max_pool_3x3, relu


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_relu_and_its_gradient(dtype):
    x = jnp.array([-2.0, -0.0, 0.0, 1e-30, 3.0, jnp.inf, -jnp.inf], dtype)
    y, pull_back = jax.vjp(relu, x)
    np.testing.assert_array_equal(y, np.maximum(np.asarray(x, np.float64), 0))
    (gradient,) = pull_back(jnp.full_like(x, 5.0))
    assert gradient.dtype == dtype
    np.testing.assert_array_equal(gradient, [0, 0, 0, 5, 5, 5, 0])
    value, gradient = jax.value_and_grad(relu)(jnp.asarray(jnp.nan, dtype))
    assert jnp.isnan(value)
    assert gradient == 1


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
    pooled = max_pool_2x2(jnp.asarray(x))
    np.testing.assert_array_equal(pooled, literal_max_pool(x, 2, 2, 0, ceil=False))
    pooled = max_pool_2x2(jnp.asarray(x), ceil=True)
    np.testing.assert_array_equal(pooled, literal_max_pool(x, 2, 2, 0, ceil=True))
    pooled = max_pool_3x3(jnp.asarray(x))
    np.testing.assert_array_equal(pooled, literal_max_pool(x, 3, 1, 1, ceil=False))


@pytest.mark.parametrize("ceil", [False, True])
def test_max_pool_gradient_goes_to_the_maximum(ceil):
    x = jnp.asarray(
        np.random.default_rng(1).permutation(2 * 7 * 6 * 3).reshape(2, 7, 6, 3), jnp.float32
    )
    window = dict(window_dimensions=(1, 2, 2, 1), window_strides=(1, 2, 2, 1))
    padding = ((0, 0), (0, int(ceil)), (0, 0), (0, 0))

    def theirs(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, padding=padding, **window)

    expected = jax.grad(lambda x: jnp.sum(theirs(x) ** 2))(x)
    gradient = jax.grad(lambda x: jnp.sum(max_pool_2x2(x, ceil=ceil) ** 2))(x)
    np.testing.assert_array_equal(gradient, expected)


def test_max_pool_3x3_gradient_goes_to_the_maximum():
    x = jnp.asarray(np.random.default_rng(1).permutation(2 * 7 * 6 * 3).reshape(2, 7, 6, 3))
    x = x.astype(jnp.float32)

    def theirs(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")

    expected = jax.grad(lambda x: jnp.sum(theirs(x) ** 2))(x)
    np.testing.assert_allclose(
        jax.grad(lambda x: jnp.sum(max_pool_3x3(x) ** 2))(x), expected, rtol=1e-6
    )


def test_max_pool_gradient_of_equal_values_goes_to_one_of_them():
    gradient = jax.grad(lambda x: jnp.sum(max_pool_2x2(x)))(jnp.ones((1, 6, 4, 2)))
    assert set(np.unique(gradient)) == {0.0, 1.0}
    np.testing.assert_array_equal(gradient.reshape(3, 2, 2, 2, 2).sum((1, 3)), np.ones((3, 2, 2)))


def test_max_pools_pass_on_what_is_not_a_number():
    for place in ((0, 0), (0, 1), (1, 0), (1, 1)):
        x = jnp.zeros((1, 4, 4, 1)).at[0, place[0], place[1], 0].set(jnp.nan)
        assert jnp.isnan(max_pool_2x2(x)[0, 0, 0, 0])
        assert jnp.isnan(max_pool_3x3(x)[0, :2, :2]).all()
