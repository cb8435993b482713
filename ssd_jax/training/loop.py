"""A training run from start, or from where it stopped, to its last evaluation."""

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict
from rich.console import Console

from ssd_jax import config as config_lib
from ssd_jax.cli import progress_bar
from ssd_jax.data import Batch, Dataset, Policies, load_dataset, train_batches
from ssd_jax.data.check.summary import forebodings
from ssd_jax.data.policies import plan
from ssd_jax.evaluation import report
from ssd_jax.evaluation.evaluator import Evaluation, compile_predict, evaluate
from ssd_jax.priors import PriorSpec
from ssd_jax.recipe import build_model, build_predict
from ssd_jax.sharding import make_mesh, shardings
from ssd_jax.training import checkpoints as checkpoint_lib
from ssd_jax.training.checkpoints import Checkpoints, Meta
from ssd_jax.training.initial import Initial, load_initial
from ssd_jax.training.log import Clock, MetricLog, duration
from ssd_jax.training.optimizer import build_optimizer
from ssd_jax.training.state import init_state
from ssd_jax.training.step import build_train_step, compile_train_step, to_device
from ssd_jax.visualize import write_image

SHEET = "detections.png"

# Fields that may differ when a run goes on: they change neither the network nor its data.
FREE_TO_CHANGE = ("train.", "evaluate.", "detect.", "data.workers", "data.cache", "optimizer.")


def train(
    config: ConfigDict,
    workdir: Path,
    *,
    overwrite: bool = False,
    console: Console | None = None,
    devices: list[jax.Device] | None = None,
) -> Evaluation:
    """Trains to `config.train.steps`, going on from the newest checkpoint of `workdir`.

    Args:
      config: a whole config, as `ssd_jax.config.base` makes one.
      workdir: where checkpoints, figures and pictures go.
      overwrite: start anew, deleting the checkpoints that are there.
      console: where progress goes; standard output if None.
      devices: to train on; all there are if None.

    Returns:
      The evaluation of the last step.

    Raises:
      ValueError: the config does not fit the data, or the run that is gone on with.
      FloatingPointError: the loss or a gradient is not finite any more.
    """
    console = console or Console(soft_wrap=True)
    mesh = make_mesh(devices)
    replicated, rows = shardings(mesh)
    if config.train.batch_size % mesh.size:
        raise ValueError(
            f"config.train.batch_size is {config.train.batch_size}, "
            f"not a multiple of the {mesh.size} devices"
        )

    train_data, eval_data = load_splits(config)
    console.print(
        f"{train_data.name}: {len(train_data)} images to train on, {len(eval_data)} to evaluate, "
        f"{len(train_data.class_names)} classes"
    )
    class_names = train_data.class_names

    workdir.mkdir(parents=True, exist_ok=True)
    if overwrite:
        checkpoint_lib.remove(workdir)
    with contextlib.ExitStack() as resources:
        checkpoints = Checkpoints(workdir, keep=config.train.keep)
        resources.callback(checkpoints.close)
        start = checkpoints.latest or 0
        old = None if checkpoints.latest is None else checkpoints.meta(start)
        initial = None if old else load_initial(config, console)
        config = with_preprocessing(config, old, initial)

        meta = Meta(config, class_names)
        model = build_model(config, class_names)
        look_over(config, train_data, eval_data, model.priors, console)
        optimizer = build_optimizer(config)
        step_fn = compile_train_step(build_train_step(config, model, optimizer), mesh)
        predict = compile_predict(build_predict(config, model), mesh)

        def adapt(fresh: Any) -> Any:
            return initial.adapt(fresh, class_names, model.priors, console) if initial else fresh

        state = jax.device_put(init_state(model, optimizer, config.seed, adapt), replicated)
        parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        console.print(
            f"SSD{config.model.size}: {parameters:,} parameters, {model.priors.num_priors} priors, "
            f"on {mesh.size} {mesh.devices.flat[0].device_kind}"
        )
        if old:
            check_goes_on(old, meta, console)
            state = checkpoints.restore_state(start, like=state)
            console.print(f"going on from step {start} of {config.train.steps} in {workdir}")
        log = MetricLog(workdir, start)
        resources.callback(log.close)
        progress = Progress(config, start, log, console)
        evaluation = None

        for batch in load_batches(config, train_data, start, rows, console):
            state, metrics = step_fn(state, to_device(batch, rows))
            step = progress.stepped(metrics)

            evaluating = step % config.train.eval_every == 0 or step == config.train.steps
            if evaluating or step % config.train.checkpoint_every == 0:
                progress.check()
                evaluation = None
                if evaluating:
                    evaluation = evaluate(config, predict, state.variables, eval_data, mesh)
                    progress.evaluated(evaluation)
                checkpoints.save(state, meta, evaluation.mean if evaluation else None)
                progress.pause()

    if evaluation is None:  # every step was done before
        evaluation = evaluate(config, predict, state.variables, eval_data, mesh)
    write_image(workdir / SHEET, report.picture_sheet(evaluation))
    console.print(report.table(evaluation.results, evaluation.scores))
    console.print(f"checkpoints, {SHEET} and figures are in {workdir}")
    return evaluation


def with_preprocessing(config: ConfigDict, old: Meta | None, initial: Initial | None) -> ConfigDict:
    """The config with the mean and std that the initial weights expect.

    A run that goes on has them in its checkpoint: it needs the initial weights no more.
    """
    config = config.copy_and_resolve_references()
    if initial:
        initial.preprocessing.configure(config)
    elif old and config.init == old.config.init != "scratch":
        config.model.mean, config.model.std = old.config.model.mean, old.config.model.std
    return config


