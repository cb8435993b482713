"""What a run reads: its splits, looked over, and the batches of its steps."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
from ml_collections import ConfigDict
from rich.console import Console

from ssd_jax.console import progress_bar
from ssd_jax.data import Batch, Dataset, Policies, load_dataset, train_batches
from ssd_jax.data.check.summary import forebodings
from ssd_jax.data.policies import check_readable, plan
from ssd_jax.priors import PriorSpec


def load_splits(config: ConfigDict) -> tuple[Dataset, Dataset]:
    """The training and the evaluation split.

    Raises:
      ValueError: their classes differ, one has no images, or an image cannot be read and is not to
        be skipped.
    """
    train_data = load_dataset(config.data, config.data.train)
    eval_data = load_dataset(config.data, config.data.eval)
    for dataset in (train_data, eval_data):
        if len(dataset) == 0:
            raise ValueError(
                f"split {dataset.split!r} of {dataset.name} is empty: choose another split"
            )
        check_readable(dataset, Policies.from_settings(config.data))
    if train_data.class_names != eval_data.class_names:
        raise ValueError(
            f"config.data.train has classes {train_data.class_names}, "
            f"config.data.eval has {eval_data.class_names}"
        )
    return train_data, eval_data


def look_over(
    config: ConfigDict, train_data: Dataset, eval_data: Dataset, spec: PriorSpec, console: Console
) -> None:
    """Says what the policies do to the training split, and what the run may suffer from.

    The quick part of `python -m ssd_jax.data.check`: no image is decoded.
    """
    planned = plan(train_data, Policies.from_settings(config.data), config.data.slots)
    for line in planned.lines:
        console.print(line, highlight=False)
    if config.loss.min_negatives:
        console.print(
            f"{config.loss.min_negatives} hardest priors at least of every image teach the "
            "background (loss.min_negatives)",
            highlight=False,
        )
    train_objects, eval_objects = train_data.source.objects, eval_data.source.objects
    for line in forebodings(train_objects, eval_objects, train_data.class_names, spec):
        console.print(f"warning: {line}", highlight=False)


def load_batches(
    config: ConfigDict,
    dataset: Dataset,
    start: int,
    rows: jax.sharding.NamedSharding,
    console: Console,
) -> Iterator[Batch]:
    """The batches of the steps from `start` to the config's last; a cache is filled first."""
    with contextlib.ExitStack() as shown:
        return _batches(
            config,
            dataset,
            start,
            config.train.steps,
            workers=config.data.workers,
            cache=config.data.cache,
            **_of_this_process(rows),
            progress=cache_bar(console, shown),
        )


def first_batches(
    config: ConfigDict, dataset: Dataset, count: int, rows: jax.sharding.NamedSharding
) -> Iterator[Batch]:
    """The batches of the first steps, of which this process reads its rows."""
    return _batches(config, dataset, 0, count, **_of_this_process(rows))


def remake_batch(config: ConfigDict, dataset: Dataset, step: int) -> Batch:
    """The global batch of a step that is counted from 1, read anew by this process."""
    return next(_batches(config, dataset, step - 1, step))


def _of_this_process(rows: jax.sharding.NamedSharding) -> dict[str, Any]:
    """Which rows of each batch this process reads, as of `train_batches`."""
    return {
        "sharding": rows,
        "process_index": jax.process_index(),
        "process_count": jax.process_count(),
    }


def _batches(
    config: ConfigDict, dataset: Dataset, start: int, stop: int, **how: Any
) -> Iterator[Batch]:
    """What the config says of its batches; `how` they are loaded as of `train_batches`."""
    return train_batches(
        dataset,
        batch_size=config.train.batch_size,
        canvas_size=config.data.canvas,
        slots=config.data.slots,
        seed=config.seed,
        start_step=start,
        stop_step=stop,
        policies=Policies.from_settings(config.data),
        **how,
    )


def cache_bar(console: Console, shown: contextlib.ExitStack) -> Callable[[int, int], None]:
    """A progress bar of filling a cache, which appears with the first images."""
    bar = progress_bar(console)
    task = bar.add_task("decoding into the cache", total=None)

    def update(done: int, total: int) -> None:
        if not bar.live.is_started:
            shown.enter_context(bar)
        bar.update(task, completed=done, total=total)

    return update
