"""Checkpoints: a run's variables, optimizer state and all that is needed to use them again.

The one module that knows orbax. A folder WORKDIR/checkpoints/STEP holds three items: `variables`
(parameters and batch statistics), `opt_state`, and `meta`, JSON with the config and the class
names; a list of their files with checksums, see `ssd_jax.training.manifest`; and, once the step is
evaluated, its mean AP in `score.json`.
"""

import contextlib
import dataclasses
import glob
import json
import logging
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from ssd_jax import config as config_lib
from ssd_jax import processes
from ssd_jax.sharding import place
from ssd_jax.training.manifest import NAME, find_damage, write_manifest
from ssd_jax.training.state import TrainState

logger = logging.getLogger(__name__)

# 2: with a list of checksums; the mean AP may also be in `meta`. 1: without, both.
FORMAT = 2
READABLE = (1, 2)
FOLDER = "checkpoints"
LATER_SCORE = "score.json"  # in STEP, beside the items: evaluations come after the saving


@dataclasses.dataclass(frozen=True)
class Meta:
    """What makes a checkpoint usable without anything else."""

    config: ConfigDict
    class_names: tuple[str, ...]  # without background
    mean_ap: float | None = None  # by `evaluate.best_metric`; None where none was computed
    train_images: int | None = None  # of the split that it was trained on, where that is known

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "format": FORMAT,
            "config": json.loads(config_lib.to_json(self.config)),
            "class_names": list(self.class_names),
            "mAP": self.mean_ap,
            "train_images": self.train_images,
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Meta":
        """The inverse of `to_dict`; a ValueError says why a checkpoint cannot be used."""
        if fields.get("format") not in READABLE:
            raise ValueError(
                f"the checkpoint has format {fields.get('format')}, this version of ssd_jax reads "
                f"formats {' and '.join(map(str, READABLE))}"
            )
        return cls(
            config=config_lib.from_json(json.dumps(fields["config"])),
            class_names=tuple(fields["class_names"]),
            mean_ap=fields.get("mAP"),
            train_images=fields.get("train_images"),
        )


class Score(NamedTuple):
    """How good a checkpoint is: a mean AP, and the metric that it is by."""

    mean_ap: float
    metric: str


def comparable(scores: Mapping[int, Score]) -> dict[int, float]:
    """The mean APs by step of one metric, the newest's: it may change when a run goes on."""
    metric = scores[max(scores)].metric if scores else None
    return {step: score.mean_ap for step, score in scores.items() if score.metric == metric}


