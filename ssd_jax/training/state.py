"""What a training run carries from step to step."""

from collections.abc import Callable
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


def init_state(
    model: SSD,
    optimizer: optax.GradientTransformation,
    seed: int,
    adapt: Callable[[Any], Any] = lambda fresh: fresh,
) -> TrainState:
    """A state of no steps, determined by the seed and by `adapt`.

    `adapt` takes the fresh variables and returns those to start with.
    """
    images = jnp.zeros((1, *model.priors.image_size, 3), jnp.float32)
    variables = adapt(jax.jit(model.init)(jax.random.key(seed), images))
    variables = jax.tree.map(jnp.asarray, variables)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(variables["params"]),
    )
