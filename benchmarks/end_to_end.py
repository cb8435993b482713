"""Times training from JPEG records on disk against the same step on a batch that stays put.

    python benchmarks/end_to_end.py [--quick]

The records are those of the embedded dataset, drawn into a temporary folder. Without a cache and
with data.cache=device, whose last batch has to be the same pictures. The wait is the share of the
time in which the loop asked for a batch and had no other step to compute than the one before.
"""

import itertools
import tempfile
import time
from collections.abc import Iterator

import jax
import numpy as np
from absl import flags
from common import Report, main, medians, on_cpu, wait
from ml_collections import ConfigDict
from workload import Training, recipe

from ssd_jax.data import load_dataset, train_batches
from ssd_jax.training.step import to_device

RATE_BARS = {"none": 0.9, "device": 0.97}
WAIT_BAR = 0.05
WARM_UP = 3


def measure(report: Report, quick: bool) -> None:
    """The rate of each cache, by that of the step alone."""
    flags.FLAGS.mark_as_parsed()  # grain reads absl's flags when it starts workers
    batch_size = (2 if quick else 4) if on_cpu() else (8 if quick else 64)
    config = recipe(300, batch_size=batch_size, dtype="float32" if on_cpu() else "bfloat16")
    if on_cpu() and quick:
        config.model.width = 0.25
    config.data.kind = "shapes/small" if on_cpu() or quick else "shapes"
    config.data.train = "train"
    steps = (4 if quick else 12) if on_cpu() else (20 if quick else 200)
    config.train.steps = steps + WARM_UP
    training = Training(config)
    with tempfile.TemporaryDirectory() as folder:
        config.data.data_dir = folder
        last = {}
        for cache, bar in RATE_BARS.items():
            config.data.cache = cache
            seconds, waited = run(config, training)
            last[cache] = jax.device_get(training.batch["image"])
            report.add(f"cache={cache}", batch_size / seconds, "images/s")
            alone = medians({"": training}, rounds=3, at_once=max(1, steps // 3))[""]
            report.add("the step alone, after it", batch_size / alone, "images/s")
            on_gpu = not on_cpu() and not quick
            name = f"cache={cache}: rate by that of the step alone"
            report.add(name, alone / seconds, "", at_least=bar if on_gpu else None)
            name = f"cache={cache}: waiting for data"
            report.add(name, waited / seconds, "", at_most=WAIT_BAR if on_gpu else None)
        np.testing.assert_array_equal(*last.values())


def run(config: ConfigDict, training: Training) -> tuple[float, float]:
    """Seconds a step of the real loop, and seconds of them that it waited for data."""
    dataset = load_dataset(config.data, config.data.train)
    batches = train_batches(
        dataset,
        batch_size=config.train.batch_size,
        canvas_size=config.data.canvas,
        slots=config.data.slots,
        seed=config.seed,
        stop_step=config.train.steps,
        cache=config.data.cache,
        sharding=training.rows,
    )

    def steps(batches: Iterator) -> float:
        waited, before = 0.0, None
        for _ in range(config.train.steps):
            asked = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                break
            waited += time.perf_counter() - asked
            training.batch = to_device(batch, training.rows)
            metrics = training()
            wait(before)  # one step at most is under way while the next batch is asked for
            before = metrics
        wait(before)
        return waited

    steps(itertools.islice(batches, WARM_UP))
    started = time.perf_counter()
    waited = steps(batches)
    elapsed = time.perf_counter() - started
    count = config.train.steps - WARM_UP
    return elapsed / count, waited / count


if __name__ == "__main__":
    main(__doc__, measure)
