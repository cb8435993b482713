"""Looks a dataset over before a run.

    python -m ssd_jax.data.check --config configs/voc300.py
    python -m ssd_jax.data.check --config configs/custom_voc.py --config.data.root=DIR --out report

Prints tables, and writes a picture and all problems by file to --out. The exit code is 1 if there
are errors: what would stop a run or spoil its result.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags
from rich.console import Console

from ssd_jax import cli
from ssd_jax.console import progress_bar
from ssd_jax.data.check import report
from ssd_jax.data.check.boxes import check_boxes
from ssd_jax.data.check.images import (
    Inspection,
    copies,
    glance_at_images,
    image_problems,
    inspect_images,
)
from ssd_jax.data.check.listing import Entry, Listing, list_split
from ssd_jax.data.check.picture import draw
from ssd_jax.data.check.problem import Problem, to_text
from ssd_jax.data.check.report import Split
from ssd_jax.data.check.summary import PriorFit, fit_priors, forebodings
from ssd_jax.data.objects import Objects
from ssd_jax.data.policies import Policies, plan_objects
from ssd_jax.prior_fit import best_overlaps, propose
from ssd_jax.priors import PriorSpec
from ssd_jax.recipe import build_priors, prior_flags
from ssd_jax.training.fitted_priors import with_fitted_priors
from ssd_jax.visualize import write_image

CONFIG = cli.define_config()
OUT = flags.DEFINE_string("out", None, "Folder of the picture and the problems [runs/check/NAME].")
QUICK = flags.DEFINE_bool("quick", False, "Read the annotations only, decode no image.")

PICTURE, PROBLEMS = "check.png", "problems.txt"
_EXAMPLES = 8


def main(arguments: Sequence[str]) -> None:
    """Checks by the flags."""
    if arguments:
        raise ValueError(f"unexpected {' '.join(arguments)}: options start with --")
    config = cli.required_config(CONFIG)
    name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    out = Path(OUT.value or f"runs/check/{name}")
    console = Console(soft_wrap=True)
    problems = check(config, out, console, quick=QUICK.value)
    sys.exit(1 if any(problem.level == "error" for problem in problems) else 0)


def check(config: ConfigDict, out: Path, console: Console, *, quick: bool) -> list[Problem]:
    """Checks a recipe's training and evaluation split; prints, and writes to `out`.

    Args:
      config: A whole config; `data`, `priors` and `model.size` count.
      out: Folder of check.png and problems.txt.
      console: Where the tables go.
      quick: Decode nothing: sizes are believed, copies not looked for.

    Returns:
      All problems.

    Raises:
      FileNotFoundError, ValueError: As of `list_split`; or the recipe's priors cannot be.
      OSError: Files cannot be written to `out`.
    """
    build_priors(config)  # what the recipe gets wrong, before anything is read
    cli.make_folder(out)
    listings = [list_split(config.data, split) for split in _split_names(config)]
    inspections = _inspect(config, listings, console, quick)
    class_names = _class_names(listings)
    problems: list[Problem] = []
    splits = []
    for listing, of_split in zip(listings, inspections, strict=True):
        odd, objects = check_boxes(listing, of_split, class_names)
        problems += [*listing.problems, *image_problems(listing, of_split), *odd]
        splits.append(Split(listing.split, objects))
    problems += [*_empty(listings), *copies(listings, inspections), *_other_classes(listings)]

    report.print_splits(console, splits)
    report.print_classes(console, splits, class_names)
    spec, unfit = _trained_priors(config, listings[0], splits[0].objects, console)
    problems += unfit
    report.print_sizes(console, splits, spec)
    fits = _fits(console, splits, class_names, spec)
    report.print_problems(console, problems)
    _print_consequences(config, console, splits, class_names, spec)

    examples = _examples(listings[0], problems, splits[0].objects, spec)
    write_image(out / PICTURE, draw(splits, class_names, spec, fits, examples))
    text = to_text(problems)
    (out / PROBLEMS).write_text(text, encoding="utf-8", errors="backslashreplace")
    console.print(
        f"{report.verdict(problems)}; {PICTURE} and {PROBLEMS} are in {out}", markup=False
    )
    return problems


def _split_names(config: ConfigDict) -> list[str]:
    """The recipe's splits, the same one not twice."""
    return list(dict.fromkeys([config.data.train, config.data.eval]))


def _inspect(
    config: ConfigDict, listings: Sequence[Listing], console: Console, quick: bool
) -> list[list[Inspection]]:
    if quick:
        return [glance_at_images(listing) for listing in listings]
    skips = Policies.from_settings(config.data).undecodable == "skip"
    with progress_bar(console) as bar:
        total = sum(len(listing.entries) for listing in listings)
        task = bar.add_task("decoding every image", total=total)
        return [
            inspect_images(listing, skips_undecodable=skips, progress=lambda: bar.advance(task))
            for listing in listings
        ]


