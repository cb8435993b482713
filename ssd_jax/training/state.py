"""What a training run carries from step to step."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from ssd_jax.model import SSD


@flax.struct.dataclass
class TrainState:
    """All that changes while training: with the config and the data it determines the rest.

    Attributes:
      step: int32 [], steps done.
      params: the network's parameters, float32.
      batch_stats: batch norm's running statistics; empty without batch norm.
      opt_state: the optimizer's.
    """

    step: Any  # not Array: tree transformations fill in placeholders
    params: Any
    batch_stats: Any
    opt_state: optax.OptState

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def init_state(model: SSD, optimizer: optax.GradientTransformation, seed: int) -> TrainState:
    """A fresh state; all of it is determined by the seed."""
    images = jnp.zeros((1, *model.priors.image_size, 3), jnp.float32)
    variables = jax.jit(model.init)(jax.random.key(seed), images)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(variables["params"]),
    )
