"""The loop that is timed feeds the devices that the step is on."""

import end_to_end
import jax
import jax.numpy as jnp

from ssd_jax.sharding import make_mesh, shardings
from tests.small import small_config


class Fed:
    """Stands for a training step; keeps where its batches lay."""

    def __init__(self) -> None:
        _, self.rows = shardings(make_mesh(jax.devices()[:1]))
        self.batch: dict[str, jax.Array] = {}
        self.devices: set[jax.Device] = set()
        self.steps = 0

    def __call__(self) -> jax.Array:
        self.devices |= self.batch["image"].sharding.device_set
        self.steps += 1
        return jnp.zeros(())


def test_batches_go_to_the_devices_of_the_step(shapes_folder):
    config = small_config(shapes_folder)
    config.train.batch_size = 2  # fewer than there are devices
    config.train.steps = end_to_end.WARM_UP + 2
    training = Fed()
    seconds, waited = end_to_end.run(config, training)
    assert 0 <= waited <= seconds
    assert training.steps == config.train.steps
    assert training.devices == {jax.devices()[0]}