def _class_names(listings: Sequence[Listing]) -> tuple[str, ...]:
    """The classes of the training split, then those that only others have."""
    return tuple(dict.fromkeys(name for listing in listings for name in listing.class_names))


def _empty(listings: Sequence[Listing]) -> list[Problem]:
    """Splits without images, and a training split that names no class at all."""
    problems = []
    for listing in listings:
        if not listing.entries and not listing.problems:
            text = "it lists no image: choose another split"
            problems.append(Problem(listing.split, listing.path, "empty split", text))
    if not listings[0].class_names:
        text = "no annotation names a class, so that there is nothing to train"
        problems.append(Problem(listings[0].split, listings[0].path, "no class", text))
    return problems


def _other_classes(listings: Sequence[Listing]) -> list[Problem]:
    """Splits whose classes are not those of the training split, in its order."""
    train, *others = listings
    return [
        Problem(
            other.split,
            other.path,
            "classes differ",
            f"{', '.join(other.class_names)}; those of {train.split} are "
            f"{', '.join(train.class_names)}",
        )
        for other in others
        if other.class_names != train.class_names
    ]


def _trained_priors(
    config: ConfigDict, train: Listing, objects: Objects, console: Console
) -> tuple[PriorSpec, list[Problem]]:
    """The priors that a run would have; and a problem, if they are to be fitted and cannot be."""
    try:
        config = with_fitted_priors(config, objects, None, console)
    except ValueError as error:
        problem = Problem(train.split, train.path, "nothing to fit", str(error))
        return build_priors(config), [problem]
    return build_priors(config), []


def _fits(
    console: Console, splits: Sequence[Split], class_names: Sequence[str], spec: PriorSpec
) -> list[tuple[str, PriorSpec, PriorFit]]:
    """Prints how the priors fit the training split, and others if that is poor and they are better.

    Returns:
      (name, priors, fit) of the recipe's, and of those proposed.
    """
    train = splits[0].objects
    boxes = train.boxes[~train.crowd]
    if len(boxes) == 0:
        return []
    fit = fit_priors(train, len(class_names), spec)
    fits = [("priors", spec, fit)]
    title = "share of objects with a prior of IoU .5, by class and size in pixels"
    report.print_fit(console, f"{title}: {splits[0].name}", fit, class_names, spec)
    if not fit.is_poor:
        console.print(f"the priors fit: {fit.overall:.3f} of the objects have one of IoU .5")
        return fits
    better = propose(boxes, spec)
    better_fit = fit_priors(train, len(class_names), better)
    if better_fit.overall < fit.overall + 0.01:
        console.print("the priors fit poorly, and a search over sizes and ratios found no better")
        return fits
    report.print_fit(console, "the same with the priors below", better_fit, class_names, spec)
    before, after = (
        ", ".join(
            f"{_recall(split.objects, priors):.3f} of {split.name}"
            for split in splits
            if not split.objects.crowd.all()  # of no object there is no share
        )
        for priors in (spec, better)
    )
    found = f"the priors fit poorly: {before}. As many priors fit {after} with"
    console.print(f"{found}\n{prior_flags(better)}", markup=False, highlight=False)
    return [*fits, ("proposed", better, better_fit)]


def _recall(objects: Objects, spec: PriorSpec) -> float:
    return float(np.mean(best_overlaps(objects.boxes[~objects.crowd], spec) >= 0.5))


def _print_consequences(
    config: ConfigDict,
    console: Console,
    splits: Sequence[Split],
    class_names: Sequence[str],
    spec: PriorSpec,
) -> None:
    """What the policies will do, and what a run will suffer from."""
    train = splits[0].objects
    planned = plan_objects(train, Policies.from_settings(config.data), config.data.slots)
    for line in planned.lines:
        console.print(f"policy: {line}", highlight=False, markup=False)
    for line in forebodings(train, splits[-1].objects, class_names, spec):
        console.print(f"warning: {line}", highlight=False, markup=False)


def _examples(
    listing: Listing, problems: Sequence[Problem], objects: Objects, spec: PriorSpec
) -> list[Entry]:
    """Images to look at: those with problems of the images or boxes, then the worst fitted ones."""
    odd = {problem.file for problem in problems if problem.level != "note"}
    worst = np.ones(len(listing.entries))
    if len(objects.boxes):
        rows = np.repeat(np.arange(len(listing.entries)), np.diff(objects.starts))
        np.minimum.at(worst, rows, best_overlaps(objects.boxes, spec))
    is_odd = [bool(odd & {entry.file, entry.annotation}) for entry in listing.entries]
    order = np.lexsort((worst, np.logical_not(is_odd)))
    return [listing.entries[row] for row in order[:_EXAMPLES]]


if __name__ == "__main__":
    cli.run(main)
