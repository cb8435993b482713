"""Batches for a device, from any dataset: read, decode, pad, stack, and nothing else.

Batch t of training is a pure function of (seed, t), whatever the number of worker processes and
wherever a run starts: rows are drawn by their position in an endless sequence of shuffled epochs.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any, cast

import grain
import jax
import numpy as np
from absl import flags

from ssd_jax.data.batch import Batch, load_batch
from ssd_jax.data.cache import DeviceCache, HostCache
from ssd_jax.data.example import Dataset
from ssd_jax.data.policies import ORIGINAL, Policies, plan

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

_MAX_THREADS = 8
_CACHED_AT_ONCE = 2**25  # bytes of canvases: each thread holds so much while a cache is filled


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
    policies: Policies = ORIGINAL,
    cache: str = "none",
    sharding: jax.sharding.NamedSharding | None = None,
    process_index: int = 0,
    process_count: int = 1,
    progress: Progress = lambda done, total: None,
) -> Iterator[Batch]:
    """Batches start_step, ..., stop_step - 1 of an endless training sequence.

    Each epoch is shuffled anew; a batch may reach over the end of an epoch. Neither the workers nor
    the processes nor the cache change what is in a batch.

    Args:
      dataset: Where the images come from.
      batch_size: Rows of the global batch, over all processes.
      canvas_size: Side of the canvas; larger pictures are shrunk to fit.
      slots: Ground-truth slots of an image; 0: as many as the fullest image needs.
      seed: Decides the order, together with the step.
      start_step: First batch: the sequence from there is the same as if it had begun at 0.
      stop_step: The batch after the last one.
      workers: Worker processes that decode; 0: threads of this process.
      policies: What becomes of objects and images that are hard to learn from.
      cache: 'none'; 'host' decodes all images before the first batch and keeps the canvases in
        memory; 'device' keeps them in the devices' memory, where batches are then gathered.
      sharding: How the rows of a batch lie on the devices; the device cache needs it.
      process_index: Which part of each batch to return, of `process_count` contiguous ones.
      process_count: Number of processes that share a batch.
      progress: Called with the images done and to do while a cache is filled.

    Returns:
      An iterator of batches of batch_size / process_count rows; the device cache of several
      processes gives the images of all rows, on all their devices.

    Raises:
      ValueError: At once for an empty split, or a batch that cannot be shared; when the batch (or
        the cache) comes to an image that cannot be decoded, and is not to be skipped.
      MemoryError: The cache does not fit.
    """
    share = _share(batch_size, process_index, process_count)
    planned = plan(dataset, policies, slots)
    load = functools.partial(
        load_batch,
        dataset=dataset,
        rows=planned.rows,
        canvas_size=canvas_size,
        slots=planned.slots,
        policies=policies,
        replace_skipped=True,
        squash=False,
    )
    count = len(planned.rows)
    # Grain adds the epoch to the seed: were they as they are, the epochs of one seed would be those
    # of the next. By an odd factor near 2^32 / golden ratio all of them are far apart.
    order = seed * 2654435761 % 2**32
    sequence = grain.MapDataset.range(count).shuffle(seed=order).repeat().batch(batch_size)
    steps = sequence.slice(slice(start_step, stop_step))
    if cache == "none" or start_step >= stop_step:
        return _iterate(steps.map(functools.partial(load, share=share)), workers, dataset)
    at_once = max(1, _CACHED_AT_ONCE // (3 * canvas_size**2))
    in_order = grain.MapDataset.range(count).batch(at_once)
    everything = in_order.map(functools.partial(load, share=slice(None)))
    loaded = _iterate(everything, workers, dataset)
    if cache == "host":
        host = HostCache(count, canvas_size, planned.slots)
        host.fill(loaded, progress)
        return _iterate(steps.map(lambda positions: host.batch(positions[share])), workers=0)
    if cache == "device":
        if sharding is None:
            raise ValueError("data.cache 'device' needs the sharding of the batches' rows")
        device = DeviceCache(count, canvas_size, planned.slots, sharding)
        device.fill(loaded, progress)
        return (device.batch(steps[i], share) for i in range(len(steps)))
    raise ValueError(f"data.cache is {cache!r}: it must be one of none, host, device")


def eval_batches(
    dataset: Dataset,
    *,
    batch_size: int,
    canvas_size: int,
    slots: int,
    workers: int = 0,
    undecodable: str = "error",
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Every image exactly once, in order; the last batch is filled up with rows of index -1.

    A picture larger than the canvas is shrunk side by side, as the network's input is made and as
    `Detector` does; not to one scale, as in training, whose crops need that.

    A row that fills up has a black canvas, size (1, 1) and no objects; so has an image that cannot
    be decoded, if those are to be skipped. Crowds are left out. See `train_batches` for the
    arguments, the shape of what is returned, and the errors.
    """
    load = functools.partial(
        load_batch,
        dataset=dataset,
        rows=np.arange(len(dataset)),
        share=_share(batch_size, process_index, process_count),
        canvas_size=canvas_size,
        slots=count_slots(dataset, slots),
        policies=Policies(undecodable=undecodable),
        replace_skipped=False,
        squash=True,
    )
    filled = -(-len(dataset) // batch_size) * batch_size
    return _iterate(grain.MapDataset.range(filled).batch(batch_size).map(load), workers, dataset)


def count_slots(dataset: Dataset, slots: int) -> int:
    """Ground-truth slots that hold every image of a dataset, crowds left out.

    Args:
      dataset: The dataset.
      slots: The number wanted; raised to what the fullest image holds, and at least to 1.

    Raises:
      ValueError: The split is empty.
    """
    return plan(dataset, ORIGINAL, slots).slots


def _share(batch_size: int, process_index: int, process_count: int) -> slice:
    """The rows of a global batch that belong to a process."""
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(
            f"a batch of {batch_size} rows cannot be shared equally by {process_count} processes"
        )
    rows = batch_size // process_count
    return slice(process_index * rows, (process_index + 1) * rows)


def _iterate(
    batches: grain.MapDataset, workers: int, dataset: Dataset | None = None
) -> Iterator[Batch]:
    """Loads batches ahead, in threads of this process or in worker processes, in order.

    Where the dataset is given, its skipped images are logged as they are met.
    """
    threads = 1 if workers else min(_MAX_THREADS, os.cpu_count() or 1)
    ahead = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1)
    loaded = batches.to_iter_dataset(ahead)
    if workers:
        # grain reads absl flags when it starts workers; a program without absl never parses them.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        loaded = loaded.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2),
            worker_init_fn=_live_as_the_parent,
        )
    drained = _drain(iter(loaded), shared_memory=workers > 0)
    return _log_skipped(drained, dataset) if dataset else drained


