"""How a run goes on: its figures checked, logged and printed, with rate and time left."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

from ssd_jax.compilation import CompileTimer
from ssd_jax.data import Batch
from ssd_jax.evaluation import report
from ssd_jax.evaluation.evaluator import Evaluation
from ssd_jax.training.faults import Faults, is_finite
from ssd_jax.training.log import Clock, MetricLog, duration
from ssd_jax.training.memory import device_memory
from ssd_jax.training.state import TrainState

Draw = Callable[[Batch, int], np.ndarray]


def is_turn(step: int, every: int) -> bool:
    """Whether a step is one of every so many; 0 is never."""
    return every > 0 and step % every == 0


class Progress:
    """Follows the steps: checks and logs their figures, prints a line every `log_every` steps.

    Args:
      config: the run's.
      start: the step that it goes on from.
      log: where figures and pictures go.
      console: where lines go.
      faults: is told of steps whose figures are not finite.
      draw: makes a picture of the batch of a step, which is drawn at the first step and with each
        evaluation; None draws no pictures, those of the evaluation neither.
    """

    def __init__(
        self,
        config: ConfigDict,
        start: int,
        log: MetricLog,
        console: Console,
        faults: Faults,
        draw: Draw | None = None,
    ):
        self._settings = config.train
        self._step = start
        self._log = log
        self._console = console
        self._faults = faults
        self._draw = draw
        self._clock = Clock(start, config.train.steps, config.train.batch_size)
        self._compiling = CompileTimer()
        self._began: float | None = time.perf_counter()  # None once the first step is done
        self._pending: list[dict[str, Any]] = []  # of steps that the device may not have done
        self._figures: list[dict[str, float]] = []  # of those before, since the last check
        self._batch: Batch | None = None

    def batches(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches; notes how long each is waited for."""
        iterator = iter(batches)
        while True:
            asked = time.perf_counter()
            try:
                batch = self._batch = next(iterator)
            except StopIteration:
                return
            self._clock.waited(time.perf_counter() - asked)
            yield batch

    def stepped(self, state: TrainState, metrics: dict[str, Any]) -> int:
        """Takes the state and the metrics after one more step; returns how many are done.

        Raises:
          FloatingPointError: as of `check`.
        """
        self._step += 1
        self._state = state
        self._pending.append(metrics)
        if self._began is not None:
            jax.block_until_ready(metrics)
            self._tell_first_step(time.perf_counter() - self._began)
            self._began = None
            self._clock.tick(self._step)
        elif len(self._pending) > 2:
            # Never more than two steps ahead of the device: each holds a batch in its memory. While
            # it is at those, what came before is written, so that it does not wait at a line.
            self._settle(1, {})
        if is_turn(self._step, self._settings.log_every):
            self._print()
        return self._step

    def check(self, **also: float | None) -> dict[str, float]:
        """Waits for the steps so far; the means of their figures since the last check.

        Steps that are not finite are left out of the means, and `Faults` is told of them. What is
        `also` known goes to the log with the last step.

        Raises:
          FloatingPointError: the run is to stop for a step that is not finite.
        """
        self._settle(
            len(self._pending), {name: value for name, value in also.items() if value is not None}
        )
        met, self._figures = self._figures, []
        finite = list(filter(is_finite, met))
        return {
            name: float(np.mean([figures[name] for figures in finite or met]))
            for name in (met[0] if met else {})
        }

    def evaluated(self, evaluation: Evaluation) -> None:
        """Logs and prints an evaluation's mean, and its pictures."""
        self._log.write(self._step, {"mAP": evaluation.mean})
        compiling = self._compiling.since_last()
        self._console.print(
            f"step {self._step}  mAP {evaluation.mean:.4f} on {evaluation.dataset.split}  "
            f"({evaluation.speed}"
            + (f", besides {compiling.seconds:.1f} s of compiling)" if compiling.seconds else ")"),
            highlight=False,
        )
        if self._draw:
            self._log.picture(self._step, "detections", report.picture_sheet(evaluation))
        self._draw_batch()

    def resume(self) -> None:
        """Leaves what came since the last line, an evaluation or a checkpoint, out of the clock."""
        self._clock.resume(self._step)

    def close(self) -> None:
        """Follows nothing any more."""
        self._compiling.close()

    def _settle(self, count: int, also: Mapping[str, float]) -> None:
        """Waits for the first of the pending steps; logs and checks their figures.

        What is `also` known is logged with the last step.
        """
        first = self._step - len(self._pending) + 1
        fetched = jax.device_get(self._pending[:count])
        del self._pending[:count]
        for step, metrics in enumerate(fetched, start=first):
            figures = {name: float(value) for name, value in metrics.items()}
            self._figures.append(figures)
            self._log.write(step, {**figures, **(also if step == self._step else {})})
            if not is_finite(figures):
                self._faults.met(step, figures, self._state)

    def _tell_first_step(self, seconds: float) -> None:
        compiling = self._compiling.since_last()
        cached = ", from the compilation cache" if compiling.cached else ""
        self._console.print(
            f"first step after {seconds:.1f} s, "
            f"{compiling.seconds:.1f} s of them compiling{cached}",
            highlight=False,
        )
        self._log.write(
            self._step,
            {"first_step_seconds": seconds, "compile_seconds": compiling.seconds},
        )
        self._draw_batch()

    def _draw_batch(self) -> None:
        if self._draw and self._batch is not None:
            self._log.picture(self._step, "training", self._draw(self._batch, self._step))

    def _print(self) -> None:
        jax.block_until_ready(self._pending)
        rate = self._clock.tick(self._step)
        waiting = self._clock.wait_fraction
        used, limit = device_memory()
        mean = self.check(images_per_second=rate, data_wait=waiting, memory_gib=used)
        speed = f"{rate:7.1f} images/s" if rate else "              "
        self._console.print(
            f"step {self._step}/{self._settings.steps}  "
            f"loss {mean['loss']:.3f} = boxes {mean['loc']:.3f} + classes {mean['conf']:.3f}  "
            f"rate {mean['rate']:.2g}  {speed}  "
            + (f"data wait {waiting:.0%}  " if waiting is not None else "")
            + f"memory {used:.1f}{f' of {limit:.0f}' if limit else ''} GiB  "
            f"{duration(self._clock.seconds_left)} left",
            highlight=False,
        )
