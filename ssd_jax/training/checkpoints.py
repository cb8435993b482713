"""Checkpoints: a run's variables, optimizer state and all that is needed to use them again.

The one module that knows orbax. A folder WORKDIR/checkpoints/STEP holds three items: `variables`
(parameters and batch statistics), `opt_state`, and `meta`, JSON with the config and class names.
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from ssd_jax import config as config_lib
from ssd_jax.training.state import TrainState

FORMAT = 1
FOLDER = "checkpoints"


@dataclasses.dataclass(frozen=True)
class Meta:
    """What makes a checkpoint usable without anything else."""

    config: ConfigDict
    class_names: tuple[str, ...]  # without background

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "format": FORMAT,
            "config": json.loads(config_lib.to_json(self.config)),
            "class_names": list(self.class_names),
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Meta":
        """The inverse of `to_dict`; a ValueError says why a checkpoint cannot be used."""
        if fields.get("format") != FORMAT:
            raise ValueError(
                f"the checkpoint has format {fields.get('format')}, this version of ssd_jax reads "
                f"format {FORMAT}"
            )
        return cls(
            config=config_lib.from_json(json.dumps(fields["config"])),
            class_names=tuple(fields["class_names"]),
        )


class Checkpoints:
    """The checkpoints of one run.

    Args:
      workdir: the run's folder.
      keep: newest checkpoints to keep, besides the best; None opens the folder only to read.

    Raises:
      FileNotFoundError: opened to read, and there is no checkpoint.
    """

    def __init__(self, workdir: Path, keep: int | None = None):
        self.folder = workdir / FOLDER
        if keep is None and not (self.folder.is_dir() and any(self.folder.iterdir())):
            raise FileNotFoundError(
                f"no checkpoint in {workdir}: give the folder that train.py wrote "
                f"(the one that holds {FOLDER}/)"
            )
        policies = ocp.checkpoint_managers
        self._manager = ocp.CheckpointManager(
            self.folder.resolve(),
            item_names=("variables", "opt_state", "meta"),
            options=ocp.CheckpointManagerOptions(
                best_fn=_score,
                preservation_policy=policies.AnyPreservationPolicy(
                    [
                        policies.LatestN(keep),
                        policies.BestN(
                            n=1, get_metric_fn=_score, keep_checkpoints_without_metrics=False
                        ),
                    ]
                ),
                cleanup_tmp_directories=keep is not None,
                read_only=keep is None,
            ),
        )
        if keep is None and not self.steps:
            raise FileNotFoundError(f"no whole checkpoint in {self.folder}")

    @property
    def steps(self) -> list[int]:
        """The steps that there are checkpoints of, in order."""
        return sorted(self._manager.all_steps())

    @property
    def latest(self) -> int | None:
        """The newest step, None where there is none."""
        return self._manager.latest_step()

    @property
    def best(self) -> int | None:
        """The step with the best mean AP by `evaluate.best_metric`; None if none was evaluated."""
        return self._manager.best_step()

    def choose(self, step: int | None, best: bool) -> int:
        """The step asked for: that one, the best, or the newest.

        Raises:
          ValueError: there is none such, or two were asked for.
        """
        if best and step is not None:
            raise ValueError(f"both step {step} and the best checkpoint were asked for: take one")
        if best and self.best is None:
            raise ValueError(f"no checkpoint in {self.folder} was evaluated, so none is the best")
        chosen = self.best if best else step if step is not None else self.latest
        if chosen not in self.steps:
            raise ValueError(f"no checkpoint of step {step} in {self.folder}; it has {self.steps}")
        return chosen

    def save(self, state: TrainState, meta: Meta, mean_ap: float | None = None) -> None:
        """Saves in the background, once a step; `mean_ap`, if it was evaluated, ranks it."""
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        self._manager.save(
            step,
            args=ocp.args.Composite(
                variables=ocp.args.StandardSave(state.variables),
                opt_state=ocp.args.StandardSave(state.remainder),
                meta=ocp.args.JsonSave(meta.to_dict()),
            ),
            metrics=None if mean_ap is None else {"mAP": mean_ap},
        )

    def meta(self, step: int) -> Meta:
        """The config and class names that a step was saved with."""
        restored = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))
        return Meta.from_dict(restored.meta)

    def restore_state(self, step: int, like: TrainState) -> TrainState:
        """The whole state of a step, placed and typed as `like` is."""
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                variables=ocp.args.StandardRestore(_abstract(like.variables)),
                opt_state=ocp.args.StandardRestore(_abstract(like.remainder)),
            ),
        )
        placed = jax.device_put(like.step * 0 + step, like.step.sharding)
        return like.restored(placed, restored.variables, restored.opt_state)

    def restore_variables(self, step: int, like: Any) -> Any:
        """Only what `model.apply` takes."""
        args = ocp.args.Composite(variables=ocp.args.StandardRestore(_abstract(like)))
        return self._manager.restore(step, args=args).variables

    def wait(self) -> None:
        """Returns when everything saved is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then lets go of the folder."""
        self._manager.close()


def latest_meta(workdir: Path) -> Meta | None:
    """The config and class names of a run's newest checkpoint; None where there is none."""
    try:
        checkpoints = Checkpoints(workdir)
    except FileNotFoundError:
        return None
    meta = checkpoints.meta(checkpoints.steps[-1])
    checkpoints.close()
    return meta


def remove(workdir: Path) -> None:
    """Deletes the checkpoints of a run, if there are any."""
    shutil.rmtree(workdir / FOLDER, ignore_errors=True)


def _score(metrics: dict[str, float]) -> float:
    return metrics["mAP"]


def _abstract(tree: Any) -> Any:
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None)),
        tree,
    )
