"""One training step: augment, match, forward, mine, loss, gradient, update, all on the device."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from ml_collections import ConfigDict

from ssd_jax.augment import augment
from ssd_jax.losses import multibox_loss
from ssd_jax.matching import match
from ssd_jax.model import SSD
from ssd_jax.priors import prior_boxes
from ssd_jax.recipe import build_augmentation
from ssd_jax.sharding import shardings
from ssd_jax.training.optimizer import learning_rate
from ssd_jax.training.state import TrainState

Batch = Mapping[str, Array]
Metrics = dict[str, Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]

# What the device needs of a loader's batch.
BATCH_FIELDS = ("image", "size", "boxes", "labels")


def to_device(batch: Mapping[str, object], sharding: jax.sharding.Sharding) -> Batch:
    """What the device needs of a loader's batch, put there."""
    return jax.device_put({name: batch[name] for name in BATCH_FIELDS}, sharding)


def row_keys(seed: int, step: Array | int, rows: int) -> Array:
    """A key [rows] for every row of the global batch, from (seed, step, row) alone."""
    key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(rows))


def build_train_step(
    config: ConfigDict, model: SSD, optimizer: optax.GradientTransformation
) -> TrainStep:
    """The pure function (state, batch) -> (state, metrics).

    The batch: image uint8 [B, S, S, 3], size int32 [B, 2], boxes float32 [B, N, 4], labels int32
    [B, N], as the loader makes them. The metrics are scalars of this step.
    """
    spec = model.priors
    priors = jnp.asarray(prior_boxes(spec))
    options = build_augmentation(config)
    normalise = {"mean": tuple(config.model.mean), "std": tuple(config.model.std)}
    rate = learning_rate(config)

    def inputs_and_targets(key, image, size, boxes, labels):
        image, boxes, labels = augment(
            key,
            image,
            size,
            boxes,
            labels,
            image_size=spec.image_size,
            options=options,
            **normalise,
        )
        targets = match(
            boxes,
            labels,
            priors,
            threshold=config.matching.threshold,
            variances=spec.variances,
            bipartite=config.matching.bipartite,
        )
        return image, *targets

    def loss_fn(params, batch_stats, images, loc_targets, label_targets):
        variables = {"params": params, "batch_stats": batch_stats}
        (loc, conf), updates = model.apply(variables, images, train=True, mutable=["batch_stats"])
        losses = multibox_loss(
            loc,
            conf,
            loc_targets,
            label_targets,
            neg_pos_ratio=config.loss.neg_pos_ratio,
            min_negatives=config.loss.min_negatives,
        )
        return losses.loc + losses.conf, (losses, updates.get("batch_stats", {}))

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        keys = row_keys(config.seed, state.step, batch["image"].shape[0])
        images, loc_targets, label_targets = jax.vmap(inputs_and_targets)(
            keys, *(batch[name] for name in BATCH_FIELDS)
        )
        (loss, (losses, batch_stats)), gradients = jax.value_and_grad(loss_fn, has_aux=True)(
            state.params, state.batch_stats, images, loc_targets, label_targets
        )
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        metrics = {
            "loss": loss,
            "loc": losses.loc,
            "conf": losses.conf,
            "positives": jnp.mean(jnp.sum(label_targets > 0, axis=1).astype(jnp.float32)),
            "gradient_norm": optax.tree.norm(gradients),
            "rate": rate(state.step),
        }
        state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        return state, metrics

    return train_step


def compile_train_step(step: TrainStep, mesh: jax.sharding.Mesh) -> Any:
    """Jits the step over a mesh: the batch split by rows, the state on every device and donated."""
    replicated, rows = shardings(mesh)
    return jax.jit(
        step,
        in_shardings=(replicated, rows),
        out_shardings=(replicated, replicated),
        donate_argnums=0,
    )