def _live_as_the_parent(worker: int, workers: int) -> None:
    """A worker ends when its parent does, killed or not, and not before.

    A scheduler or Ctrl-C signals all processes at once; the last batches are needed still.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=[parent], daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _log_skipped(batches: Generator[Batch], dataset: Dataset) -> Generator[Batch]:
    """Logs each image that cannot be decoded once, with their count."""
    skipped = dataset.skipped
    with contextlib.closing(batches):
        for batch in batches:
            for row in batch["skipped"][batch["skipped"] >= 0].tolist():
                if row not in skipped:
                    skipped.add(row)
                    logger.warning(
                        "%s of %s, split %s, cannot be decoded: skipped (%d so far)",
                        dataset.source.name(row),
                        dataset.name,
                        dataset.split,
                        len(skipped),
                    )
            yield batch


def _drain(loaded: grain.DatasetIterator, *, shared_memory: bool) -> Generator[Batch]:
    """Yields until the end, or until the caller lets go; then stops threads and workers.

    What workers send lies in shared memory that outlives the program if a batch does; it is
    copied, so that a batch is the caller's own.
    """
    try:
        for batch in loaded:
            if shared_memory:
                batch = {key: np.array(value) for key, value in batch.items()}
            yield cast(Batch, batch)
    except RuntimeError as fault:
        if not re.search(r"terminated unexpectedly with exit code -[79]\b", str(fault)):
            raise
        raise MemoryError(
            f"a process of data.workers was ended by the system ({str(fault).splitlines()[0]}): "
            "with exit code -7 /dev/shm is full, which a container gets more of by `docker run "
            "--shm-size=8g`, with -9 the memory; data.workers=0 needs neither"
        ) from fault
    finally:
        loaded.close()
        if shared_memory:
            # grain's last batch hangs in a cycle of frames; at exit it would be called a leak.
            gc.collect()