def look_over(
    config: ConfigDict, train_data: Dataset, eval_data: Dataset, spec: PriorSpec, console: Console
) -> None:
    """Says what the policies do to the training split, and what the run may suffer from.

    The quick part of `python -m ssd_jax.data.check`: no image is decoded.
    """
    planned = plan(train_data, Policies.from_settings(config.data), config.data.slots)
    for line in planned.lines:
        console.print(line, highlight=False, markup=False)
    if config.loss.min_negatives:
        console.print(
            f"{config.loss.min_negatives} hardest priors at least of every image teach the "
            "background (loss.min_negatives)",
            highlight=False,
        )
    train_objects, eval_objects = train_data.source.objects, eval_data.source.objects
    for line in forebodings(train_objects, eval_objects, train_data.class_names, spec):
        console.print(f"warning: {line}", highlight=False, markup=False)


def load_batches(
    config: ConfigDict,
    dataset: Dataset,
    start: int,
    rows: jax.sharding.NamedSharding,
    console: Console,
) -> Iterator[Batch]:
    """The batches of the steps from `start` to the config's last; a cache is filled first."""
    with contextlib.ExitStack() as shown:
        return train_batches(
            dataset,
            batch_size=config.train.batch_size,
            canvas_size=config.data.canvas,
            slots=config.data.slots,
            seed=config.seed,
            start_step=start,
            stop_step=config.train.steps,
            workers=config.data.workers,
            policies=Policies.from_settings(config.data),
            cache=config.data.cache,
            sharding=rows,
            progress=cache_bar(console, shown),
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


def load_splits(config: ConfigDict) -> tuple[Dataset, Dataset]:
    """The training and the evaluation split.

    Raises:
      ValueError: their classes differ.
    """
    train_data = load_dataset(config.data, config.data.train)
    eval_data = load_dataset(config.data, config.data.eval)
    if train_data.class_names != eval_data.class_names:
        raise ValueError(
            f"config.data.train has classes {train_data.class_names}, "
            f"config.data.eval has {eval_data.class_names}"
        )
    return train_data, eval_data


def check_goes_on(old: Meta, new: Meta, console: Console) -> None:
    """Says in which fields a run that goes on differs from its checkpoint.

    Raises:
      ValueError: in one that makes it another run.
    """
    if old.class_names != new.class_names:
        raise ValueError(
            f"the run in this workdir has classes {old.class_names}, the data has "
            f"{new.class_names}: use --overwrite or another --workdir"
        )
    for name, (before, after) in config_lib.differences(old.config, new.config).items():
        if not name.startswith(FREE_TO_CHANGE):
            raise ValueError(
                f"config.{name} is {after!r}, but the run in this workdir has {before!r}: "
                "set it so, or use --overwrite or another --workdir"
            )
        console.print(f"config.{name} is now {after!r}, it was {before!r}")


class Progress:
    """Follows the steps: checks and logs their figures, prints a line every `log_every` steps."""

    def __init__(self, config: ConfigDict, start: int, log: MetricLog, console: Console):
        self._settings = config.train
        self._step = start
        self._log = log
        self._console = console
        self._clock = Clock(start, config.train.steps, config.train.batch_size)
        self._compiled = False
        self._pending: list[dict[str, Any]] = []

    def stepped(self, metrics: dict[str, Any]) -> int:
        """Takes the metrics of one more step; returns how many steps are done."""
        self._step += 1
        self._pending.append(metrics)
        if not self._compiled:
            jax.block_until_ready(metrics)
            self._clock.tick(self._step)
            self._compiled = True
        elif len(self._pending) > 2:
            # Never more than two steps ahead of the device: each holds a batch in its memory.
            jax.block_until_ready(self._pending[-3])
        if self._step % self._settings.log_every == 0:
            self._print()
        return self._step

    def check(self) -> dict[str, float]:
        """Waits for the steps so far; the means of their figures since the last check.

        Raises:
          FloatingPointError: one of them is not finite.
        """
        fetched = [
            {name: float(value) for name, value in metrics.items()}
            for metrics in jax.device_get(self._pending)
        ]
        first = self._step - len(fetched) + 1
        for step, figures in enumerate(fetched, start=first):
            if not all(map(math.isfinite, figures.values())):
                raise FloatingPointError(
                    f"step {step} is not finite: "
                    + ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
                    + ". Lower config.optimizer.rate or raise config.optimizer.warmup_steps; "
                    "the checkpoints before it are whole"
                )
            self._log.write(step, figures)
        self._pending = []
        return {
            name: sum(figures[name] for figures in fetched) / len(fetched)
            for name in (fetched[0] if fetched else {})
        }

    def _print(self) -> None:
        mean = self.check()
        rate = self._clock.tick(self._step)
        speed = f"{rate:7.1f} images/s" if rate else "              "
        self._console.print(
            f"step {self._step}/{self._settings.steps}  "
            f"loss {mean['loss']:.3f} = boxes {mean['loc']:.3f} + classes {mean['conf']:.3f}  "
            f"rate {mean['rate']:.2g}  {speed}  {duration(self._clock.seconds_left)} left",
            highlight=False,
        )

    def evaluated(self, evaluation: Evaluation) -> None:
        """Logs and prints an evaluation's mean."""
        self._log.write(self._step, {"mAP": evaluation.mean})
        self._console.print(
            f"step {self._step}  mAP {evaluation.mean:.4f} on {evaluation.dataset.split}  "
            f"({evaluation.images_per_second:.0f} images/s)",
            highlight=False,
        )

    def pause(self) -> None:
        """Leaves what comes next out of the clock, until the next line."""
        self._clock.pause()
