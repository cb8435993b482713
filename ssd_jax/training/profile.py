"""A trace of some steps for TensorBoard's profiler and Perfetto."""

from pathlib import Path
from typing import Any

import jax
from rich.console import Console

FOLDER = "profile"

# The first step compiles, and the second may still be about what the first has left.
_STEPS_BEFORE = 2


class StepTrace:
    """Traces steps to WORKDIR/profile, from the third after the start on.

    Args:
      workdir: the run's folder.
      start: the step that the run goes on from.
      count: how many steps to trace; 0 traces none.
      console: where it is said what was written.
    """

    def __init__(self, workdir: Path, start: int, count: int, console: Console):
        self._folder = workdir / FOLDER
        self._first, self._last = start + _STEPS_BEFORE, start + _STEPS_BEFORE + count
        self._count = count
        self._console = console
        self._step: jax.profiler.StepTraceAnnotation | None = None

    def __enter__(self) -> "StepTrace":
        return self

    def __exit__(self, *_: Any) -> None:
        if self._step:
            self._stop()

    def stepped(self, step: int, metrics: dict[str, Any]) -> None:
        """Takes that `step` steps are done, as soon as the device has `metrics`."""
        if not self._count or not self._first <= step <= self._last:
            return
        if self._step:
            self._step.__exit__(None, None, None)
        else:
            jax.block_until_ready(metrics)
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
        if step == self._last:
            jax.block_until_ready(metrics)
            self._stop()
            return
        self._step = jax.profiler.StepTraceAnnotation("train", step_num=step + 1)
        self._step.__enter__()

    def _stop(self) -> None:
        jax.profiler.stop_trace()
        self._step = None
        self._console.print(
            f"a trace of {self._count} steps is in {self._folder}: open its perfetto_trace.json.gz "
            "at https://ui.perfetto.dev, or run tensorboard with its plugin",
            highlight=False,
        )