class Checkpoints:
    """The checkpoints of one run.

    What is damaged or was not finished is stepped over, and a warning names it. Opened to write it
    is also set aside, as STEP.damaged, so that the step can be saved anew.

    Args:
      workdir: the run's folder.
      keep: newest checkpoints to keep, besides the best; None opens the folder only to read.
      keep_every: checkpoints of multiples of so many steps are kept for good; 0: no more of them.

    Raises:
      FileNotFoundError: opened to read, and there is no checkpoint.
      ValueError: the folder's path holds one of * ? [.
    """

    def __init__(self, workdir: Path, keep: int | None = None, keep_every: int = 0):
        self.folder = (workdir / FOLDER).resolve()
        if glob.has_magic(str(self.folder)):  # orbax saves there what it then does not find
            raise ValueError(
                f"{self.folder} holds one of * ? [: from there checkpoints cannot be read again; "
                "use a folder without"
            )
        self._damage: dict[int, str | None] = {}
        self._saving: int | None = None
        if keep is None:
            if not self.steps:
                raise FileNotFoundError(
                    f"no checkpoint in {workdir}: give the folder that train.py wrote "
                    f"(the one that holds {FOLDER}/)"
                )
            return
        processes.first_before_others(self._set_aside)
        self._scores = self._read_scores()
        policies = ocp.checkpoint_managers
        preserved: list[Any] = [policies.LatestN(keep), _Best(self._scores)]
        if keep_every:
            preserved.append(policies.EveryNSteps(keep_every))
        self._manager = _Manager(
            self.folder,
            item_names=("variables", "opt_state", "meta"),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policies.AnyPreservationPolicy(preserved),
                cleanup_tmp_directories=True,
                async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
            ),
        )

    @property
    def steps(self) -> list[int]:
        """The steps that there are checkpoints of, whole or not, in order."""
        names = (path.name for path in self.folder.glob("*") if path.is_dir())
        return sorted(int(name) for name in names if name.isdecimal())

    @property
    def latest(self) -> int | None:
        """The newest step with a whole checkpoint, None where there is none."""
        return next((step for step in reversed(self.steps) if self._is_whole(step)), None)

    @property
    def best(self) -> int | None:
        """Of the whole ones that of the best mean AP by `evaluate.best_metric`; None if none has.

        Of equal ones the newest.
        """
        scores = comparable(self._read_scores())
        ranked = sorted(scores, key=lambda step: (scores[step], step), reverse=True)
        return next((step for step in ranked if self._is_whole(step)), None)

    def choose(self, step: int | None, best: bool) -> int:
        """The step asked for: that one, the best, or the newest.

        Raises:
          ValueError: there is none such, it is damaged, or two were asked for.
          FileNotFoundError: there is no whole checkpoint.
        """
        if best and step is not None:
            raise ValueError(f"both step {step} and the best checkpoint were asked for: take one")
        if step is not None:
            if step not in self.steps:
                raise ValueError(
                    f"no checkpoint of step {step} in {self.folder}; it has {self.steps}"
                )
            if damage := self._find_damage(step):
                raise ValueError(f"{self.folder / str(step)} is damaged: {damage}")
            return step
        if best and self.best is None:
            raise ValueError(f"no checkpoint in {self.folder} was evaluated, so none is the best")
        chosen = self.best if best else self.latest
        if chosen is None:
            raise FileNotFoundError(
                f"no whole checkpoint in {self.folder}: {self._find_damage(self.steps[-1])} "
                f"of step {self.steps[-1]}"
            )
        return chosen

    def save(self, state: TrainState, meta: Meta) -> None:
        """Saves in the background, once a step.

        Raises:
          OSError: the save before this one failed.
        """
        step = int(state.step)
        self.wait()
        if step in self.steps:
            return
        self._save(
            step,
            variables=ocp.args.StandardSave(state.variables),
            opt_state=ocp.args.StandardSave(state.remainder),
            meta=ocp.args.JsonSave(meta.to_dict()),
        )

    def add_score(self, step: int, mean_ap: float, meta: Meta) -> None:
        """Ranks a step that was saved before, once that is done.

        Raises:
          OSError: the save failed, or there is no place for the score.
        """
        self.wait()
        self._scores[step] = Score(mean_ap, meta.config.evaluate.best_metric)
        if processes.is_first():
            path = self.folder / str(step) / LATER_SCORE
            half = path.with_suffix(".part")
            half.write_text(json.dumps(self._scores[step]._asdict()))
            half.replace(path)

    def save_variables(self, step: int, variables: Any, meta: Meta) -> None:
        """Saves what detection needs, without what training would go on with.

        Raises:
          OSError: the save before this one failed.
        """
        self._save(
            step, variables=ocp.args.StandardSave(variables), meta=ocp.args.JsonSave(meta.to_dict())
        )

    def _save(self, step: int, **items: Any) -> None:
        self._saving = step
        with self._told():
            self._manager.save(step, args=ocp.args.Composite(**items))

    def meta(self, step: int) -> Meta:
        """The config and class names that a step was saved with, and its mean AP."""
        meta = Meta.from_dict(self._fields(step))
        score = self._score(step)
        return dataclasses.replace(meta, mean_ap=score.mean_ap if score else None)

    def restore_state(self, step: int, like: TrainState) -> TrainState:
        """The whole state of a step, placed and typed as `like` is."""
        opt_state = self._restore(step, "opt_state", like.remainder)
        variables = self.restore_variables(step, like.variables)
        placed = place(np.int32(step), like.step.sharding)
        return like.restored(placed, variables, opt_state)

    def restore_variables(self, step: int, like: Any) -> Any:
        """Only what `model.apply` takes."""
        return self._restore(step, "variables", like)

    def wait(self) -> None:
        """Returns when everything saved is on disk.

        Raises:
          OSError: a save failed, as on a full disk.
        """
        with self._told():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then lets go of the folder."""
        with self._told():
            self._manager.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Whatever goes wrong in saving, with what is left."""
        try:
            yield
        except Exception as fault:
            reason = " ".join(str(fault).split())
            whole = [step for step in self.steps if step != self._saving and self._is_whole(step)]
            raise OSError(
                f"the checkpoint of step {self._saving} was not saved in {self.folder}, where "
                f"{shutil.disk_usage(self.folder).free / 1e6:.0f} MB are free; whole are those of "
                f"steps {whole}. {reason[:300]}"
            ) from fault

    def _seal(self) -> None:
        """Lists the files of the checkpoint that is being saved; orbax gives it its name then."""
        (unnamed,) = self.folder.glob(f"{self._saving}.orbax-checkpoint-tmp*")
        write_manifest(unnamed)

    def _restore(self, step: int, item: str, like: Any) -> Any:
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
            return reader.restore(
                self.folder / str(step) / item, args=ocp.args.StandardRestore(_abstract(like))
            )

    def _fields(self, step: int) -> dict[str, Any]:
        with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
            return reader.restore(self.folder / str(step) / "meta", args=ocp.args.JsonRestore())

    def _read_scores(self) -> dict[int, Score]:
        scores = {step: self._score(step) for step in self.steps}
        return {step: score for step, score in scores.items() if score is not None}

    def _score(self, step: int) -> Score | None:
        """How good a checkpoint is; None where that is not known, or cannot be read."""
        folder = self.folder / str(step)
        try:
            if (folder / LATER_SCORE).exists():
                return Score(**json.loads((folder / LATER_SCORE).read_text()))
            fields = json.loads((folder / "meta" / "metadata").read_text())
            metric = fields["config"]["evaluate"]["best_metric"]
            if fields["format"] == 1 and (folder / "metrics").exists():
                fields = json.loads((folder / "metrics" / "metrics").read_text())
            mean_ap = fields.get("mAP")
            return None if mean_ap is None else Score(mean_ap, metric)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _find_damage(self, step: int) -> str | None:
        """What is wrong with a checkpoint, None if nothing; looked for once."""
        if step not in self._damage:
            folder = self.folder / str(step)
            self._damage[step] = None if _is_format_1(folder) else find_damage(folder)
        return self._damage[step]

    def _is_whole(self, step: int) -> bool:
        damage = self._find_damage(step)
        if damage and processes.is_first():
            logger.warning("%s is damaged, stepped over: %s", self.folder / str(step), damage)
        return damage is None

    def _set_aside(self) -> None:
        """Takes away the names of damaged checkpoints that are newer than the newest whole one."""
        if not processes.is_first():
            return
        latest = self.latest
        for step in self.steps:
            if latest is None or step > latest:
                aside = self.folder / f"{step}.damaged"
                shutil.rmtree(aside, ignore_errors=True)
                (self.folder / str(step)).rename(aside)


