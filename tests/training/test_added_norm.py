import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from ssd_jax.data.images import decode_image, place_on_canvas
from ssd_jax.recipe import build_model, build_stages
from ssd_jax.training.checkpoints import Checkpoints, Meta
from ssd_jax.training.optimizer import build_optimizer
from ssd_jax.training.setup import set_up
from ssd_jax.training.state import init_state
from tests.small import small_config

pytestmark = pytest.mark.usefixtures("compiled_in_haste", "loose_dtypes")

CLASSES = ("circle", "square", "triangle", "star", "ring", "cross")


@pytest.fixture
def plain(tmp_path):
    """(folder, model, variables) of a run without batch norm, its biases away from 0."""
    config = small_config("")
    config.model.batch_norm = False
    model = build_model(config, CLASSES)
    state = init_state(model, build_optimizer(config), seed=9)
    random = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: (
            random.normal(0, 0.1, leaf.shape).astype(np.float32) if leaf.ndim == 1 else leaf
        ),
        state.params,
    )
    checkpoints = Checkpoints(tmp_path / "plain", keep=1)
    checkpoints.save(state.replace(params=params), Meta(config, CLASSES))
    checkpoints.close()
    return tmp_path / "plain", model, {"params": params}


def test_batch_norm_is_added_to_weights_without_it_and_changes_nothing(
    plain, tmp_path, shapes_folder
):
    folder, model, variables = plain
    config = small_config(shapes_folder)
    config.init = str(folder)
    console = Console(file=io.StringIO(), width=300)
    setup, state = set_up(config, tmp_path / "new", False, jax.devices()[:1], console)
    assert setup.model.batch_norm
    printed = console.file.getvalue()
    assert "no batch norm; it is added, by what 256 training images give" in printed
    assert "classes taken by name: 6 of 6" in printed

    images = np.random.default_rng(1).normal(0, 60, (4, 96, 96, 3)).astype(np.float32)
    ours = jax.jit(setup.model.apply)(state.learning, images)
    theirs = jax.jit(model.apply)(variables, images)
    for output, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(output, expected, atol=1e-4 * np.abs(expected).max())


def test_it_starts_with_the_statistics_of_the_training_images(plain, tmp_path, shapes_folder):
    """Of the first layer, over all images of the split, by a convolution in NumPy."""
    folder, _, variables = plain
    config = small_config(shapes_folder)
    config.init = str(folder)
    config.augment.mirror_probability = 0.0
    setup, state = set_up(
        config, tmp_path / "new", False, jax.devices()[:1], Console(file=io.StringIO())
    )
    source = setup.train_data.source
    files = [(source[row]["image"], source[row]["name"]) for row in range(32)]
    placed = [place_on_canvas(decode_image(*file), config.data.canvas) for file in files]
    images = build_stages(config, setup.model).preprocess(
        jnp.array([canvas for canvas, _ in placed]), jnp.array([size for _, size in placed])
    )
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0))).astype(np.float64)
    kernel = np.asarray(variables["params"]["backbone"]["conv1_1"]["conv"]["kernel"])
    outputs = sum(
        padded[:, row : row + 96, column : column + 96] @ kernel[row, column]
        for row in range(3)
        for column in range(3)
    )
    ours = state.batch_stats["backbone"]["conv1_1"]["bn"]
    np.testing.assert_allclose(ours["mean"], outputs.mean(axis=(0, 1, 2)), rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(ours["var"], outputs.var(axis=(0, 1, 2)), rtol=1e-3)
