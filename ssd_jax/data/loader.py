"""Batches for a device, from any dataset: read, decode, pad, stack, and nothing else.

Batch t of training is a pure function of (seed, t), whatever the number of worker processes and
wherever a run starts: rows are drawn by their position in an endless sequence of shuffled epochs.
"""

from __future__ import annotations

import functools
import gc
import os
from collections.abc import Iterator
from typing import Literal, TypedDict, cast

import grain
import numpy as np
from absl import flags
from jaxtyping import Bool, Float32, Int32, Int64, Shaped, UInt8

from ssd_jax.data.example import Dataset
from ssd_jax.data.images import decode_image, shrink_to_fit

_MAX_THREADS = 8


class Batch(TypedDict):
    """B images with their objects. S is the canvas' side, N the number of ground-truth slots.

    Attributes:
      image: RGB pictures at the top left of black canvases.
      size: (height, width) of each picture on its canvas, pixels.
      original_size: (height, width) of each picture as it is in its file.
      boxes: Corners [xmin, ymin, xmax, ymax], relative to the picture; 0 where there is none.
      labels: Classes from 1; 0 where there is none.
      difficult: VOC's mark of objects outside the evaluation.
      index: Row of the source; -1 in the rows that fill up the last evaluation batch.
      image_id: The dataset's own number of each image; -1 in rows that fill up.
      name: File names; '' in rows that fill up.
    """

    image: UInt8[np.ndarray, "B S S 3"]
    size: Int32[np.ndarray, "B 2"]
    original_size: Int32[np.ndarray, "B 2"]
    boxes: Float32[np.ndarray, "B N 4"]
    labels: Int32[np.ndarray, "B N"]
    difficult: Bool[np.ndarray, "B N"]
    index: Int64[np.ndarray, " B"]
    image_id: Int64[np.ndarray, " B"]
    name: Shaped[np.ndarray, " B"]