class _Manager(ocp.CheckpointManager):
    """Orbax's manager, but for a question that is the run's own."""

    def reached_preemption(self, step: int) -> bool:
        """No: `Interruption` asks, by numbers of its own.

        JAX lets all processes stop at the number after the last one that was asked by. Were it
        orbax's step, the run would never come to it, and train on until it is killed.
        """
        return False


class _Best:
    """Orbax's policy that keeps the checkpoint of the highest mean AP."""

    def __init__(self, scores: dict[int, Score]):
        self._scores = scores

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Whether each is kept."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        known = comparable({step: self._scores[step] for step in steps if step in self._scores})
        scores = [known.get(step, -math.inf) for step in steps]
        return [score == max(scores) > -math.inf for score in scores]


def _is_format_1(folder: Path) -> bool:
    """Whether an older version wrote a checkpoint, without a list of its files."""
    meta = folder / "meta" / "metadata"
    return not (folder / NAME).exists() and meta.exists() and b'"format": 1,' in meta.read_bytes()


def newest_whole(workdir: Path) -> tuple[int, Meta | None]:
    """The step of a run's newest whole checkpoint and what it says; 0 and None if there is none.

    Raises:
      OSError: the processes do not see the same ones.
    """
    try:
        checkpoints = Checkpoints(workdir)
    except FileNotFoundError:
        checkpoints = None
    latest = checkpoints.latest if checkpoints else None
    seen = processes.gather(latest)
    if len(set(seen)) > 1:
        raise OSError(
            f"the newest whole checkpoint in {workdir} is of step {seen[0]} for process 0, of the "
            f"others {', '.join(map(str, seen[1:]))}: start again when all see the same files"
        )
    if checkpoints is None or latest is None:
        return 0, None
    meta = checkpoints.meta(latest)
    # By one score all of them know alike whether this step is still to be evaluated.
    return latest, dataclasses.replace(meta, mean_ap=processes.share(meta.mean_ap))


def _abstract(tree: Any) -> Any:
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None)),
        tree,
    )
