"""One training step: augment, match, forward, mine, loss, gradient, update, all on the device."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Bool, Float
from ml_collections import ConfigDict

from ssd_jax.losses import loss_normalizer
from ssd_jax.model import SSD
from ssd_jax.recipe import choose
from ssd_jax.sharding import place_rows, shardings
from ssd_jax.training.ema import averaged
from ssd_jax.training.names import matches, names
from ssd_jax.training.objective import (
    BATCH_FIELDS,
    Batch,
    Samples,
    apply_training,
    build_samples,
    build_terms,
    row_keys,
)
from ssd_jax.training.optimizer import is_frozen, learning_rate
from ssd_jax.training.state import TrainState

Metrics = dict[str, Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def to_device(batch: Mapping[str, object], sharding: jax.sharding.Sharding) -> Batch:
    """What the device needs of a loader's batch, put there."""
    return place_rows({name: batch[name] for name in BATCH_FIELDS}, sharding)


def build_gradients(
    config: ConfigDict, model: SSD, mesh: jax.sharding.Mesh | None = None
) -> Callable[..., tuple[Any, Any, Metrics]]:
    """The pure function (params, batch_stats, samples) -> (gradients, batch_stats, metrics).

    `mesh` is that of parameters which are split over devices.

    With `train.accumulate` A above 1 the samples go through the network in A parts of equal size,
    one after the other. The loss is still that of the whole batch: what each part adds to it is
    divided by the positives of all parts, so gradients add up to the very same. Batch norm alone
    sees the parts: it takes each part's statistics.
    """
    terms = build_terms(config)

    def loss_fn(params, batch_stats, samples: Samples, normalizer: Float[Array, ""]):
        if mesh is not None:
            # Parameters that are split over devices come together here: left to the compiler, the
            # features, which are much larger, are split by channels to go with them.
            params = jax.lax.with_sharding_constraint(params, shardings(mesh)[0])
        params = jax.tree.map(
            lambda leaf, frozen: jax.lax.stop_gradient(leaf) if frozen else leaf,
            params,
            is_frozen(config, params),
        )
        variables = {"params": params, "batch_stats": batch_stats}
        (loc, conf), changed = apply_training(config, model, variables, samples.images)
        of_priors = terms(loc, conf, samples)
        losses = of_priors.loss(normalizer)
        metrics = {
            "loss": losses.loc + losses.conf,
            "loc": losses.loc,
            "conf": losses.conf,
            "positives": jnp.sum(samples.label_targets > 0),
            "negatives": jnp.sum(of_priors.negatives),
        }
        return metrics["loss"], (changed.get("batch_stats", {}), metrics)

    differentiate = jax.grad(loss_fn, has_aux=True)

    def gradients(params, batch_stats, samples: Samples) -> tuple[Any, Any, Metrics]:
        normalizer = loss_normalizer(
            samples.label_targets,
            neg_pos_ratio=config.loss.neg_pos_ratio,
            min_negatives=config.loss.min_negatives,
        )
        if config.train.accumulate == 1:
            gradient, (batch_stats, metrics) = differentiate(
                params, batch_stats, samples, normalizer
            )
            return gradient, batch_stats, metrics

        def add_part(sums, part: Samples):
            batch_stats, *added = sums
            gradient, (batch_stats, metrics) = differentiate(params, batch_stats, part, normalizer)
            return (batch_stats, *jax.tree.map(jnp.add, added, [gradient, metrics])), None

        parts = jax.tree.map(lambda x: in_parts(x, config.train.accumulate), samples)
        one_part = jax.tree.map(lambda x: x[0], parts)
        added, (_, metrics) = jax.eval_shape(
            differentiate, params, batch_stats, one_part, normalizer
        )
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (added, metrics))
        (batch_stats, gradient, metrics), _ = jax.lax.scan(add_part, (batch_stats, *nothing), parts)
        return gradient, batch_stats, metrics

    return gradients


