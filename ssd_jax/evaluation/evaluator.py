"""Runs a detector over a whole split and scores what it finds."""

import dataclasses
import functools
import itertools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from ssd_jax import processes
from ssd_jax.data import Batch, Dataset, eval_batches
from ssd_jax.data.images import decode_example
from ssd_jax.data.objects import Objects
from ssd_jax.detection import Detections
from ssd_jax.engine import Engine
from ssd_jax.evaluation.results import ImageDetections, ImageGroundTruth, SplitResults
from ssd_jax.evaluation.scores import Scores, score
from ssd_jax.recipe import Predict
from ssd_jax.sharding import place_rows, shardings

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

# Decimals of detections: result files hold what was scored, so that scoring them gives the same.
BOX_DECIMALS = 3  # pixels
SCORE_DECIMALS = 6


@dataclasses.dataclass(frozen=True)
class Detected:
    """What a detector found on a split.

    Attributes:
      dataset: the split.
      results: its objects and the detections, boxes in pixels of the original images.
      rows: the dataset's row of each image of the results, which lack what cannot be decoded.
      images_per_second: over the whole pass but its first batch, which compiles; None if there was
        no other.
    """

    dataset: Dataset
    results: SplitResults
    rows: list[int]
    images_per_second: float | None

    def picture(self, image: int) -> UInt8[np.ndarray, "H W 3"]:
        """An image of the results, RGB, by its place in them."""
        return decode_example(self.dataset.source[self.rows[image]])

    @property
    def speed(self) -> str:
        """For people: '146 images/s'."""
        rate = self.images_per_second
        return "all in one batch" if rate is None else f"{rate:.0f} images/s"


@dataclasses.dataclass(frozen=True)
class Evaluation(Detected):
    """What a detector found on a split, and how good it is.

    Attributes:
      scores: the figures.
      best_metric: the metric that ranks checkpoints.
    """

    scores: Scores
    best_metric: str

    @property
    def mean(self) -> float:
        """The mean AP that ranks checkpoints."""
        return self.scores.mean_ap[self.best_metric]


