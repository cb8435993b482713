"""SGD with the paper's parameter groups, AdamW and Muon, and their learning rates."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from ml_collections import ConfigDict

from ssd_jax.recipe import choose


def learning_rate(config: ConfigDict) -> optax.Schedule:
    """The rate at a step: linear warm-up from 0, then by steps or along a cosine.

    Args:
      config: a whole config; its `optimizer` and `train.steps` count.

    Returns:
      A function of the number of steps done.
    """
    settings = config.optimizer
    warmup = settings.warmup_steps

    def steps() -> optax.Schedule:
        drops = {boundary: 0.1 for boundary in settings.boundaries}
        return optax.piecewise_constant_schedule(settings.rate, drops)

    def cosine() -> optax.Schedule:
        return optax.cosine_decay_schedule(settings.rate, max(1, config.train.steps))

    schedule = choose("optimizer.schedule", settings.schedule, {"step": steps, "cosine": cosine})()

    def rate(step: Array | int) -> Array:
        rising = (jnp.asarray(step, jnp.float32) + 1.0) / (warmup + 1.0)
        return schedule(step) * jnp.minimum(rising, 1.0)

    return rate


def is_bias(params: Any) -> Any:
    """A tree like `params` of booleans: whether the leaf is a bias."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "bias", params)


def _muon(momentum: float, adam_rate: float) -> optax.GradientTransformation:
    """Muon on the convolutions' kernels, each a matrix [kh kw I, O]; Adam on all else."""

    def is_kernel(params: Any) -> Any:
        return jax.tree.map(lambda leaf: "muon" if leaf.ndim == 4 else "adam", params)

    def as_matrices(kernels: Any) -> Any:
        dimensions = optax.contrib.MuonDimensionNumbers((0, 1, 2), (3,))
        return jax.tree.map(lambda _: dimensions, kernels)

    muon = optax.contrib.scale_by_muon(beta=momentum, weight_dimension_numbers=as_matrices)
    adam = optax.chain(optax.scale_by_adam(), optax.scale(adam_rate))
    return optax.partition({"muon": muon, "adam": adam}, is_kernel)


def build_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """SGD with momentum, AdamW, or Muon; weights decay, biases learn at `bias_rate`.

    Biases decay under `decay_biases` only, which the original has not and PyTorch's programs have.

    SGD's decay is coupled: added to the gradient before the momentum, as in Caffe. The others' is
    not. Muon (K. Jordan, "Muon: an optimizer for hidden layers in neural networks", 2024) makes
    each kernel's momentum orthogonal: all its directions move as much.
    """
    settings = config.optimizer

    def decays(params: Any) -> Any:
        return jax.tree.map(lambda bias: settings.decay_biases or not bias, is_bias(params))

    decay = optax.add_decayed_weights(settings.weight_decay, mask=decays)
    directions = {
        "sgd": (decay, optax.trace(settings.momentum)),
        "adamw": (optax.scale_by_adam(b1=settings.momentum), decay),
        "muon": (_muon(settings.momentum, settings.adam_rate), decay),
    }
    return optax.chain(
        *choose("optimizer.kind", settings.kind, directions),
        optax.masked(optax.scale(settings.bias_rate), is_bias),
        optax.scale_by_learning_rate(learning_rate(config)),
    )
