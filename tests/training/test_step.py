import dataclasses
import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ssd_jax.recipe import build_model, build_predict
from ssd_jax.sharding import make_mesh, place, place_rows, shardings, state_shardings
from ssd_jax.training.objective import row_keys
from ssd_jax.training.optimizer import build_optimizer
from ssd_jax.training.state import init_state
from ssd_jax.training.step import build_train_step, compile_train_step
from tests.lowered import for_a_gpu
from tests.small import small_config

CLASSES = ("cat", "dog")

pytestmark = pytest.mark.usefixtures("compiled_in_haste", "loose_dtypes")


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


@pytest.mark.skipif(
    jax.__version_info__ >= (0, 12),
    reason="XLA's CPU compiler of jax 0.12.0 ends the process: its fusions cannot hold calls",
)
def test_a_gpus_program_trains_as_a_cpus_does():
    # Not compiled for a GPU here, but it is the program that a GPU gets.
    config = small_sgd(batch_norm=False, rate=1e-2)
    model, optimizer = build_model(config, CLASSES), build_optimizer(config)
    step = build_train_step(config, model, optimizer)
    state = init_state(model, optimizer, config.seed)
    expected, metrics = jax.jit(step)(state, random_batch(0))
    params, loss = for_a_gpu(lambda params, batch: _params_and_loss(step, state, params, batch))(
        state.params, random_batch(0)
    )
    np.testing.assert_allclose(loss, metrics["loss"], rtol=1e-6)
    moves = jax.tree.map(lambda after, before: after - before, expected.params, state.params)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(moves))
    assert largest > 1e-3
    chex.assert_trees_all_close(params, expected.params, rtol=0, atol=1e-4 * largest)


def _params_and_loss(step, state, params, batch):
    state, metrics = step(dataclasses.replace(state, params=params), batch)
    return state.params, metrics["loss"]


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


@pytest.mark.parametrize("seed", [0, 2**31 + 5, 2**40 + 7])
def test_the_states_seed_gives_the_keys_of_the_configs(seed):
    config = small_config("")
    model, optimizer = build_model(config, CLASSES), build_optimizer(config)
    state = jax.eval_shape(lambda: init_state(model, optimizer, seed))
    assert state.seed.shape == () and state.seed.dtype == np.uint32
    keys = jax.jit(lambda: row_keys(init_state(model, optimizer, seed).seed, 3, 4))()
    np.testing.assert_array_equal(
        jax.random.key_data(keys), jax.random.key_data(row_keys(seed, 3, 4))
    )


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


def test_parts_of_a_batch_give_the_gradient_of_the_whole():
    """The parts have different numbers of positives, one of them an image without any."""
    rounding = np.finfo(np.float32).eps
    config = small_sgd(batch_norm=False, rate=1e-4)
    with jax.enable_x64(True):
        before, whole, whole_losses = five_steps(config, jax.devices()[:1], jnp.float64)
        config.train.accumulate = 4
        _, parts, parts_losses = five_steps(config, jax.devices()[:2], jnp.float64)
    np.testing.assert_allclose(parts_losses, whole_losses, rtol=rounding)
    moves = jax.tree.map(lambda start, end: np.max(np.abs(end - start)), before, whole)
    largest_move = max(jax.tree.leaves(moves))
    assert largest_move > 1e-4
    chex.assert_trees_all_close(parts, whole, rtol=0, atol=rounding * largest_move)


def test_a_batch_that_has_no_such_parts_is_refused():
    config = small_config("")
    config.train.accumulate = 8
    with pytest.raises(ValueError, match=r"batch norm has one value a channel .* 1 x 1 cells"):
        build_train_step(config, build_model(config, CLASSES), build_optimizer(config))
    config.optimizer.frozen_statistics = ("backbone/*",)
    with pytest.raises(ValueError, match=r"1 x 1 cells \(extras/conv7_2/bn\), where"):
        build_train_step(config, build_model(config, CLASSES), build_optimizer(config))
    config.optimizer.frozen_statistics = ("extras/conv7_2/*",)
    build_train_step(config, build_model(config, CLASSES), build_optimizer(config))
    config.model.head_batch_norm = True
    with pytest.raises(ValueError, match=r"\(heads/conf_3_bn, heads/loc_3_bn\), where"):
        build_train_step(config, build_model(config, CLASSES), build_optimizer(config))
    config.train.accumulate = 3
    with pytest.raises(ValueError, match=r"train\.accumulate is 3, .*batch_size of 8"):
        build_train_step(config, build_model(config, CLASSES), build_optimizer(config))


