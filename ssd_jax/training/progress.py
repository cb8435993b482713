"""How a run goes on: its figures checked, logged and printed, with rate and time left."""

import math
from typing import Any

import jax
from ml_collections import ConfigDict
from rich.console import Console

from ssd_jax.evaluation.evaluator import Evaluation
from ssd_jax.training.log import Clock, MetricLog, duration


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
