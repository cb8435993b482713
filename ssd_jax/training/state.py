"""What a training run carries from step to step."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from ssd_jax.model import SSD

_RUNS_ONCE = {"xla_backend_optimization_level": 1}
"""The same numbers as by XLA's usual level, 3; on a CPU compiled in a third of the time."""


@flax.struct.dataclass
class TrainState:
    """All that changes while training: with the config and the data it determines the rest.

    Attributes:
      step: int32 [], steps done.
      params: the network's parameters, float32.
      batch_stats: batch norm's running statistics; empty without batch norm.
      opt_state: the optimizer's.
      average: the moving average of params and batch_stats, as `learning`; {} where none is kept.
      seed: uint32 [], the config's, of which random keys take so many bits; no constant of the
        compiled step, which is the same for all.
      skipped: int32 [], steps since the program started whose numbers were not finite.
    """

    step: Any  # not Array: tree transformations fill in placeholders
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    average: Any
    seed: Any
    skipped: Any

    @property
    def learning(self) -> dict[str, Any]:
        """What `model.apply` takes, as it is learnt."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes to detect: the average where one is kept."""
        return self.average or self.learning

    @property
    def remainder(self) -> Any:
        """What a checkpoint holds besides `variables`, to go on."""
        if not self.average:
            return self.opt_state
        return {"opt_state": self.opt_state, "learning": self.learning}

    def restored(self, step: Any, variables: Any, remainder: Any) -> "TrainState":
        """A state with what a checkpoint had of a step: the inverse of the two properties."""
        average = variables if self.average else {}
        learning = remainder["learning"] if average else variables
        opt_state = remainder["opt_state"] if average else remainder
        return dataclasses.replace(
            self, step=step, opt_state=opt_state, average=average, **learning
        )


def initial_variables(model: SSD, seed: int) -> dict[str, Any]:
    """The variables that a network starts with, determined by the seed."""
    images = jnp.zeros((1, *model.priors.image_size, 3), jnp.float32)
    key = jax.random.key(seed)
    is_traced = isinstance(key, jax.core.Tracer)  # as by `jax.eval_shape`
    init = jax.jit(model.init, compiler_options=None if is_traced else _RUNS_ONCE)
    variables: dict[str, Any] = init(key, images)
    return variables


def init_state(
    model: SSD,
    optimizer: optax.GradientTransformation,
    seed: int,
    adapt: Callable[[Any], Any] = lambda fresh: fresh,
    *,
    average: bool = False,
) -> TrainState:
    """A state of no steps, determined by the seed and by `adapt`.

    `adapt` takes the fresh variables and returns those to start with. `average` says whether the
    state keeps a moving average of them; it begins with these.
    """
    variables = jax.tree.map(jnp.asarray, adapt(initial_variables(model, seed)))
    learning = {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        opt_state=optimizer.init(variables["params"]),
        # Copies: a step gives the memory of its state to the next, each array once.
        average=jax.tree.map(jnp.copy, learning) if average else {},
        seed=jnp.uint32(seed % 2**32),
        skipped=jnp.zeros((), jnp.int32),
        **learning,
    )
