"""The exponential moving average of a network's variables, which is evaluated in their place."""

from typing import Any

import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Float, Int


def decay_at(step: Int[Array, ""], decay: float) -> Float[Array, ""]:
    """What is kept of the average at a step, counted from 0: min(decay, (1 + step) / (10 + step)).

    The warm-up of TensorFlow's `tf.train.ExponentialMovingAverage(num_updates=step)`: while few
    steps are done the average follows the weights closely, so that where they began is forgotten.
    """
    done = step.astype(jnp.float32)
    return jnp.minimum(jnp.float32(decay), (1.0 + done) / (10.0 + done))


def averaged(average: Any, variables: Any, step: Int[Array, ""], decay: float) -> Any:
    """The average after a step that led to `variables`.

    Batch norm's running statistics are averaged as the parameters are, as timm's `ModelEmaV3` does:
    they belong to the weights of their time.
    """
    return optax.incremental_update(variables, average, 1.0 - decay_at(step, decay))
