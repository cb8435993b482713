"""How long each step from a file to detections takes on one device."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ssd_jax.data import Example
from ssd_jax.data.images import decode_to_fit, place_on_canvas
from ssd_jax.recipe import Stages

_REPEATS = 5


@dataclasses.dataclass(frozen=True)
class Speed:
    """Median times of a batch, in seconds.

    Attributes:
        batch_size: images in it.
        decode: file to canvas, on one core of the host.
        preprocess: resize and subtract the mean, on the device like what follows.
        forward: the network.
        detect: decode the boxes, softmax and NMS.
    """

    batch_size: int
    decode: float
    preprocess: float
    forward: float
    detect: float


def measure_speed(
    stages: Stages,
    variables: Any,
    pictures: Sequence[Example],
    *,
    canvas_size: int,
    batch_size: int,
) -> Speed:
    """Times each step on the first device, each compiled by itself, after a run that warms up.

    Args:
        stages: of the recipe.
        variables: what the model's `apply` takes.
        pictures: encoded; the first are the batch, over again if there are too few.
        canvas_size: side of the canvas, pixels.
        batch_size: images in the batch.
    """
    device = jax.local_devices()[0]
    files = [pictures[row % len(pictures)] for row in range(batch_size)]

    def decode() -> tuple[np.ndarray, np.ndarray]:
        decoded = [
            decode_to_fit(
                file["image"], file["name"], canvas_size, turned=file["turned"], squash=True
            )[0]
            for file in files
        ]
        placed = [place_on_canvas(picture, canvas_size, squash=True) for picture in decoded]
        return np.stack([image for image, _ in placed]), np.array([s for _, s in placed], np.int32)

    decode_seconds, host = _time(decode)
    images, sizes = jax.device_put(host, device)
    weights = jax.device_put(variables, device)
    preprocess_seconds, inputs = _time(jax.jit(stages.preprocess), images, sizes)
    forward_seconds, outputs = _time(jax.jit(stages.forward), weights, inputs)
    detect_seconds, _ = _time(jax.jit(stages.detect), *outputs)
    return Speed(batch_size, decode_seconds, preprocess_seconds, forward_seconds, detect_seconds)


def _time(step: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Median seconds of a step, and what it returns."""
    returned = jax.block_until_ready(step(*arguments))
    seconds = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        jax.block_until_ready(step(*arguments))
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), returned
