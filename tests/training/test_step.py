import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssd_jax.recipe import build_model
from ssd_jax.sharding import make_mesh, shardings
from ssd_jax.training.objective import row_keys
from ssd_jax.training.optimizer import build_optimizer
from ssd_jax.training.state import init_state
from ssd_jax.training.step import build_train_step, compile_train_step
from tests.small import small_config

CLASSES = ("cat", "dog")

pytestmark = pytest.mark.usefixtures("loose_dtypes")


def random_batch(seed: int, rows: int = 8) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.uniform(0, 1, (rows, 5, 2, 2)), axis=2).reshape(rows, 5, 4)
    labels = rng.integers(0, 3, (rows, 5)).astype(np.int32)
    labels[1] = 0  # an image without objects
    return {
        "image": rng.integers(0, 256, (rows, 160, 160, 3)).astype(np.uint8),
        "size": rng.integers(100, 161, (rows, 2)).astype(np.int32),
        "boxes": np.where(labels[..., None] > 0, corners, 0).astype(np.float32),
        "labels": labels,
    }


def five_steps(config, devices, dtype=jnp.float32):
    """The parameters before and after, and the losses, of five steps computed in `dtype`."""
    model, optimizer = build_model(config, CLASSES).clone(dtype=dtype), build_optimizer(config)
    mesh = make_mesh(devices)
    replicated, rows = shardings(mesh)
    step = compile_train_step(build_train_step(config, model, optimizer), mesh)
    state = init_state(model, optimizer, config.seed, average=config.ema.decay > 0)
    state = jax.tree.map(lambda x: x.astype(dtype) if x.dtype == np.float32 else x, state)
    state = jax.device_put(state, replicated)
    before = jax.device_get(state.params)
    losses = []
    for index in range(5):
        state, metrics = step(state, jax.device_put(random_batch(index), rows))
        losses.append(float(metrics["loss"]))
    assert len(state.step.devices()) == len(devices)
    assert int(state.step) == 5
    return before, jax.device_get(state.params), losses


def small_sgd(*, batch_norm: bool, rate: float):
    config = small_config("")
    config.model.batch_norm = batch_norm
    config.optimizer.kind = "sgd"
    config.optimizer.rate = rate
    return config


def test_eight_devices_train_as_one_does_but_for_rounding():
    # In double precision: batch norm over few rows enlarges rounding step by step. What the network
    # gets, pictures and offsets, is in single precision still, so that is how close both can be.
    rounding = np.finfo(np.float32).eps
    config = small_sgd(batch_norm=True, rate=1e-3)
    with jax.enable_x64(True):
        before, one, one_losses = five_steps(config, jax.devices()[:1], jnp.float64)
        _, eight, eight_losses = five_steps(config, jax.devices(), jnp.float64)
    assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(one))
    np.testing.assert_allclose(eight_losses, one_losses, rtol=rounding)
    largest_move = max(
        np.max(np.abs(end - start))
        for start, end in zip(jax.tree.leaves(before), jax.tree.leaves(one), strict=True)
    )
    assert largest_move > 1e-3
    chex.assert_trees_all_close(eight, one, rtol=0, atol=rounding * largest_move)


def test_eight_devices_train_as_one_does_in_single_precision():
    config = small_sgd(batch_norm=False, rate=1e-5)
    _, one, one_losses = five_steps(config, jax.devices()[:1])
    _, eight, eight_losses = five_steps(config, jax.devices())
    np.testing.assert_allclose(eight_losses, one_losses, rtol=1e-5)
    chex.assert_trees_all_close(eight, one, rtol=1e-5, atol=1e-6)


def test_a_row_has_its_own_key_from_seed_step_and_row_alone():
    def data(seed, step, rows):
        return jax.random.key_data(row_keys(seed, jnp.int32(step), rows))

    keys = data(0, 3, 4)
    assert len(np.unique(keys, axis=0)) == 4
    np.testing.assert_array_equal(keys, data(0, 3, 8)[:4])
    assert not np.array_equal(keys, data(1, 3, 4))
    assert not np.array_equal(keys, data(0, 4, 4))


def test_a_batch_without_any_object_is_finite():
    config = small_config("")
    model, optimizer = build_model(config, CLASSES), build_optimizer(config)
    batch = random_batch(0, rows=2)
    batch["labels"][:] = 0
    batch["boxes"][:] = 0
    state, metrics = jax.jit(build_train_step(config, model, optimizer))(
        init_state(model, optimizer, 0), batch
    )
    assert float(metrics["loss"]) == 0
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state.params))
