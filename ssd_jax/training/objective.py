"""What a step minimises: from canvases and boxes to the terms of the loss."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from ssd_jax.augment import augment
from ssd_jax.losses import MultiboxTerms, multibox_terms
from ssd_jax.matching import Bipartite, match
from ssd_jax.model import SSD
from ssd_jax.priors import PriorSpec, prior_boxes
from ssd_jax.recipe import build_augmentation, choose
from ssd_jax.training.names import check_patterns, matches

Batch = Mapping[str, Array]

# What the device needs of a loader's batch.
BATCH_FIELDS = ("image", "size", "boxes", "labels")


def batch_shapes(config: ConfigDict) -> dict[str, jax.ShapeDtypeStruct]:
    """What a step takes, where no image has more objects than `data.slots`."""
    rows, side, slots = config.train.batch_size, config.data.canvas, config.data.slots
    return {
        "image": jax.ShapeDtypeStruct((rows, side, side, 3), jnp.uint8),
        "size": jax.ShapeDtypeStruct((rows, 2), jnp.int32),
        "boxes": jax.ShapeDtypeStruct((rows, slots, 4), jnp.float32),
        "labels": jax.ShapeDtypeStruct((rows, slots), jnp.int32),
    }


def row_keys(seed: Array | int, step: Array | int, rows: int) -> Array:
    """A key [rows] for every row of the global batch, from (seed, step, row) alone."""
    key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(rows))


class Samples(NamedTuple):
    """Augmented pictures, mean subtracted, and what each prior is to say about them.

    Attributes:
      images: as the network takes them.
      loc_targets: offsets.
      label_targets: classes; 0 is background, -1 to be ignored.
    """

    images: Float[Array, "*B h w 3"]
    loc_targets: Float[Array, "*B P 4"]
    label_targets: Int[Array, "*B P"]


def build_samples(config: ConfigDict, spec: PriorSpec) -> Callable[[Array, Batch], Samples]:
    """The pure function (keys [B], batch) -> Samples: augment and match, image by image.

    Raises:
      ValueError: the config's `matching` has a value that there is not.
    """
    bipartite, threshold = config.matching.bipartite, config.matching.threshold
    choose("matching.bipartite", bipartite, dict.fromkeys(get_args(Bipartite)))
    if threshold <= 0:
        raise ValueError(f"config.matching.threshold is {threshold}: it must be above 0")
    priors = jnp.asarray(prior_boxes(spec))
    options = build_augmentation(config)
    normalise = {"mean": tuple(config.model.mean), "std": tuple(config.model.std)}

    def sample(key: Array, image: Array, size: Array, boxes: Array, labels: Array) -> Samples:
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
        loc_targets, label_targets = match(
            boxes,
            labels,
            priors,
            threshold=threshold,
            variances=spec.variances,
            bipartite=bipartite,
        )
        return Samples(image, loc_targets, label_targets)

    def samples(keys: Array, batch: Batch) -> Samples:
        return jax.vmap(sample)(keys, *(batch[name] for name in BATCH_FIELDS))

    return samples


def apply_training(
    config: ConfigDict, model: SSD, variables: Any, images: Array, **options: Any
) -> tuple[tuple[Array, Array], Any]:
    """The network as it trains: ((offsets, logits), the collections that changed).

    Batch norms that `optimizer.frozen_statistics` names use their running statistics, and keep
    them. `options` go to `model.apply`.
    """
    patterns = config.optimizer.frozen_statistics
    check_patterns("optimizer.frozen_statistics", patterns, variables["batch_stats"])

    def keep_statistics(method: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext):
        layer = context.module
        if isinstance(layer, nn.BatchNorm) and matches("/".join([*layer.path, "mean"]), patterns):
            kwargs = {**kwargs, "use_running_average": True}
        return method(*args, **kwargs)

    with nn.intercept_methods(keep_statistics):
        outputs: Any = model.apply(
            variables, images, train=True, **{"mutable": ["batch_stats"], **options}
        )
    return outputs


def build_terms(config: ConfigDict) -> Callable[[Array, Array, Samples], MultiboxTerms]:
    """The pure function (offsets, logits, samples) -> the loss's terms."""

    def terms(loc: Array, conf: Array, samples: Samples) -> MultiboxTerms:
        return multibox_terms(
            loc,
            conf,
            samples.loc_targets,
            samples.label_targets,
            neg_pos_ratio=config.loss.neg_pos_ratio,
            min_negatives=config.loss.min_negatives,
        )

    return terms