def is_schedule(node):
    return isinstance(node, optax.ScaleByScheduleState)


def numbers(state):
    """All but the counts of steps."""
    opt_state = jax.tree.map(
        lambda node: None if is_schedule(node) else node, state.opt_state, is_leaf=is_schedule
    )
    return (state.learning, opt_state, state.average)


def with_infinity(params):
    kernel = params["heads"]["conf_0"]["kernel"]
    heads = {**params["heads"], "conf_0": {**params["heads"]["conf_0"], "kernel": kernel + np.inf}}
    return {**params, "heads": heads}


@pytest.fixture(scope="module")
def with_faults():
    """The states of six steps, the second and fourth with an infinite weight; one is allowed."""
    config = small_config("")
    config.train.not_finite, config.train.max_skipped = "skip", 1
    config.ema.decay = 0.15
    config.optimizer.warmup_steps = 0
    with jax.numpy_dtype_promotion("standard"):
        model, optimizer = build_model(config, CLASSES), build_optimizer(config)
        step = jax.jit(build_train_step(config, model, optimizer))
        states, all_metrics = [init_state(model, optimizer, 0, average=True)], []
        for index in range(6):
            before = states[-1]
            if index in (1, 3):
                before = before.replace(params=with_infinity(before.params))
            after, metrics = jax.device_get(step(before, random_batch(index, rows=4)))
            if index in (1, 3):
                chex.assert_trees_all_equal(numbers(after), numbers(before))
                after = after.replace(params=states[-1].params)
            states.append(after)
            all_metrics.append(metrics)
    return states, all_metrics


def test_a_step_that_is_not_finite_changes_nothing_but_the_count(with_faults):
    states, metrics = with_faults
    assert not np.isfinite(metrics[1]["loss"])
    chex.assert_trees_all_equal(numbers(states[2]), numbers(states[1]))
    assert [int(state.skipped) for state in states] == [0, 0, 1, 1, 2, 2, 2]
    assert int(states[2].step) == 2


def test_the_schedule_counts_a_step_that_is_skipped(with_faults):
    states, _ = with_faults
    for state in states:
        (schedule,) = (
            node
            for node in jax.tree.leaves(state.opt_state, is_leaf=is_schedule)
            if is_schedule(node)
        )
        assert int(schedule.count) == int(state.step)


def test_training_goes_on_after_it_until_there_are_too_many(with_faults):
    states, metrics = with_faults
    assert np.isfinite(metrics[2]["loss"])
    moved = jax.tree.map(lambda a, b: np.any(a != b), states[3].params, states[2].params)
    assert any(jax.tree.leaves(moved))
    # The state stays as it was before the fourth step, for who looks later.
    for later in states[4:]:
        chex.assert_trees_all_equal(numbers(later), numbers(states[3]))
        assert int(later.step) == 3


def test_the_average_follows_its_formula_and_is_what_detects(with_faults):
    states, _ = with_faults
    average = states[0].learning
    for before, after in itertools.pairwise(states[:4]):
        if after.skipped > before.skipped:
            continue
        decay = np.float32(min(0.15, (1 + before.step) / (10 + before.step)))
        average = jax.tree.map(
            lambda kept, new, decay=decay: decay * kept + (1 - decay) * new,
            average,
            after.learning,
        )
        chex.assert_trees_all_close(after.average, average, rtol=1e-5, atol=1e-6)
        assert after.variables is after.average


def test_figures_of_a_step(with_faults):
    states, metrics = with_faults
    first = metrics[0]
    np.testing.assert_allclose(first["loss"], first["loc"] + first["conf"], rtol=1e-6)
    assert 0 < first["positives"]
    assert 0 < first["negatives"] <= 3 * first["positives"]
    squares = [np.sum(np.square(leaf)) for leaf in jax.tree.leaves(states[1].params)]
    np.testing.assert_allclose(first["parameter_norm"], np.sqrt(sum(squares)), rtol=1e-5)


