"""Times each part of a training step, and the share that is not the network.

    python benchmarks/parts.py [--quick]

Each part is compiled and timed alone; the share is what the whole step takes longer than the
network's forward and backward pass.
"""

import functools

import jax
import jax.numpy as jnp
import optax
from common import Report, main, medians, on_cpu
from workload import Training, recipe

from ssd_jax.augment import augment
from ssd_jax.losses import multibox_loss
from ssd_jax.matching import match
from ssd_jax.priors import prior_boxes
from ssd_jax.recipe import build_augmentation
from ssd_jax.training.optimizer import build_optimizer
from ssd_jax.training.step import row_keys

SHARE_BAR = 0.1


def measure(report: Report, quick: bool) -> None:
    """The parts of SSD300's step."""
    batch_size = (1 if quick else 4) if on_cpu() else (8 if quick else 32)
    dtype = "float32" if on_cpu() else "bfloat16"
    config = recipe(300, batch_size=batch_size, dtype=dtype)
    training = Training(config)
    parts = build_parts(config, training)
    seconds = medians(
        {**parts, "whole step": training},
        rounds=3 if quick else 7,
        at_once=1 if on_cpu() else 10,
    )
    for name, time in seconds.items():
        report.add(f"SSD300, batch {batch_size}: {name}", 1e3 * time, "ms")
    whole, network = seconds["whole step"], seconds["network, forward and backward"]
    share = (whole - network) / whole
    bar = None if on_cpu() or quick else SHARE_BAR
    report.add(f"SSD300, batch {batch_size}: not the network", share, "", at_most=bar)


def build_parts(config, training: Training) -> dict:
    """The parts by name, each a call that runs it once on arguments made beforehand."""
    model, batch, state = training.model, training.batch, training.state
    spec, rows = model.priors, config.train.batch_size
    priors = jnp.asarray(prior_boxes(spec))
    options, mean = build_augmentation(config), tuple(config.model.mean)
    augment_one = functools.partial(augment, image_size=spec.image_size, mean=mean, options=options)
    augmented = jax.jit(jax.vmap(augment_one))
    matched = jax.jit(jax.vmap(lambda boxes, labels: match(boxes, labels, priors)))

    def outputs(params, images):
        return model.apply({"params": params}, images, train=True)

    def output_sum(params, images):
        return sum(jnp.sum(output) for output in outputs(params, images))

    def loss(loc, conf, loc_targets, label_targets):
        return sum(multibox_loss(loc, conf, loc_targets, label_targets))

    optimizer = build_optimizer(config)

    def update(gradients, opt_state, params):
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, optax.tree.norm(gradients)

    # With the value: the gradient alone does not need the heads' forward pass.
    forward, backward = jax.jit(outputs), jax.jit(jax.value_and_grad(output_sum))
    loss_gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    updated = jax.jit(update)

    # Copies: the whole step, timed in the same rounds, gives its own state's memory away.
    params, opt_state = jax.tree.map(jnp.copy, (state.params, state.opt_state))
    keys = row_keys(0, 0, rows)
    arguments = keys, batch["image"], batch["size"], batch["boxes"], batch["labels"]
    images, boxes, labels = augmented(*arguments)
    targets = matched(boxes, labels)
    predictions, (_, gradients) = forward(params, images), backward(params, images)
    return {
        "augmentation": lambda: augmented(*arguments),
        "matching": lambda: matched(boxes, labels),
        "network, forward": lambda: forward(params, images),
        "network, forward and backward": lambda: backward(params, images),
        "mining and loss, forward and backward": lambda: loss_gradient(*predictions, *targets),
        "optimizer": lambda: updated(gradients, opt_state, params),
    }


if __name__ == "__main__":
    main(__doc__, measure)
