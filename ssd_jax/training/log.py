"""Where figures and pictures go: JSON lines, TensorBoard, Weights & Biases; and a run's clock."""

import contextlib
import json
import math
import time
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from ssd_jax import processes
from ssd_jax.evaluation import report
from ssd_jax.training.tensorboard import Board
from ssd_jax.training.wandb_run import WandbRun

LINES = "metrics.jsonl"


class MetricLog:
    """Writes scalars by step to WORKDIR/metrics.jsonl and, as pictures too, WORKDIR/tensorboard.

    Args:
      workdir: the run's folder; None writes nothing, for all processes but the first.
      start: the step that the run goes on from: what was written of later ones is dropped, for
        they are done again.
      wandb_run: where both go besides.
    """

    def __init__(self, workdir: Path | None, start: int, wandb_run: WandbRun | None = None):
        self._writes = workdir is not None
        if workdir is None:
            return
        _drop_later(workdir / LINES, start)
        self._lines = (workdir / LINES).open("a")
        self._board = Board(workdir / "tensorboard", start)
        self._wandb_run = wandb_run

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Appends one line and the same scalars elsewhere; what is not finite is null, or no point.

        JSON has no NaN, and a curve no place for it.
        """
        if not self._writes:
            return
        finite = {name: value for name, value in scalars.items() if math.isfinite(value)}
        line = {"step": step, **dict.fromkeys(scalars), **finite}
        self._lines.write(json.dumps(line, allow_nan=False) + "\n")
        self._lines.flush()
        for name, value in finite.items():
            self._board.scalar(step, name, value)
        if self._wandb_run:
            self._wandb_run.write(step, finite)

    def picture(self, step: int, name: str, image: UInt8[np.ndarray, "H W 3"]) -> None:
        """Adds an RGB picture."""
        if not self._writes:
            return
        self._board.picture(step, name, image)
        if self._wandb_run:
            self._wandb_run.picture(step, name, image)

    def __enter__(self) -> "MetricLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Flushes and closes all; a fault that is under way is not hidden by a full disk's."""
        try:
            self.close()
        except OSError:
            if fault is None:
                raise

    def close(self) -> None:
        """Flushes and closes all.

        Raises:
          OSError: the disk is full.
        """
        if not self._writes:
            return
        with contextlib.ExitStack() as closing:  # each, whatever becomes of the others
            if self._wandb_run:
                closing.callback(self._wandb_run.close)
            closing.callback(self._board.close)
            closing.callback(self._lines.close)


def open_log(config: ConfigDict, workdir: Path, start: int) -> MetricLog:
    """The log of a run that goes on from `start`, with Weights & Biases where the config says so.

    Of several processes the first one's; the others' write nothing.

    Raises:
      ValueError: wandb is not installed.
    """
    if not processes.is_first():
        return MetricLog(None, start)
    project = config.train.wandb
    run = WandbRun(project, workdir, config.to_dict(), start) if project else None
    return MetricLog(workdir, start, run)


def _drop_later(path: Path, step: int) -> None:
    """Leaves the lines up to a step in a file; all of them stay until these are written."""
    if not path.exists():
        return
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and _step_of(line) <= step]
    if kept != lines:
        report.write_files(path.parent, {path.name: "".join(kept)})


def _step_of(line: str) -> float:
    """The step of a line; a line cut short by a kill counts as later than any."""
    try:
        return float(json.loads(line)["step"])
    except json.JSONDecodeError:
        return float("inf")


class Clock:
    """Measures images a second and time left, leaving out what is no training.

    The first step after a start is left out too: it is compilation.

    Args:
      start: the step that the run goes on from.
      stop: its last one.
      batch_size: images a step.
    """

    def __init__(self, start: int, stop: int, batch_size: int):
        self._done, self._stop, self._batch_size = start, stop, batch_size
        self._steps = 0
        self._seconds = 0.0
        self._waited = 0.0
        self._since: float | None = None
        self.wait_fraction: float | None = None

    def resume(self, step: int) -> None:
        """Counts from here, after `step`: what came since the last tick was no training."""
        self._since, self._done, self._waited = time.perf_counter(), step, 0.0

    def waited(self, seconds: float) -> None:
        """Says that the next batch was waited for."""
        self._waited += seconds

    def tick(self, step: int) -> float | None:
        """Says that `step` steps are done; returns images/s since the last tick, if known.

        `wait_fraction` is then the share of that time in which batches were waited for.
        """
        now = time.perf_counter()
        rate = self.wait_fraction = None
        if self._since is not None:
            seconds, steps = now - self._since, step - self._done
            self._seconds += seconds
            self._steps += steps
            rate = steps * self._batch_size / seconds
            self.wait_fraction = self._waited / seconds
        self._since, self._done, self._waited = now, step, 0.0
        return rate

    @property
    def seconds_left(self) -> float | None:
        """Estimated from the whole run so far; None before anything is known."""
        if not self._steps:
            return None
        return (self._stop - self._done) * self._seconds / self._steps


def duration(seconds: float | None) -> str:
    """'1:02:03', '2:03', or '?' for None."""
    if seconds is None:
        return "?"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
