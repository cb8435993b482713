"""Batch norm for weights that were trained without it: a network that starts where they were.

Each batch norm starts with the mean and variance that its convolution's outputs have on training
images, and gives both back by its scale and bias. So it changes nothing at first, and what was
learnt is not lost, as it would be where batch norm starts with scale 1 and bias 0. That of the
heads (`model.head_batch_norm`) does start so: heads that were trained without it are not kept as
they were.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array
from jaxtyping import Float
from ml_collections import ConfigDict
from rich.console import Console

from ssd_jax.data import Dataset
from ssd_jax.model import BATCH_NORM_EPSILON, SSD, Conv
from ssd_jax.sharding import place, shardings
from ssd_jax.training.initial import Initial
from ssd_jax.training.inputs import first_batches
from ssd_jax.training.objective import Batch, build_samples, row_keys
from ssd_jax.training.state import initial_variables
from ssd_jax.training.step import to_device
from ssd_jax.weights.transfer import has_batch_norm, transfer

MEASURED_IMAGES = 256

Moments = Mapping[tuple[str, ...], tuple[Float[np.ndarray, " C"], Float[np.ndarray, " C"]]]
"""('backbone', 'conv1_1') and so on -> mean and mean square of the convolution's outputs."""


def with_added_norm(
    initial: Initial,
    config: ConfigDict,
    model: SSD,
    dataset: Dataset,
    mesh: jax.sharding.Mesh,
    console: Console,
) -> Initial:
    """The weights to start from, with batch norm if the network has it and they have not.

    Args:
      initial: what `config.init` names.
      config: a whole config.
      model: the network to train.
      dataset: the split to train on, of which some augmented batches are measured.
      mesh: the devices.
      console: where it is said.
    """
    if not model.batch_norm or has_batch_norm(flatten_dict(initial.variables)):
        return initial
    count = math.ceil(MEASURED_IMAGES / config.train.batch_size)
    console.print(
        f"{initial.source}: no batch norm; it is added, by what {count * config.train.batch_size} "
        "training images give",
        highlight=False,
    )
    batches = first_batches(config, dataset, count, shardings(mesh)[1])
    moments = measure(config, model, initial.variables, batches, mesh)
    return dataclasses.replace(initial, variables=add_norm(initial.variables, moments))


def measure(
    config: ConfigDict,
    model: SSD,
    variables: Any,
    batches: Iterable[Mapping[str, Any]],
    mesh: jax.sharding.Mesh,
) -> Moments:
    """What the convolutions of backbone and extras give on augmented batches.

    Args:
      config: of the augmentation.
      model: the network, whose batch norm is left out here.
      variables: those without batch norm, or a part of them; the rest is drawn as for training.
      batches: of the loader.
      mesh: the devices.
    """
    plain = model.clone(batch_norm=False, head_batch_norm=False)
    fresh = initial_variables(plain, config.seed)
    # The heads are not measured, so the classes' names do not matter.
    whole, _ = transfer(fresh, variables, [""] * (model.num_classes - 1))
    samples_of = build_samples(config, model.priors)

    def moments(variables: Any, number: Array, batch: Batch) -> Any:
        keys = row_keys(config.seed, number, batch["image"].shape[0])
        _, captured = plain.apply(
            variables,
            samples_of(keys, batch).images,
            method=SSD.features,
            mutable=["intermediates"],
            capture_intermediates=lambda module, method: (
                isinstance(module, Conv) and method == "__call__"
            ),
        )
        outputs = {
            path[:2]: x[0].astype(np.promote_types(x[0].dtype, np.float32))
            for path, x in flatten_dict(captured["intermediates"]).items()
        }
        return {
            path: (jnp.mean(x, axis=(0, 1, 2)), jnp.mean(jnp.square(x), axis=(0, 1, 2)))
            for path, x in outputs.items()
        }

    replicated, rows = shardings(mesh)
    whole = place(whole, replicated)
    compiled = jax.jit(
        moments, in_shardings=(replicated, replicated, rows), out_shardings=replicated
    )
    found = [
        jax.device_get(compiled(whole, np.int32(number), to_device(batch, rows)))
        for number, batch in enumerate(batches)
    ]
    return jax.tree.map(lambda *values: np.mean(np.stack(values), axis=0, dtype=np.float64), *found)


def add_norm(variables: Any, moments: Moments) -> Any:
    """The variables with a batch norm after each convolution that was measured, changing nothing.

    The convolution's bias goes into the running mean: the mean of what batch norm gets, without it.

    Args:
      variables: of a network whose backbone has no batch norm, or a part of them.
      moments: what `measure` returns.
    """
    params = flatten_dict(variables["params"])
    statistics = flatten_dict(variables.get("batch_stats", {}))  # of heads that had it
    for path, (mean, mean_square) in moments.items():
        bias = params.pop((*path, "conv", "bias"), None)
        if bias is None:
            continue
        variance = np.maximum(mean_square - np.square(mean), 0.0)
        normed = {
            (*path, "bn", "scale"): np.sqrt(variance + BATCH_NORM_EPSILON),
            (*path, "bn", "bias"): mean,
        }
        running = {(*path, "bn", "mean"): mean - np.asarray(bias), (*path, "bn", "var"): variance}
        params |= {name: array.astype(np.float32) for name, array in normed.items()}
        statistics |= {name: array.astype(np.float32) for name, array in running.items()}
    return {"params": unflatten_dict(params), "batch_stats": unflatten_dict(statistics)}
