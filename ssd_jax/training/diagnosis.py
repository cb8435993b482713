"""Where the numbers of a step go wrong: in which image, prior, layer and gradient."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float
from ml_collections import ConfigDict

from ssd_jax.model import SSD, Heads
from ssd_jax.priors import PriorSpec, prior_boxes
from ssd_jax.recipe import build_model
from ssd_jax.training.fault_file import Fault
from ssd_jax.training.names import name_of
from ssd_jax.training.objective import (
    BATCH_FIELDS,
    Samples,
    apply_training,
    build_samples,
    build_terms,
    row_keys,
)
from ssd_jax.training.step import build_gradients, in_parts

_NAMED = 8
_TERMS = 5


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """A step done again, looked at part by part.

    Attributes:
      losses: 'loss', 'loc' and 'conf' of the whole batch.
      inputs: what is not finite before the network: parameters, and pictures and targets by image.
      layer: the first layer, in the order of the network, with an output that is not finite, and
        for which images; '' where all are finite.
      terms: the largest terms of the loss, those that are not finite first: image and prior.
      gradients: the parameters whose gradients are not finite.
      largest_gradients: the parameters with the longest gradients, and their lengths.
    """

    losses: dict[str, float]
    inputs: list[str]
    layer: str
    terms: list[str]
    gradients: list[str]
    largest_gradients: list[str]

    @property
    def summary(self) -> str:
        """The first that goes wrong, and the largest terms, on one line."""
        first = [*self.inputs, self.layer] if self.layer else self.inputs
        if not first and self.gradients:
            first = [f"the outputs are finite, the gradient of {self.gradients[0]} is not"]
        if not first and not self.repeats:
            first = ["loss and gradients of this step are finite when it is done again"]
        return f"{'; '.join(first)}; largest terms: {'; '.join(self.terms[:2])}"

    @property
    def repeats(self) -> bool:
        """Whether something was not finite this time too."""
        return bool(
            self.inputs
            or self.layer
            or self.gradients
            or not np.isfinite(list(self.losses.values())).all()
        )


def diagnose(fault: Fault) -> Diagnosis:
    """Does the step of a fault again, as training did, and looks where it goes wrong."""
    config, batch, variables = fault.config, fault.batch, fault.variables
    # Without rematerialisation, inside of which nothing can be looked at.
    model = build_model(config, fault.class_names).clone(remat=False)
    keys = row_keys(config.seed, fault.step - 1, len(batch["image"]))
    on_device = {name: jnp.asarray(batch[name]) for name in BATCH_FIELDS}
    samples = jax.jit(build_samples(config, model.priors))(keys, on_device)
    loc_terms, conf_terms, layers = _forward(config, model, variables, samples)
    gradients, _, metrics = jax.jit(build_gradients(config, model))(
        variables["params"], variables["batch_stats"], samples
    )
    norms = {
        name_of(path): float(jnp.linalg.norm(leaf.ravel()))
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradients)
    }
    longest = sorted(norms, key=lambda name: -np.nan_to_num(norms[name], nan=np.inf))
    images = image_names(batch, limit=len(batch["image"]))
    bad = [(name, finite) for name, finite in layers.items() if not finite.all()]
    return Diagnosis(
        losses={name: float(metrics[name]) for name in ("loss", "loc", "conf")},
        inputs=_bad_inputs(variables, samples, images),
        layer=f"the output of {bad[0][0]} is not finite for {_of(images, ~bad[0][1])}"
        if bad
        else "",
        terms=_largest_terms(loc_terms, conf_terms, samples, model.priors, fault, images),
        gradients=[name for name, norm in norms.items() if not np.isfinite(norm)],
        largest_gradients=[f"{name} {norms[name]:.4g}" for name in longest[:_TERMS]],
    )


def image_names(batch: Mapping[str, Any], limit: int = _NAMED) -> list[str]:
    """'17 (a.jpg)' for each image of a batch; beyond the limit only how many more."""
    pairs = zip(batch["image_id"], batch["name"], strict=True)
    named = [f"{image} ({name})" for image, name in pairs]
    more = len(named) - limit
    return named[:limit] + ([f"{more} more"] if more > 0 else [])


def _forward(
    config: ConfigDict, model: SSD, variables: Any, samples: Samples
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Terms [B, P] of boxes and classes; by layer, in their order, the images [B] that are fine."""
    order: list[str] = []

    @jax.jit
    def run(variables: Any, samples: Samples) -> Any:
        finite: dict[str, Bool[Array, " B"]] = {}

        def look(method: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
            output = method(*args, **kwargs)
            name = "/".join(context.module.path)
            layers = {name: output} if context.method_name == "__call__" else {}
            if isinstance(context.module, Heads) and context.method_name == "predict":
                # One convolution for both.
                loc, conf = output
                layers = {f"{name}/loc_{args[0]}": loc, f"{name}/conf_{args[0]}": conf}
            for layer, x in layers.items():
                if isinstance(x, jax.Array):
                    finite[layer] = jnp.isfinite(x).all(axis=tuple(range(1, x.ndim)))
            return output

        with nn.intercept_methods(look):
            (loc, conf), _ = apply_training(config, model, variables, samples.images)
        order.extend(finite)
        terms = build_terms(config)(loc, conf, samples)
        return terms.loc.sum(axis=-1), terms.conf, finite

    # In the parts of the step, whose statistics batch norm took; then in the order of the batch.
    count = config.train.accumulate
    parts = jax.tree.map(lambda x: in_parts(x, count), samples)
    found = [
        jax.device_get(run(variables, jax.tree.map(lambda x, i=i: x[i], parts)))
        for i in range(count)
    ]
    loc, conf, finite = jax.tree.map(
        lambda *rows: np.stack(rows, axis=1).reshape(-1, *rows[0].shape[1:]), *found
    )
    return loc, conf, {name: finite[name] for name in order}


def _bad_inputs(variables: Any, samples: Samples, images: list[str]) -> list[str]:
    bad = [
        f"{name_of(path)} was not finite before the step"
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
        if not np.isfinite(leaf).all()
    ]
    for what, values in (
        ("the augmented picture", samples.images),
        ("an offset to reach", samples.loc_targets),
    ):
        fine = np.isfinite(np.asarray(values)).reshape(len(images), -1).all(axis=1)
        if not fine.all():
            bad.append(f"{what} is not finite for {_of(images, ~fine)}")
    return bad


def _largest_terms(
    loc: Float[np.ndarray, "B P"],
    conf: Float[np.ndarray, "B P"],
    samples: Samples,
    spec: PriorSpec,
    fault: Fault,
    images: list[str],
) -> list[str]:
    boxes = prior_boxes(spec) * np.array([*spec.image_size[::-1]] * 2, np.float32)
    labels = np.asarray(samples.label_targets)
    names = ("background", *fault.class_names)
    both = np.stack([loc, conf])
    order = np.argsort(-np.nan_to_num(both.ravel(), nan=np.inf), kind="stable")[:_TERMS]
    lines = []
    for flat in order:
        kind, row, prior = (int(index) for index in np.unravel_index(flat, both.shape))
        x, y, width, height = boxes[prior]
        lines.append(
            f"{('boxes', 'classes')[kind]} {both[kind, row, prior]:.4g} in image {images[row]} "
            f"at prior {prior} ({_level_of(spec, prior)}, {width:.0f}x{height:.0f} pixels around "
            f"{x:.0f},{y:.0f}), which is to be {names[labels[row, prior]]}"
        )
    return lines


def _level_of(spec: PriorSpec, prior: int) -> str:
    counts = [
        rows * columns * boxes
        for (rows, columns), boxes in zip(spec.feature_maps, spec.boxes_per_cell, strict=True)
    ]
    level = int(np.searchsorted(np.cumsum(counts), prior, side="right"))
    return f"map {'x'.join(map(str, spec.feature_maps[level]))}"


def _of(images: list[str], chosen: Bool[np.ndarray, " B"]) -> str:
    named = [images[row] for row in np.flatnonzero(chosen)]
    if len(named) == len(images):
        return "all images"
    return ", ".join(named[:_NAMED]) + (" and others" if len(named) > _NAMED else "")