def detect(
    config: ConfigDict,
    predict: Predict,
    variables: Any,
    dataset: Dataset,
    mesh: jax.sharding.Mesh,
    progress: Progress = lambda done, total: None,
) -> Detected:
    """Detects on every image of a dataset exactly once.

    Of several processes each reads its part of every batch, and all of them return the whole.

    Args:
      config: a whole config; `data`, `evaluate` and `detect` count.
      predict: of `compile_predict` for the same mesh, or of `predict_by`.
      variables: what the model's `apply` takes, on the mesh.
      dataset: the split.
      mesh: the devices to spread each batch over.
      progress: called with the numbers of images done and to do after every batch.

    Raises:
      ValueError: the split is empty.
    """
    _, rows = shardings(mesh)
    batch_size = global_batch_size(config, mesh)
    batches = eval_batches(
        dataset,
        batch_size=batch_size,
        canvas_size=config.data.canvas,
        slots=0,
        workers=config.data.workers,
        undecodable=config.data.undecodable,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    ours: list[_Seen] = []
    done, first, started = 0, 0, 0.0
    for batch in batches:
        placed = place_rows({"images": batch["image"], "sizes": batch["size"]}, rows)
        everywhere = predict(variables, placed["images"], placed["sizes"])
        found = jax.tree.map(functools.partial(_of_this_process, batch_size), everywhere)
        ours += [_look(batch, found, row, dataset) for row in _filled(batch)]
        done = min(done + batch_size, len(dataset))
        if not first:
            first, started = done, time.perf_counter()
        progress(done, len(dataset))
    seconds = time.perf_counter() - started
    seen = sorted(itertools.chain.from_iterable(processes.gather(ours)), key=lambda one: one.row)
    image_ids = [image.image_id for image in seen]
    if len(set(image_ids)) < len(image_ids):
        logger.warning(
            "several images of %s, split %s, have one id: they are numbered by row",
            dataset.name,
            dataset.split,
        )
        image_ids = [image.row for image in seen]
    results = SplitResults(
        dataset=dataset.name,
        split=dataset.split,
        class_names=dataset.class_names,
        category_ids=dataset.category_ids,
        image_ids=image_ids,
        image_names=[image.name for image in seen],
        image_sizes=[image.size for image in seen],
        detections=[image.detections for image in seen],
        ground_truth=[image.ground_truth for image in seen],
    )
    return Detected(
        dataset=dataset,
        results=results,
        rows=[image.row for image in seen],
        images_per_second=(done - first) / seconds if done > first else None,
    )


def evaluate(config: ConfigDict, detected: Detected, metrics: Sequence[str] = ()) -> Evaluation:
    """Scores what was found on a split.

    Args:
      config: a whole config; `evaluate` counts.
      detected: what `detect` returns.
      metrics: names of `scores.METRICS`, besides the config's `best_metric`.

    Raises:
      ValueError: no such metric.
    """
    best_metric = config.evaluate.best_metric
    scores = score(
        detected.results,
        list(dict.fromkeys([*metrics, best_metric])),
        inclusive_pixels=config.evaluate.inclusive_pixels,
        threshold_inclusive=config.evaluate.threshold_inclusive,
    )
    return Evaluation(
        detected.dataset,
        detected.results,
        detected.rows,
        detected.images_per_second,
        scores,
        best_metric,
    )


def compile_predict(predict: Predict, mesh: jax.sharding.Mesh) -> Predict:
    """Jits `predict` over a mesh: the variables as they lie there, the images split by rows."""
    replicated, rows = shardings(mesh)
    return jax.jit(predict, in_shardings=(None, rows, rows), out_shardings=replicated)


def predict_by(engine: Engine) -> Predict:
    """An engine as `evaluate` takes it; the variables are its own."""

    def predict(variables: Any, images: jax.Array, sizes: jax.Array) -> Detections:
        return engine(np.asarray(images), np.asarray(sizes))

    return predict


def global_batch_size(config: ConfigDict, mesh: jax.sharding.Mesh) -> int:
    """Images of an evaluation batch: the config's number, rounded up to share it equally."""
    return -(-config.evaluate.batch_size // mesh.size) * mesh.size


@dataclasses.dataclass(frozen=True)
class _Seen:
    """One image of the split, after the detector has seen it."""

    row: int  # of the source
    image_id: int
    name: str
    size: tuple[int, int]
    detections: ImageDetections
    ground_truth: ImageGroundTruth


def _of_this_process(batch_size: int, everywhere: jax.Array | np.ndarray) -> np.ndarray:
    """The rows that this process read, of an output that is on all devices."""
    rows = batch_size // jax.process_count()
    start = jax.process_index() * rows
    return np.asarray(everywhere)[start : start + rows]


def _look(batch: Batch, found: Detections, row: int, dataset: Dataset) -> _Seen:
    height, width = (int(side) for side in batch["original_size"][row])
    pixels = np.array([width, height, width, height], np.float64)
    labels = np.asarray(found.labels[row])
    kept = labels > 0
    return _Seen(
        row=int(batch["index"][row]),
        image_id=int(batch["image_id"][row]),
        name=str(batch["name"][row]),
        size=(height, width),
        detections=ImageDetections(
            np.round(np.asarray(found.boxes[row])[kept] * pixels, BOX_DECIMALS),
            np.round(np.asarray(found.scores[row], np.float64)[kept], SCORE_DECIMALS),
            labels[kept],
        ),
        ground_truth=_objects(dataset.source.objects, int(batch["index"][row]), pixels),
    )


def _objects(objects: Objects, row: int, pixels: np.ndarray) -> ImageGroundTruth:
    """All objects of an image: batches are made for training, and leave crowds out."""
    of_row = objects.of_row(row)
    return ImageGroundTruth(
        boxes=np.round(objects.boxes[of_row] * pixels, BOX_DECIMALS),
        labels=objects.labels[of_row],
        difficult=objects.difficult[of_row],
        crowd=objects.crowd[of_row],
        area=objects.area[of_row].astype(np.float64),
    )


def _filled(batch: Batch) -> Iterator[int]:
    """The rows that hold an image; the last batch is filled up with rows that do not."""
    return (int(row) for row in np.flatnonzero(batch["index"] >= 0))
