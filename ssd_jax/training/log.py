"""A run's figures: JSON lines, TensorBoard, and a line on the console with rate and time left."""

import json
import time
from pathlib import Path
from typing import Any

import tensorboardX

LINES = "metrics.jsonl"


class MetricLog:
    """Writes scalars by step to WORKDIR/metrics.jsonl and WORKDIR/tensorboard.

    Args:
      workdir: the run's folder; None writes nothing, for all processes but the first.
      start: the step that the run goes on from: what was written of later ones is dropped, for
        they are done again.
    """

    def __init__(self, workdir: Path | None, start: int):
        self._writes = workdir is not None
        if workdir is None:
            return
        path = workdir / LINES
        kept = []
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if _step_of(line) <= start]
        path.write_text("".join(f"{line}\n" for line in kept))
        self._lines = path.open("a")
        self._board = tensorboardX.SummaryWriter(str(workdir / "tensorboard"), purge_step=start + 1)

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Appends one line and the same scalars for TensorBoard."""
        if not self._writes:
            return
        self._lines.write(json.dumps({"step": step, **scalars}) + "\n")
        self._lines.flush()
        for name, value in scalars.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes and closes both."""
        if not self._writes:
            return
        self._lines.close()
        self._board.close()


def _step_of(line: str) -> float:
    """The step of a line; a line cut short by a kill counts as later than any."""
    try:
        return float(json.loads(line)["step"])
    except json.JSONDecodeError:
        return float("inf")


class Clock:
    """Measures images a second and time left, leaving out what is no training.

    The first step after a start is left out too: it is compilation.
    """

    def __init__(self, start: int, stop: int, batch_size: int):
        self._done, self._stop, self._batch_size = start, stop, batch_size
        self._first = start + 1
        self._steps = 0
        self._seconds = 0.0
        self._since: float | None = None

    def pause(self) -> None:
        """Stops counting until the next tick, as for an evaluation."""
        self._since = None

    def tick(self, step: int) -> float | None:
        """Says that `step` steps are done; returns images/s since the last tick, if known."""
        now = time.perf_counter()
        rate = None
        if self._since is not None:
            seconds, steps = now - self._since, step - self._done
            self._seconds += seconds
            self._steps += steps
            rate = steps * self._batch_size / seconds
        self._since, self._done = now, step
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


def scalars(metrics: dict[str, Any]) -> dict[str, float]:
    """Device scalars as Python floats."""
    return {name: float(value) for name, value in metrics.items()}
