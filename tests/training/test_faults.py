import dataclasses
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from ssd_jax.recipe import build_model
from ssd_jax.training import replay
from ssd_jax.training.diagnosis import _forward, diagnose
from ssd_jax.training.fault_file import Fault
from ssd_jax.training.loop import train
from ssd_jax.training.objective import Samples
from ssd_jax.training.optimizer import build_optimizer
from ssd_jax.training.state import init_state
from ssd_jax.training.step import build_gradients
from tests.small import small_config

pytestmark = pytest.mark.usefixtures("compiled_in_haste", "loose_dtypes")

CLASSES = ("circle", "dog")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, shapes_folder):
    """(workdir, fault) of a run whose rate is far too high."""
    workdir = tmp_path_factory.mktemp("run")
    config = small_config(shapes_folder)
    config.optimizer.kind, config.optimizer.schedule = "sgd", "step"
    config.optimizer.rate, config.optimizer.warmup_steps = 1e30, 0
    config.train.log_every = 4
    with jax.numpy_dtype_promotion("standard"), pytest.raises(FloatingPointError) as fault:
        train(config, workdir, console=Console(file=io.StringIO()), devices=jax.devices()[:1])
    return workdir, str(fault.value)


def test_the_step_its_images_and_terms_are_told_and_the_batch_is_kept(stopped):
    workdir, told = stopped
    (file,) = workdir.glob("faults/*.npz")
    step = int(file.stem.removeprefix("step_"))
    fault = Fault.load(file)
    assert told.startswith(f"step {step} is not finite: ")
    assert f"python -m ssd_jax.training.replay {file}" in told
    assert "largest terms: " in told
    for image, name in zip(fault.batch["image_id"], fault.batch["name"], strict=True):
        assert f"{image} ({name})" in told
    assert "or set config.train.not_finite=skip" in told
    # The weights are those before the step, though it was seen later.
    assert fault.step == step
    assert fault.state_step == step - 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fault.variables))


def test_replay_does_the_step_again(stopped, capsys):
    workdir, _ = stopped
    (file,) = workdir.glob("faults/*.npz")
    replay.main([str(file)])
    printed = capsys.readouterr().out
    assert printed.startswith(f"step {Fault.load(file).step}, batch of 8 images:")
    assert "largest terms of the loss" in printed


def test_nothing_is_unpickled(stopped, tmp_path):
    workdir, _ = stopped
    (file,) = workdir.glob("faults/*.npz")
    with np.load(file, allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)
    with pytest.raises(ValueError, match=r"other\.npz is no \.npz that a training run"):
        (tmp_path / "other.npz").write_bytes(b"no zip")
        Fault.load(tmp_path / "other.npz")
    with pytest.raises(FileNotFoundError):
        Fault.load(tmp_path / "nothing.npz")


@pytest.fixture(scope="module")
def healthy(stopped):
    """The same step with fresh weights: nothing is wrong with it."""
    (file,) = stopped[0].glob("faults/*.npz")
    fault = Fault.load(file)
    with jax.numpy_dtype_promotion("standard"):
        model = build_model(fault.config, fault.class_names)
        fresh = init_state(model, build_optimizer(fault.config), 0).learning
    return dataclasses.replace(fault, variables=jax.tree.map(np.array, fresh))


def test_a_step_without_fault_is_found_so(healthy):
    found = diagnose(healthy)
    assert not found.repeats
    assert "finite when it is done again" in found.summary
    # The largest term is of the loss: none is above the sum.
    assert np.isfinite(list(found.losses.values())).all()


@pytest.mark.parametrize(
    ("layer", "remat"),
    [("backbone/conv4_2/conv", True), ("extras/conv6_2/conv", False), ("heads/conf_2", False)],
)
def test_the_layer_and_the_parameter_are_named(healthy, layer, remat):
    variables = jax.tree.map(np.copy, healthy.variables)
    parameters = variables["params"]
    for name in layer.split("/"):
        parameters = parameters[name]
    parameters["kernel"][0, 0, 0, 0] = np.inf
    config = healthy.config.copy_and_resolve_references()
    config.train.remat = remat
    found = diagnose(dataclasses.replace(healthy, variables=variables, config=config))
    assert found.repeats
    assert found.inputs == [f"params/{layer}/kernel was not finite before the step"]
    assert found.layer == f"the output of {layer} is not finite for all images"
    assert "backbone/conv1_1/conv/kernel" in found.gradients


def test_a_step_in_parts_is_looked_at_in_the_same_parts(shapes_folder):
    """Batch norm takes the statistics of a part; of which rows each part is made is the step's."""
    config = small_config(shapes_folder)
    config.train.accumulate = 2
    model = build_model(config, CLASSES)
    state = init_state(model, build_optimizer(config), 0)
    rng, count = np.random.default_rng(0), model.priors.num_priors
    images = rng.normal(0, 60, (4, 96, 96, 3)).astype(np.float32)
    images[1] *= 20  # the parts' statistics differ
    labels = rng.choice(3, (4, count), p=(0.9, 0.05, 0.05)).astype(np.int32)
    samples = Samples(jnp.asarray(images), jnp.zeros((4, count, 4)), jnp.asarray(labels))
    loc, conf, finite = _forward(config, model, state.learning, samples)
    assert loc.shape == conf.shape == (4, count)
    assert all(rows.tolist() == [True] * 4 for rows in finite.values())
    gradients = jax.jit(build_gradients(config, model))
    _, _, metrics = gradients(state.params, state.batch_stats, samples)
    positives = np.sum(labels > 0)
    np.testing.assert_allclose(loc.sum() / positives, metrics["loc"], rtol=1e-4)
    np.testing.assert_allclose(conf.sum() / positives, metrics["conf"], rtol=1e-4)
    config.train.accumulate = 1
    whole, _, _ = _forward(config, model, state.learning, samples)
    assert np.abs(whole.sum() - loc.sum()) > 1e-2 * loc.sum()