def build_train_step(
    config: ConfigDict,
    model: SSD,
    optimizer: optax.GradientTransformation,
    mesh: jax.sharding.Mesh | None = None,
) -> TrainStep:
    """The pure function (state, batch) -> (state, metrics).

    `mesh` is that of a state which is split over devices.

    The batch: image uint8 [B, S, S, 3], size int32 [B, 2], boxes float32 [B, N, 4], labels int32
    [B, N], as the loader makes them. The metrics are scalars of this step.

    A step whose loss, gradients or new parameters are not finite changes no weights: it counts as
    `skipped`. Once there are more of them than the config allows (with `train.not_finite` 'stop',
    any), nothing changes any more, also not `step`: the state stays as it was before the step at
    fault until the host, which reads the metrics later, sees it.

    Raises:
      ValueError: the batch does not fall into `train.accumulate` equal parts, or these are too
        small for batch norm.
    """
    batch_size, accumulate = config.train.batch_size, config.train.accumulate
    if accumulate < 1 or batch_size % accumulate:
        raise ValueError(
            f"config.train.accumulate is {accumulate}, which does not divide the "
            f"config.train.batch_size of {batch_size}"
        )
    _check_norm(model, config.optimizer.frozen_statistics, batch_size // accumulate)
    samples_of = build_samples(config, model.priors)
    gradients_of = build_gradients(config, model, mesh)
    rate = learning_rate(config)
    allowed = allowed_skips(config)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        rows = batch["image"].shape[0]
        samples = samples_of(row_keys(state.seed, state.step, rows), batch)
        gradients, batch_stats, metrics = gradients_of(state.params, state.batch_stats, samples)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics |= {
            "positives": metrics["positives"].astype(jnp.float32) / rows,
            "negatives": metrics["negatives"].astype(jnp.float32) / rows,
            "gradient_norm": optax.tree.norm(gradients),
            "parameter_norm": optax.tree.norm(params),
            "rate": rate(state.step),
        }
        figures = [metrics[name] for name in ("loss", "gradient_norm", "parameter_norm")]
        finite = jnp.isfinite(jnp.stack(figures)).all()
        skipped = state.skipped + (~finite).astype(jnp.int32)
        metrics["skipped"] = skipped
        goes_on = skipped <= allowed
        learned = {"params": params, "batch_stats": batch_stats}
        average = state.average
        if average:
            average = averaged(average, learned, state.step, config.ema.decay)
        taken = dataclasses.replace(state, opt_state=opt_state, average=average, **learned)
        state = _choose(finite & goes_on, taken, state)
        # A step that is skipped counts in the schedule, as it does in `step`.
        counted = _with_counts(state.opt_state, opt_state, goes_on)
        state = dataclasses.replace(state, opt_state=counted)
        step = state.step + goes_on.astype(jnp.int32)
        return dataclasses.replace(state, step=step, skipped=skipped), metrics

    return train_step


def _check_norm(model: SSD, frozen: Sequence[str], images: int) -> None:
    """Refuses batch norm of a single value, which is its bias whatever the network does.

    Its running variance would go to 0, and the same layer be a hundred times as strong in
    evaluation.
    """
    level = len(model.priors.feature_maps) - 1
    if images > 1 or model.priors.feature_maps[level] != (1, 1):
        return
    image = jax.ShapeDtypeStruct((1, *model.priors.image_size, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    last = (f"extras/conv{level + 4}_2/*", f"heads/loc_{level}_bn/*", f"heads/conf_{level}_bn/*")
    normed = [name for name in names(variables.get("batch_stats", {})) if matches(name, last)]
    if learnt := [name for name in normed if not matches(name, frozen)]:
        layers = ", ".join(dict.fromkeys(name.rpartition("/")[0] for name in learnt))
        raise ValueError(
            f"batch norm has one value a channel on the last level, of 1 x 1 cells ({layers}), "
            "where a step or a part of it (config.train.accumulate) is one image: take two or "
            "more, or hold its statistics by config.optimizer.frozen_statistics"
        )


def _with_counts(kept: Any, taken: Any, goes_on: Array) -> Any:
    """An optimizer's state with the schedules' counts of another."""

    def is_schedule(node: Any) -> bool:
        return isinstance(node, optax.ScaleByScheduleState)

    def choose_count(kept: Any, taken: Any) -> Any:
        return _choose(goes_on, taken, kept) if is_schedule(taken) else kept

    return jax.tree.map(choose_count, kept, taken, is_leaf=is_schedule)


def allowed_skips(config: ConfigDict) -> int:
    """How many steps that are not finite a run may skip.

    Raises:
      ValueError: `train.not_finite` is unknown.
    """
    policies = {"stop": 0, "skip": config.train.max_skipped}
    return choose("train.not_finite", config.train.not_finite, policies)


def compile_train_step(step: TrainStep, mesh: jax.sharding.Mesh, placement: Any = None) -> Any:
    """Jits the step over a mesh: the batch split by rows, the state donated.

    `placement` is a tree of shardings like the state, as `state_shardings` makes it; without it
    the whole state is on every device.
    """
    replicated, rows = shardings(mesh)
    placement = replicated if placement is None else placement
    return jax.jit(
        step,
        in_shardings=(placement, rows),
        out_shardings=(placement, replicated),
        donate_argnums=0,
    )


def in_parts(x: Array, count: int) -> Array:
    """[B, ...] as [count, B / count, ...], part i being the rows i, i + count, ...

    So a batch that is split over devices in blocks of rows leaves each device its own in each part.
    """
    return jnp.swapaxes(x.reshape(x.shape[0] // count, count, *x.shape[1:]), 0, 1)


def _choose(condition: Bool[Array, ""], yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
