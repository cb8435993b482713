"""What the benchmarks run: a recipe, its network and step, and batches made up on the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import Report, matrix_limit, noting_lack_of_memory, on_cpu
from ml_collections import ConfigDict

from ssd_jax import config as config_lib
from ssd_jax.model import SSD
from ssd_jax.recipe import build_model
from ssd_jax.sharding import make_mesh, shardings
from ssd_jax.training.optimizer import build_optimizer
from ssd_jax.training.state import TrainState, init_state
from ssd_jax.training.step import build_train_step, compile_train_step

CLASS_NAMES = tuple(f"class {number}" for number in range(1, 21))
OBJECTS = 8
"""Objects of each made-up image."""


def recipe(size: int, *, batch_size: int = 32, dtype: str = "float32") -> ConfigDict:
    """The paper's recipe on VOC for an input size."""
    config = config_lib.base()
    config.model.size = size
    config.model.dtype = dtype
    config.data.canvas = max(500, size)
    config.train.batch_size = batch_size
    return config


def make_boxes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Boxes [*shape, 4] of a tenth to half of the image a side, corner form, float32."""
    low = rng.uniform(0, 0.5, (*shape, 2))
    return np.concatenate([low, low + rng.uniform(0.1, 0.5, low.shape)], axis=-1).astype(np.float32)


def make_batch(config: ConfigDict, seed: int = 0) -> dict[str, np.ndarray]:
    """A batch as the loader makes them: smooth random pictures, some objects each."""
    rng = np.random.default_rng(seed)
    rows, side = config.train.batch_size, config.data.canvas
    coarse = rng.integers(0, 256, (rows, side // 20, side // 20, 3)).astype(np.uint8)
    image = np.zeros((rows, side, side, 3), np.uint8)
    fine = coarse.repeat(20, axis=1).repeat(20, axis=2)
    image[:, : fine.shape[1], : fine.shape[2]] = fine
    return {
        "image": image,
        "size": np.full((rows, 2), (side * 3 // 4, side), np.int32),
        "boxes": make_boxes(rng, (rows, OBJECTS)),
        "labels": rng.integers(1, len(CLASS_NAMES) + 1, (rows, OBJECTS)).astype(np.int32),
    }


def measure_cases(
    report: Report,
    cases: Iterable[tuple[int, int]],
    measure_case: Callable[[Report, str, ConfigDict, float], None],
) -> None:
    """Measures SSD at some sizes; what does not fit is noted.

    Args:
      report: takes the figures.
      cases: (input size, batch size) of each.
      measure_case: takes the report, the case's name, its recipe, and the operations a second of a
        matrix product.
    """
    limit = matrix_limit()
    report.add("matrix product", limit / 1e9, "GFLOP/s")
    dtype = "float32" if on_cpu() else "bfloat16"
    for size, batch_size in cases:
        case = f"SSD{size}, {dtype}, batch {batch_size}"
        with noting_lack_of_memory(report, case):
            measure_case(report, case, recipe(size, batch_size=batch_size, dtype=dtype), limit)


class Training:
    """A training step that goes on from its own last state, on a batch that stays on the device.

    Attributes:
      model: the network.
      state: the state after the last step.
      batch: the batch, on the devices.
      step: the compiled step.
      rows: how a batch lies on the devices.

    Args:
      config: the recipe.
      devices: to train on; the first there is if None, as the peers and the limits.
    """

    def __init__(self, config: ConfigDict, devices: Sequence[jax.Device] | None = None) -> None:
        mesh = make_mesh(jax.devices()[:1] if devices is None else devices)
        replicated, self.rows = shardings(mesh)
        self.model = build_model(config, CLASS_NAMES)
        optimizer = build_optimizer(config)
        self.step = compile_train_step(build_train_step(config, self.model, optimizer), mesh)
        initial = init_state(self.model, optimizer, config.seed)
        self.state: TrainState = jax.device_put(initial, replicated)
        self.batch: Mapping[str, Any] = jax.device_put(make_batch(config), self.rows)

    def __call__(self) -> Any:
        """One step; its metrics."""
        self.state, metrics = self.step(self.state, self.batch)
        return metrics


def multiply_adds(model: SSD) -> int:
    """Multiply-adds of the convolutions of one image's forward pass."""
    images = jax.ShapeDtypeStruct((1, *model.priors.image_size, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    return _multiply_adds(jax.make_jaxpr(model.apply)(variables, images))


def _multiply_adds(program: Any) -> int:
    total = 0
    for equation in program.eqns:
        if equation.primitive.name == "conv_general_dilated":
            *window, inputs, _ = equation.invars[1].aval.shape  # HWIO
            total += equation.outvars[0].aval.size * math.prod(window) * inputs
        parts = [equation.params.get(name) for name in ("jaxpr", "call_jaxpr", "fun_jaxpr")]
        # Of a choice by platform the default: others may pad channels, which is no work of SSD's.
        parts += equation.params.get("branches", ())[-1:]
        total += sum(_multiply_adds(part) for part in parts if part is not None)
    return total
