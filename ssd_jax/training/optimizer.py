"""SGD with the paper's parameter groups, AdamW and Muon; rates by step and by parameter."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from ml_collections import ConfigDict

from ssd_jax.recipe import choose
from ssd_jax.training.names import check_patterns, matches, name_of


def learning_rate(config: ConfigDict) -> optax.Schedule:
    """The rate at a step: linear warm-up from 0, then by steps, along a cosine or a polynomial.

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

    def polynomial() -> optax.Schedule:
        return optax.polynomial_schedule(
            settings.rate, 0.0, settings.power, max(1, config.train.steps)
        )

    schedules = {"step": steps, "cosine": cosine, "polynomial": polynomial}
    schedule = choose("optimizer.schedule", settings.schedule, schedules)()

    def rate(step: Array | int) -> Array:
        rising = (jnp.asarray(step, jnp.float32) + 1.0) / (warmup + 1.0)
        return schedule(step) * jnp.minimum(rising, 1.0)

    return rate


def is_bias(params: Any) -> Any:
    """A tree like `params` of booleans: whether the leaf is a bias."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "bias", params)


def is_norm(params: Any) -> Any:
    """A tree like `params` of booleans: whether the leaf is batch norm's, a scale beside a bias."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    scaled, biased = ({p[:-1] for p in paths if p[-1].key == name} for name in ("scale", "bias"))
    return jax.tree_util.tree_map_with_path(lambda path, _: path[:-1] in scaled & biased, params)


def is_frozen(config: ConfigDict, params: Any) -> Any:
    """A tree like `params` of booleans: whether `optimizer.frozen` names the leaf."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: matches(name_of(path), config.optimizer.frozen), params
    )


def rate_multiples(config: ConfigDict, params: Any) -> Any:
    """A tree like `params` of floats: what each leaf's update is multiplied by.

    The first of the pairs of `optimizer.rates` whose pattern fits says it, 1 where none does; what
    is frozen has 0.
    """

    def multiple(path: tuple[Any, ...], frozen: bool) -> float:
        fitting = (
            factor
            for pattern, factor in config.optimizer.rates
            if matches(name_of(path), [pattern])
        )
        return 0.0 if frozen else float(next(fitting, 1.0))

    return jax.tree_util.tree_map_with_path(multiple, is_frozen(config, params))


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

    Gradients are clipped first, by the norm of all together. What is frozen does not move, by decay
    neither. Neither clipping, freezing nor rates by name have a state of their own: a run can go on
    with others.

    Batch norm's scale and bias learn at the plain rate and without decay, as in Caffe
    (model_libs.py, ConvBNLayer); with `decay_biases` all parameters decay.

    SGD's decay is coupled: added to the gradient before the momentum, as in Caffe. The others' is
    not. Muon (K. Jordan, "Muon: an optimizer for hidden layers in neural networks", 2024) makes
    each kernel's momentum orthogonal: all its directions move as much.

    Raises:
      ValueError: rates by name are no pairs; when a state is made, a pattern fits no parameter.
    """
    settings = config.optimizer
    for pair in settings.rates:
        if isinstance(pair, str | float) or len(pair) != 2:
            raise ValueError(
                f"config.optimizer.rates is {settings.rates!r}: it has to be pairs of a pattern "
                "and a factor, as (('backbone/*', 0.1),)"
            )

    def decays(params: Any) -> Any:
        return jax.tree.map(
            lambda bias, norm: settings.decay_biases or not (bias or norm),
            is_bias(params),
            is_norm(params),
        )

    def is_layers_bias(params: Any) -> Any:
        return jax.tree.map(lambda bias, norm: bias and not norm, is_bias(params), is_norm(params))

    decay = optax.add_decayed_weights(settings.weight_decay, mask=decays)
    directions = {
        "sgd": (decay, optax.trace(settings.momentum)),
        "adamw": (optax.scale_by_adam(b1=settings.momentum), decay),
        "muon": (_muon(settings.momentum, settings.adam_rate), decay),
    }
    rule = optax.chain(
        *choose("optimizer.kind", settings.kind, directions),
        optax.masked(optax.scale(settings.bias_rate), is_layers_bias),
        optax.scale_by_learning_rate(learning_rate(config)),
    )
    clip = optax.clip_by_global_norm(settings.clip_norm) if settings.clip_norm else optax.identity()

    def init(params: Any) -> optax.OptState:
        check_patterns("optimizer.frozen", settings.frozen, params)
        check_patterns("optimizer.rates", [pattern for pattern, _ in settings.rates], params)
        return rule.init(params)

    def update(
        gradients: Any, state: optax.OptState, params: Any = None
    ) -> tuple[Any, optax.OptState]:
        clipped, _ = clip.update(gradients, optax.EmptyState())
        updates, state = rule.update(clipped, state, params)
        scaled = jax.tree.map(lambda x, factor: x * factor, updates, rate_multiples(config, params))
        return scaled, state

    return optax.GradientTransformation(init, update)
