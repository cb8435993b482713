"""Trainings of a recipe with each of some choices switched on, and what the choices are worth."""

import dataclasses
import importlib.util
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from rich.console import Console
from rich.markdown import Markdown
from scipy import stats

from ssd_jax import config as config_lib
from ssd_jax.console import one_line
from ssd_jax.evaluation import report
from ssd_jax.training.interruption import STOPPED
from ssd_jax.training.loop import train
from ssd_jax.training.setup import OF_THE_MACHINE

RECIPE = "the recipe"
RESULT, TABLE = "ablation.json", "table.md"
LEVEL = 0.95
# What may differ between the machines of an ablation, and when it goes on: no part of the recipe.
FREE = (
    *OF_THE_MACHINE,
    *("train.log_every", "train.pictures", "train.wandb"),
    *("train.checkpoint_every", "train.keep", "train.keep_every"),
    "seed",  # each run has its own
)

Choices = Mapping[str, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
      choice: its name.
      seed: the config's.
      mean_ap: by the recipe's own metric at the last step; None if the run diverged.
      seconds: of this process, from the run's start or its going on.
    """

    choice: str
    seed: int
    mean_ap: float | None
    seconds: float


def ablate(
    config: ConfigDict,
    choices: Choices,
    seeds: int,
    out: Path,
    console: Console,
    only: Sequence[str] = (),
) -> list[Run]:
    """Trains what is not trained yet; prints and writes the table.

    Several processes, on several machines too, can train parts of one ablation in one folder.

    Args:
      config: the recipe.
      choices: fields to set, by the choice's name.
      seeds: runs of the recipe and of each choice.
      out: folder of the runs and the results; of an earlier ablation of the same recipe or none.
      console: where progress goes.
      only: the choices to train now, `RECIPE` may be among them; all if empty.

    Returns:
      The runs of the recipe, these choices and seeds that are done.

    Raises:
      ValueError: `out` has runs of another recipe, begun or done, a choice sets what is no field,
        two choices would share a folder, or `only` names none.
    """
    variants = {RECIPE: config, **{name: _with(config, name, choices[name]) for name in choices}}
    unknown = sorted(set(only) - variants.keys())
    if unknown:
        raise ValueError(f"there is no choice {unknown[0]!r}, but {', '.join(map(repr, variants))}")
    _check_folders(out, variants)
    runs = _done(out, variants, seeds)  # before any training: it may be another recipe's
    names = [name for name in variants if not only or name in only]
    todo = [(seed, name) for seed in range(seeds) for name in names]
    for number, (seed, name) in enumerate(todo, start=1):
        if (name, seed) not in runs:
            console.print(f"run {number} of {len(todo)}: {name}, seed {seed}", style="bold")
            folder = _folder(out, name, seed)
            _write(folder, variants[name], None)  # what goes on later has to be of this recipe
            _write(folder, variants[name], _train(variants[name], name, seed, folder, console))
    done = [*_done(out, variants, seeds).values()]  # other processes' too
    console.print(Markdown(table(done)))
    report.write_files(out, {TABLE: table(done)})
    console.print(f"{TABLE} and the runs are in {out}, each with its {RESULT}")
    return done


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half the width of its 95% interval by Student's t; NaN for a single value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, math.nan
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return mean, error * float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1))


def table(runs: Sequence[Run]) -> str:
    """A row a choice: mean AP, and the difference from the recipe's run of the same seed."""
    lines = [
        "| choice | mAP | runs | less the recipe's | it helps |",
        "| --- | --- | --- | --- | --- |",
    ]
    of_choice: dict[str, dict[int, float | None]] = {}
    for run in runs:
        of_choice.setdefault(run.choice, {})[run.seed] = run.mean_ap
    recipe = of_choice.get(RECIPE, {})
    for name, by_seed in of_choice.items():
        reached = {seed: ap for seed, ap in by_seed.items() if ap is not None}
        diverged = len(by_seed) - len(reached)
        count = f"{len(by_seed)}" + (f", {diverged} diverged" if diverged else "")
        pairs = [
            ap - base for seed, ap in reached.items() if (base := recipe.get(seed)) is not None
        ]
        mean = _text(*interval(list(reached.values()))) if reached else "-"
        difference, verdict = "-", "-"
        if name != RECIPE and pairs:
            by, half = interval(pairs)
            difference = _text(by, half, sign=True)
            sure = not math.isnan(half) and abs(by) > half
            verdict = ("yes" if by > 0 else "no, it harms") if sure else "not sure"
        lines.append(f"| {name} | {mean} | {count} | {difference} | {verdict} |")
    return "\n".join(lines) + "\n"


def _text(mean: float, half: float, *, sign: bool = False) -> str:
    text = f"{mean:+.4f}" if sign else f"{mean:.4f}"
    return text if math.isnan(half) else f"{text} ± {half:.4f}"


def load_choices(path: Path) -> Choices:
    """The `CHOICES` of a Python file.

    Raises:
      ValueError: it has none.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--choices is {path}: there is no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    choices = getattr(module, "CHOICES", None)
    if not isinstance(choices, Mapping) or not choices:
        raise ValueError(f"{path} has no dictionary CHOICES: name -> fields -> values")
    return choices


def _with(config: ConfigDict, choice: str, fields: Mapping[str, Any]) -> ConfigDict:
    changed = config.copy_and_resolve_references()
    if "seed" in fields:
        raise ValueError(f"choice {choice!r} sets seed: --seeds says how many each is trained from")
    unknown = sorted(fields.keys() - dict(config_lib.flatten(config)).keys())
    if unknown or choice == RECIPE:
        raise ValueError(f"choice {choice!r} sets {unknown or 'the recipe'}: no field, or no name")
    try:
        changed.update_from_flattened_dict(dict(fields))
    except TypeError as fault:
        raise ValueError(f"choice {choice!r}: {one_line(fault)}") from None
    return changed


def _folder(out: Path, choice: str, seed: int) -> Path:
    return out / re.sub(r"\W+", "_", choice) / str(seed)


def _check_folders(out: Path, variants: Mapping[str, ConfigDict]) -> None:
    named: dict[Path, str] = {}
    for name in variants:
        folder = _folder(out, name, 0).parent
        if (other := named.setdefault(folder, name)) != name:
            raise ValueError(
                f"choices {other!r} and {name!r} would share the folder {folder}: rename one"
            )


def _train(config: ConfigDict, choice: str, seed: int, folder: Path, console: Console) -> Run:
    config = config.copy_and_resolve_references()
    config.seed = seed
    start = time.monotonic()
    try:
        evaluation = train(config, folder, console=console)
    except FloatingPointError as fault:
        # A choice that diverges is a result, and no reason to lose the others'.
        console.print(f"{choice}, seed {seed}: {one_line(fault)}", style="red")
        return Run(choice, seed, None, round(time.monotonic() - start, 1))
    if evaluation is None:  # a SIGTERM ended the run; the same command goes on with it
        raise SystemExit(STOPPED)
    return Run(choice, seed, evaluation.mean, round(time.monotonic() - start, 1))


def _done(out: Path, variants: Mapping[str, ConfigDict], seeds: int) -> dict[tuple[str, int], Run]:
    """The runs that are done, by variant and seed; a ValueError if one is of another recipe."""
    read = {
        (name, seed): _read(_folder(out, name, seed), config)
        for name, config in variants.items()
        for seed in range(seeds)
    }
    return {key: run for key, run in read.items() if run is not None}


def _read(folder: Path, config: ConfigDict) -> Run | None:
    """The run that is done, None if there is none; a ValueError if it is of another recipe.

    So it is if a run that was begun is.
    """
    path = folder / RESULT
    if not path.is_file():
        return None
    written = json.loads(path.read_text())
    before = config_lib.from_json(json.dumps(written["recipe"]))
    differing = {
        field: values
        for field, values in config_lib.differences(before, config).items()
        if field not in FREE
    }
    if differing:
        field, (was, now) = next(iter(differing.items()))
        raise ValueError(
            f"{path} is of a run with config.{field} {was!r}, now it is {now!r}: "
            f"give another --out, or remove {folder}"
        )
    return Run(**written["run"]) if written["run"] else None


def _write(folder: Path, config: ConfigDict, run: Run | None) -> None:
    recipe = json.loads(config_lib.to_json(config))
    done = dataclasses.asdict(run) if run else None
    report.write_json(folder / RESULT, {"run": done, "recipe": recipe})
