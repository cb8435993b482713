"""Runs a detector over a whole split and scores what it finds."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ssd_jax.data import Batch, Dataset, eval_batches
from ssd_jax.evaluation.voc import ImageDetections, ImageGroundTruth, VocResult, voc_ap
from ssd_jax.recipe import Predict
from ssd_jax.sharding import shardings

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a detector found on a split, and how good it is.

    Attributes:
      dataset: the split.
      image_ids: the dataset's own id of each image, in the order of all lists here.
      detections: by image, boxes in pixels of the original image.
      ground_truth: likewise.
      result: VOC average precision.
      images_per_second: over the whole pass but its first batch, which compiles.
    """

    dataset: Dataset
    image_ids: list[int]
    detections: list[ImageDetections]
    ground_truth: list[ImageGroundTruth]
    result: VocResult
    images_per_second: float


def evaluate(
    config: ConfigDict,
    predict: Predict,
    variables: Any,
    dataset: Dataset,
    mesh: jax.sharding.Mesh,
    progress: Progress = lambda done, total: None,
) -> Evaluation:
    """Detects on every image of a dataset exactly once and computes VOC's AP.

    Args:
      config: a whole config; `data`, `evaluate` and `detect` count.
      predict: compiled by `compile_predict` for the same mesh.
      variables: what the model's `apply` takes, on the mesh.
      dataset: the split.
      mesh: the devices to spread each batch over.
      progress: called with the numbers of images done and to do after every batch.

    Returns:
      The detections and their score.
    """
    _, rows = shardings(mesh)
    batches = eval_batches(
        dataset,
        batch_size=-(-config.evaluate.batch_size // mesh.size) * mesh.size,
        canvas_size=config.data.canvas,
        slots=0,
        workers=config.data.workers,
    )
    image_ids: list[int] = []
    detections: list[ImageDetections] = []
    ground_truth: list[ImageGroundTruth] = []
    first, started = 0, 0.0
    for batch in batches:
        images, sizes = jax.device_put((batch["image"], batch["size"]), rows)
        found = jax.tree.map(np.asarray, predict(variables, images, sizes))
        for row in _filled(batch):
            scale = _pixels(batch, row)
            kept = found.labels[row] > 0
            image_ids.append(int(batch["image_id"][row]))
            detections.append(
                ImageDetections(
                    found.boxes[row][kept] * scale,
                    found.scores[row][kept],
                    found.labels[row][kept],
                )
            )
            real = batch["labels"][row] > 0
            ground_truth.append(
                ImageGroundTruth(
                    batch["boxes"][row][real] * scale,
                    batch["labels"][row][real],
                    batch["difficult"][row][real],
                )
            )
        if not first:
            first, started = len(image_ids), time.perf_counter()
        progress(len(image_ids), len(dataset))
    seconds = time.perf_counter() - started
    result = voc_ap(
        detections,
        ground_truth,
        num_classes=len(dataset.class_names) + 1,
        eleven_point=config.evaluate.best_metric == 'voc07',
        inclusive_pixels=config.evaluate.inclusive_pixels,
    )
    return Evaluation(
        dataset=dataset,
        image_ids=image_ids,
        detections=detections,
        ground_truth=ground_truth,
        result=result,
        images_per_second=(len(image_ids) - first) / seconds,
    )


def compile_predict(predict: Predict, mesh: jax.sharding.Mesh) -> Predict:
    """Jits `predict` over a mesh: the variables on every device, the images split by rows."""
    replicated, rows = shardings(mesh)
    return jax.jit(predict, in_shardings=(replicated, rows, rows), out_shardings=replicated)


def _filled(batch: Batch) -> Iterator[int]:
    """The rows that hold an image; the last batch is filled up with rows that do not."""
    return (int(row) for row in np.flatnonzero(batch["index"] >= 0))


def _pixels(batch: Batch, row: int) -> np.ndarray:
    """What relative corners are multiplied with to be pixels of the original image."""
    height, width = batch["original_size"][row]
    return np.array([width, height, width, height], np.float64)