def test_what_is_frozen_stays_and_the_rest_moves():
    config = small_config("")
    config.optimizer.weight_decay = 0.1
    config.model.head_batch_norm = True
    config.optimizer.frozen = ("backbone/conv1_*", "*/bn/*")
    config.optimizer.frozen_statistics = ("backbone/*", "heads/loc_*")
    model, optimizer = build_model(config, CLASSES), build_optimizer(config)
    before = init_state(model, optimizer, 0)
    after, _ = jax.jit(build_train_step(config, model, optimizer))(before, random_batch(0, rows=4))
    for path, old in jax.tree_util.tree_leaves_with_path(before.learning):
        kind, *modules = (entry.key for entry in path)
        new = functools.reduce(lambda tree, entry: tree[entry.key], path, after.learning)
        if kind == "batch_stats":
            stays = modules[0] == "backbone" or modules[1].startswith("loc_")
        else:
            stays = modules[1].startswith("conv1_") or "bn" in modules
        assert np.array_equal(old, new) == stays, (kind, modules)


def test_statistics_that_fit_no_pattern_are_named():
    config = small_config("")
    config.optimizer.frozen_statistics = ("heads/*",)
    model, optimizer = build_model(config, CLASSES), build_optimizer(config)
    step = build_train_step(config, model, optimizer)
    with pytest.raises(ValueError, match=r"optimizer\.frozen_statistics .*'heads/\*'.*backbone/"):
        jax.eval_shape(step, init_state(model, optimizer, 0), random_batch(0, rows=4))


def exponentials(jaxpr):
    """The result types of all exponentials and logarithms, also inside of other operations."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("exp", "exp2", "log", "log1p", "logistic", "tanh"):
            yield equation.outvars[0].aval.dtype
        for value in jax.tree.leaves(
            equation.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")
        ):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from exponentials(inner)


def test_bfloat16_is_for_the_network_only():
    config = small_config("")
    config.model.dtype = "bfloat16"
    model, optimizer = build_model(config, CLASSES), build_optimizer(config)
    state, batch = init_state(model, optimizer, 0), random_batch(0, rows=2)
    step = build_train_step(config, model, optimizer)
    in_training = jax.make_jaxpr(step)(state, batch)
    in_detection = jax.make_jaxpr(build_predict(config, model))(
        state.variables, batch["image"], batch["size"]
    )
    for jaxpr in (in_training, in_detection):
        assert "bf16" in str(jaxpr)  # the network does compute in it
        found = list(exponentials(jaxpr.jaxpr))
        assert found
        assert all(dtype == np.float32 for dtype in found)
    after, metrics = jax.eval_shape(step, state, batch)
    floats = [leaf for leaf in jax.tree.leaves((after, metrics)) if leaf.dtype.kind == "f"]
    assert all(leaf.dtype == np.float32 for leaf in floats)
    assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, state)


@pytest.fixture(scope="module")
def losses_of_one():
    with jax.numpy_dtype_promotion("standard"), jax.enable_x64(True):
        return twenty_losses(devices=1, fsdp=1)


def twenty_losses(devices: int, fsdp: int) -> list[float]:
    """Of 20 steps in double precision, as in the test of five steps, and for the same reason."""
    config = small_sgd(batch_norm=True, rate=1e-3)
    config.model.size, config.model.width = 64, 1 / 32
    model = build_model(config, CLASSES).clone(dtype=jnp.float64)
    optimizer = build_optimizer(config)
    mesh = make_mesh(jax.devices()[:devices], fsdp)
    state = init_state(model, optimizer, config.seed)
    state = jax.tree.map(lambda x: x.astype(jnp.float64) if x.dtype == np.float32 else x, state)
    placement = state_shardings(mesh, state)
    state = place(state, placement)
    step = compile_train_step(build_train_step(config, model, optimizer, mesh), mesh, placement)
    losses = []
    for index in range(20):
        state, metrics = step(state, place_rows(random_batch(index), shardings(mesh)[1]))
        losses.append(float(metrics["loss"]))
    kernel = state.params["backbone"]["conv4_1"]["conv"]["kernel"]
    assert kernel.addressable_shards[0].data.size * fsdp == kernel.size
    assert len(kernel.sharding.device_set) == devices
    return losses


@pytest.mark.parametrize(
    ("devices", "fsdp"), [(2, 1), (4, 1), (8, 1), (2, 2), (8, 2), (8, 4), (8, 8)]
)
def test_twenty_losses_are_the_same_however_the_devices_share_the_work(
    losses_of_one, devices, fsdp
):
    with jax.enable_x64(True):
        losses = twenty_losses(devices, fsdp)
    assert len(set(losses)) == len(losses)
    np.testing.assert_allclose(losses, losses_of_one, rtol=np.finfo(np.float32).eps)
