"""Priors fitted to the objects that a run trains on: `config.priors.preset='fitted'`."""

import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

from ssd_jax.data.objects import Objects
from ssd_jax.prior_fit import best_overlaps, propose
from ssd_jax.recipe import build_priors, prior_flags
from ssd_jax.training.checkpoints import Meta


def with_fitted_priors(
    config: ConfigDict, objects: Objects, old: Meta | None, console: Console
) -> ConfigDict:
    """The config with sizes and aspect ratios that fit, if it asks for them; says how well.

    They go into the run's checkpoints, so that it goes on with the same ones, and whoever detects
    with it has them.

    Args:
      config: a whole config; it is not changed.
      objects: of the training split.
      old: of the run that is gone on with, whose priors stay.
      console: is told of the fit, or why there is none.

    Raises:
      ValueError: there is no object to fit priors to.
    """
    if config.priors.preset != "fitted":
        return config
    if config.priors.sizes:
        if not old:
            console.print("config.priors.sizes is given: no priors are fitted")
        return config
    config = config.copy_and_resolve_references()
    if old:
        config.priors.sizes = old.config.priors.sizes
        config.priors.aspect_ratios = old.config.priors.aspect_ratios
        return config
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    boxes = objects.boxes[~objects.crowd & np.all(sides > 0, axis=1)]
    if len(boxes) == 0:
        raise ValueError(
            "config.priors.preset is 'fitted', and the training split has no object to fit priors "
            "to: set it to 'voc' or 'coco'"
        )
    threshold, before = config.matching.threshold, build_priors(config)
    spec = propose(boxes, before, threshold=threshold)
    config.priors.sizes = (*spec.min_sizes, spec.max_sizes[-1])
    config.priors.aspect_ratios = spec.aspect_ratios
    shares = [float(np.mean(best_overlaps(boxes, each) >= threshold)) for each in (before, spec)]
    console.print(
        f"fitted priors: an IoU of {threshold:g} with {shares[1]:.1%} of the objects, with VOC's "
        f"{shares[0]:.1%}; {prior_flags(spec)}",
        highlight=False,
    )
    return config
