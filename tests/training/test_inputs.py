"""A run reads what its config says."""

import io

import jax
import numpy as np
import pytest
from rich.console import Console

from ssd_jax.data import Policies, train_batches
from ssd_jax.sharding import make_mesh, shardings
from ssd_jax.training.inputs import first_batches, load_batches, remake_batch
from tests.data.test_loader import assert_same, file_dataset
from tests.small import small_config


@pytest.fixture
def config():
    config = small_config("")
    config.data.difficult = config.data.background = "drop"
    config.data.slots, config.data.canvas, config.seed = 9, 48, 3
    config.train.batch_size, config.train.steps = 2, 5
    return config


def test_batches_are_by_the_config(tmp_path, config):
    dataset, (_, rows) = file_dataset(tmp_path), shardings(make_mesh(jax.devices()[:1]))

    def batches(**options):
        defaults = {"slots": 9, "seed": 3, "stop_step": 5}
        policies = Policies(difficult="drop", background="drop")
        options = {"policies": policies, **defaults, **options}
        return list(train_batches(dataset, batch_size=2, canvas_size=48, **options))

    expected = batches()
    quiet = Console(file=io.StringIO())
    assert_same(expected, list(load_batches(config, dataset, 0, rows, quiet)))
    assert_same(expected[2:], list(load_batches(config, dataset, 2, rows, quiet)))
    assert_same(expected[:3], list(first_batches(config, dataset, 3, rows)))
    assert_same(expected[3:4], [remake_batch(config, dataset, 4)])

    # It would be seen: each of these makes other batches.
    for other in (
        batches(seed=0),
        batches(policies=Policies(difficult="drop")),
        batches(policies=Policies(background="drop")),
    ):
        assert any(
            not np.array_equal(ours[key], theirs[key])
            for ours, theirs in zip(expected, other, strict=True)
            for key in ("boxes", "image")
        )
    assert batches(slots=0)[0]["boxes"].shape[1] < 9 == expected[0]["boxes"].shape[1]
