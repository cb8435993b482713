"""What the benchmarks run: on which devices, and how much work it is."""

import jax
import jax.numpy as jnp
import pytest
import workload
from workload import CLASS_NAMES, Training, multiply_adds, recipe

from ssd_jax.recipe import build_model
from tests.small import small_config

pytestmark = pytest.mark.usefixtures("loose_dtypes")


# SSD300's convolutions: side of the result, side of the kernel, channels in and out.
VGG = (
    *((300, 3, 3, 64), (300, 3, 64, 64), (150, 3, 64, 128), (150, 3, 128, 128)),
    *((75, 3, 128, 256), (75, 3, 256, 256), (75, 3, 256, 256)),
    *((38, 3, 256, 512), (38, 3, 512, 512), (38, 3, 512, 512)),
    *((19, 3, 512, 512), (19, 3, 512, 512), (19, 3, 512, 512)),
    *((19, 3, 512, 1024), (19, 1, 1024, 1024)),
)
EXTRAS = (
    *((19, 1, 1024, 256), (10, 3, 256, 512), (10, 1, 512, 128), (5, 3, 128, 256)),
    *((5, 1, 256, 128), (3, 3, 128, 256), (3, 1, 256, 128), (1, 3, 128, 256)),
)
HEADS = tuple(
    (side, 3, channels, boxes * (4 + 21))
    for side, channels, boxes in (
        *((38, 512, 4), (19, 1024, 6), (10, 512, 6), (5, 256, 6), (3, 256, 4), (1, 256, 4)),
    )
)


def test_multiply_adds_are_those_of_the_network_without_a_gpu_s_padding():
    by_hand = sum(
        side**2 * kernel**2 * channels * features
        for side, kernel, channels, features in VGG + EXTRAS + HEADS
    )
    assert round(by_hand / 1e9, 1) == 31.4
    assert multiply_adds(build_model(recipe(300), CLASS_NAMES)) == by_hand


def test_a_training_is_on_the_first_device_alone_unless_told(monkeypatch):
    monkeypatch.setattr(workload, "init_state", lambda *arguments: {"weights": jnp.zeros(3)})
    config, devices = small_config(""), jax.devices()
    for given, wanted in ((None, devices[:1]), (devices[:2], devices[:2])):
        training = Training(config, given)
        for leaf in jax.tree.leaves((training.state, training.batch)):
            assert leaf.sharding.device_set == set(wanted)