def train_batches(
    dataset: Dataset,
    *,
    batch_size: int,
    canvas_size: int,
    slots: int,
    seed: int,
    start_step: int = 0,
    stop_step: int,
    workers: int = 0,
    difficult: Literal["train", "drop"] = "train",
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Batches start_step, ..., stop_step - 1 of an endless training sequence.

    Each epoch is shuffled anew; a batch may reach over the end of an epoch.

    Args:
      dataset: Where the images come from.
      batch_size: Rows of the global batch, over all processes.
      canvas_size: Side of the canvas; larger pictures are shrunk to fit.
      slots: Ground-truth slots of an image; 0: as many as the fullest image needs.
      seed: Decides the order, together with the step.
      start_step: First batch: the sequence from there is the same as if it had begun at 0.
      stop_step: The batch after the last one.
      workers: Worker processes that decode; 0: threads of this process.
      difficult: 'train' keeps difficult objects, 'drop' takes them out.
      process_index: Which part of each batch to return, of `process_count` contiguous ones.
      process_count: Number of processes that share a batch.

    Returns:
      An iterator of batches of batch_size / process_count rows.

    Raises:
      ValueError: At once for an empty split, too few slots or a batch that cannot be shared;
        when the batch is reached for an image that cannot be decoded.
    """
    share = _share(batch_size, process_index, process_count)
    if difficult not in ("train", "drop"):
        raise ValueError(f"difficult must be 'train' or 'drop', not {difficult!r}")
    load = functools.partial(
        _load_batch,
        dataset=dataset,
        share=share,
        canvas_size=canvas_size,
        slots=count_slots(dataset, slots),
        drop_difficult=difficult == "drop",
    )
    rows = grain.MapDataset.range(len(dataset)).shuffle(seed=seed).repeat().batch(batch_size)
    return _iterate(rows.slice(slice(start_step, stop_step)).map(load), workers)


def eval_batches(
    dataset: Dataset,
    *,
    batch_size: int,
    canvas_size: int,
    slots: int,
    workers: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Every image exactly once, in order; the last batch is filled up with rows of index -1.

    A row that fills up has a black canvas, size (1, 1) and no objects. See `train_batches` for
    the arguments, the shape of what is returned, and the errors.
    """
    load = functools.partial(
        _load_batch,
        dataset=dataset,
        share=_share(batch_size, process_index, process_count),
        canvas_size=canvas_size,
        slots=count_slots(dataset, slots),
        drop_difficult=False,
    )
    filled = -(-len(dataset) // batch_size) * batch_size
    return _iterate(grain.MapDataset.range(filled).batch(batch_size).map(load), workers)


def count_slots(dataset: Dataset, slots: int) -> int:
    """Ground-truth slots that hold every image of a dataset.

    Args:
      dataset: The dataset; difficult objects count too, crowds never do.
      slots: The number wanted; 0: as many as the fullest image holds, and at least 1.

    Returns:
      The number of slots.

    Raises:
      ValueError: The split is empty, or an image holds more objects than `slots`.
    """
    if len(dataset) == 0:
        raise ValueError(
            f"split {dataset.split!r} of {dataset.name} is empty: choose another split"
        )
    counts = dataset.source.object_counts
    fullest = int(np.argmax(counts))
    if slots == 0:
        return max(1, int(counts[fullest]))
    if slots < counts[fullest]:
        raise ValueError(
            f"image {dataset.source.name(fullest)!r} of {dataset.name}, split {dataset.split!r}, "
            f"has {counts[fullest]} objects, but there are {slots} slots: set data.slots to "
            f"{counts[fullest]} or more, or to 0 to have them counted"
        )
    return slots


def _share(batch_size: int, process_index: int, process_count: int) -> slice:
    """The rows of a global batch that belong to a process."""
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(
            f"a batch of {batch_size} rows cannot be shared equally by {process_count} processes"
        )
    rows = batch_size // process_count
    return slice(process_index * rows, (process_index + 1) * rows)


def _load_batch(
    rows: np.ndarray,
    *,
    dataset: Dataset,
    share: slice,
    canvas_size: int,
    slots: int,
    drop_difficult: bool,
) -> Batch:
    """Reads and decodes a share of a global batch; rows past the dataset's end stay empty."""
    rows = rows[share]
    count = len(rows)
    batch = Batch(
        image=np.zeros((count, canvas_size, canvas_size, 3), np.uint8),
        size=np.ones((count, 2), np.int32),
        original_size=np.ones((count, 2), np.int32),
        boxes=np.zeros((count, slots, 4), np.float32),
        labels=np.zeros((count, slots), np.int32),
        difficult=np.zeros((count, slots), np.bool_),
        index=np.where(rows < len(dataset), rows, -1).astype(np.int64),
        image_id=np.full(count, -1, np.int64),
        name=np.array([""] * count),
    )
    names = [""] * count
    for i in np.flatnonzero(batch["index"] >= 0):
        example = dataset.source[int(rows[i])]
        names[i] = example["name"]
        batch["image_id"][i] = example["image_id"]
        picture = decode_image(
            example["image"], f"{example['name']} of {dataset.name}, split {dataset.split}"
        )
        fitting = shrink_to_fit(picture, canvas_size)
        height, width = fitting.shape[:2]
        batch["image"][i, :height, :width] = fitting
        batch["size"][i] = height, width
        batch["original_size"][i] = picture.shape[:2]
        kept = ~(example["difficult"] & drop_difficult) & ~example["crowd"]
        objects = int(kept.sum())
        batch["boxes"][i, :objects] = example["boxes"][kept]
        batch["labels"][i, :objects] = example["labels"][kept]
        batch["difficult"][i, :objects] = example["difficult"][kept]
    batch["name"] = np.array(names)
    return batch


def _iterate(batches: grain.MapDataset, workers: int) -> Iterator[Batch]:
    """Loads batches ahead, in threads of this process or in worker processes, in order."""
    threads = 1 if workers else min(_MAX_THREADS, os.cpu_count() or 1)
    ahead = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1)
    loaded = batches.to_iter_dataset(ahead)
    if workers:
        # grain reads absl flags when it starts workers; a program without absl never parses them.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        loaded = loaded.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
        )
    return _drain(iter(loaded), shared_memory=workers > 0)


def _drain(loaded: grain.DatasetIterator, *, shared_memory: bool) -> Iterator[Batch]:
    """Yields until the end, or until the caller lets go; then stops threads and workers.

    What workers send lies in shared memory that outlives the program if a batch does; it is
    copied, so that a batch is the caller's own.
    """
    try:
        for batch in loaded:
            if shared_memory:
                batch = {key: np.array(value) for key, value in batch.items()}
            yield cast(Batch, batch)
    finally:
        loaded.close()
        if shared_memory:
            # grain's last batch hangs in a cycle of frames; at exit it would be called a leak.
            gc.collect()
