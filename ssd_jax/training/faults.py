"""Steps whose numbers are not finite: what is told of them, and the file that replays them.

The step itself leaves the weights as they were (`ssd_jax.training.step`); the host sees it when it
reads the figures. Batch t being a pure function of (seed, t), it is then made again.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict
from rich.console import Console

from ssd_jax.data import Dataset
from ssd_jax.training.diagnosis import diagnose, image_names
from ssd_jax.training.fault_file import Fault
from ssd_jax.training.inputs import remake_batch
from ssd_jax.training.state import TrainState
from ssd_jax.training.step import allowed_skips

FOLDER = "faults"


class Faults:
    """Tells of the faults of a run, keeps their batches, and stops it after too many.

    Args:
      config: the run's.
      dataset: the training split.
      workdir: the run's folder.
      console: where skipped steps are told.
    """

    def __init__(self, config: ConfigDict, dataset: Dataset, workdir: Path, console: Console):
        self._config, self._dataset = config, dataset
        self._folder, self._console = workdir / FOLDER, console
        self._allowed = allowed_skips(config)

    def met(self, step: int, figures: Mapping[str, float], state: TrainState) -> None:
        """Takes a step that is not finite: tells of it, and goes on if the config says so.

        Args:
          step: counted from 1.
          figures: the step's.
          state: the newest; as it was before the step, if this is where the run stops.

        Raises:
          FloatingPointError: the run is to stop.
        """
        fault = Fault(
            step=step,
            state_step=int(state.step),
            config=self._config,
            class_names=self._dataset.class_names,
            batch=dict(remake_batch(self._config, self._dataset, step)),
            variables=on_host(state.learning),
        )
        path = self._folder / f"step_{step}.npz"
        if jax.process_index() == 0:
            fault.save(path)
        wrong = [f"{name} {value}" for name, value in figures.items() if not math.isfinite(value)]
        told = (
            f"step {step} is not finite: {', '.join(wrong)}. {_summary(fault)}. "
            f"Its images: {', '.join(image_names(fault.batch))}. "
            f"python -m ssd_jax.training.replay {path} does it again"
        )
        skipped = int(figures["skipped"])
        if skipped <= self._allowed:
            self._console.print(
                f"{told}. Skipped, {skipped} of at most {self._allowed}",
                highlight=False,
            )
            return
        tolerate = "set config.train.not_finite=skip"
        if self._config.train.not_finite == "skip":
            tolerate = "raise config.train.max_skipped"
        raise FloatingPointError(
            f"{told}. Lower config.optimizer.rate, raise config.optimizer.warmup_steps, set "
            f"config.optimizer.clip_norm, or {tolerate}; the checkpoints before it are whole"
        )


def _summary(fault: Fault) -> str:
    """The diagnosis in short; one device does the whole batch for it, and may lack the memory."""
    try:
        return diagnose(fault).summary
    except jax.errors.JaxRuntimeError as reason:
        return f"The step could not be done again here: {str(reason).splitlines()[0]}"


def on_host(tree: Any) -> Any:
    """Arrays as NumPy's, gathered where they lie on several hosts; a call of all processes."""
    if all(leaf.is_fully_addressable for leaf in jax.tree.leaves(tree)):
        return jax.device_get(tree)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(tree, tiled=True)


def is_finite(figures: Mapping[str, float]) -> bool:
    """Whether all figures of a step are finite."""
    return all(map(math.isfinite, figures.values()))
