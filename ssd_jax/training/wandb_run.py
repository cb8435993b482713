"""Weights & Biases, where it is installed and asked for."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ssd_jax.extras import import_extra

_ID = "wandb_id"


class WandbRun:
    """A run of Weights & Biases; one that goes on is the same there too.

    Args:
      project: its project.
      workdir: the folder of the run, which gives it its name and keeps its identity.
      config: the recipe, shown with the run.
      start: the step that the run goes on from; 0 begins a new one.

    Raises:
      ValueError: wandb is not installed.
    """

    def __init__(self, project: str, workdir: Path, config: dict[str, Any], start: int):
        self._wandb = import_extra(
            "wandb", f"config.train.wandb is {project!r}, but wandb is not installed"
        )
        identity = workdir / _ID
        old = identity.read_text().strip() if start and identity.exists() else None
        self._run = self._wandb.init(
            project=project,
            name=workdir.resolve().name,
            dir=str(workdir),
            config=config,
            id=old,
            resume="allow",
        )
        identity.write_text(f"{self._run.id}\n")

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Logs scalars of a step; of one that was done before a break, it keeps the first."""
        self._run.log(scalars, step=step)

    def picture(self, step: int, name: str, image: UInt8[np.ndarray, "H W 3"]) -> None:
        """Logs an RGB picture."""
        self._run.log({name: self._wandb.Image(image)}, step=step)

    def close(self) -> None:
        """Ends the run there."""
        self._run.finish()
