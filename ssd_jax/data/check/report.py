"""What a check found, as tables and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ssd_jax.data.check.problem import LEVELS, Problem, by_file, count_levels
from ssd_jax.data.check.summary import (
    POOR_RECALL,
    PriorFit,
    bucket_counts,
    bucket_names,
    class_counts,
)
from ssd_jax.data.objects import Objects
from ssd_jax.priors import PriorSpec

_FILES_SHOWN = 40
_COLORS = {"error": "red", "warning": "yellow", "note": "dim"}


@dataclass(frozen=True)
class Split:
    """A split's name, its number of images, and their objects."""

    name: str
    objects: Objects

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.objects.starts) - 1


def print_splits(console: Console, splits: Sequence[Split]) -> None:
    """Images, objects, objects an image, difficult ones and crowds of each split."""
    table = Table(title="splits, and objects an image")
    table.add_column("split", overflow="fold")
    for column in ("images", "objects", "mean", "median", "most", "none", "difficult", "crowd"):
        table.add_column(column, justify="right", no_wrap=True)
    for split in splits:
        counts = split.objects.count(~split.objects.crowd)
        per_image = (
            [f"{counts.mean():.1f}", f"{np.median(counts):g}", f"{counts.max()}"]
            if len(counts)
            else ["", "", ""]
        )
        table.add_row(
            escape(split.name),
            f"{split.images:,}",
            f"{counts.sum():,}",
            *per_image,
            f"{int(np.sum(counts == 0)):,}",
            f"{int(split.objects.difficult.sum()):,}",
            f"{int(split.objects.crowd.sum()):,}",
        )
    console.print(table)


def print_classes(console: Console, splits: Sequence[Split], class_names: Sequence[str]) -> None:
    """Objects of each class in each split, with their share of it."""
    table = Table(title="objects by class")
    table.add_column("class")
    counts = [class_counts(split.objects, len(class_names)) for split in splits]
    for split in splits:
        table.add_column(escape(split.name), justify="right")
        table.add_column("%", justify="right")
    for k, name in enumerate(class_names):
        cells = []
        for of_split in counts:
            cells += [f"{of_split[k]:,}", f"{100 * of_split[k] / max(1, of_split.sum()):.1f}"]
        table.add_row(escape(name), *cells, style="red" if not all(c[k] for c in counts) else "")
    console.print(table)


def print_sizes(console: Console, splits: Sequence[Split], spec: PriorSpec) -> None:
    """Objects of each size bucket in each split."""
    table = Table(title="objects by size: root of the area, pixels of the network's input")
    table.add_column("pixels")
    for split in splits:
        table.add_column(escape(split.name), justify="right")
        table.add_column("%", justify="right")
    counts = [bucket_counts(split.objects) for split in splits]
    for i, name in enumerate(bucket_names(spec)):
        cells = []
        for of_split in counts:
            cells += [f"{of_split[i]:,}", f"{100 * of_split[i] / max(1, of_split.sum()):.1f}"]
        table.add_row(name, *cells)
    console.print(table)


def print_fit(
    console: Console, title: str, fit: PriorFit, class_names: Sequence[str], spec: PriorSpec
) -> None:
    """The recall by class and size."""
    table = Table(title=escape(title))
    table.add_column("class")
    for name in (*bucket_names(spec), "all"):
        table.add_column(name, justify="right")
    for name, shares in zip((*class_names, "all"), fit.recall, strict=True):
        table.add_row(escape(name), *(_share(share) for share in shares))
    console.print(table)


def _share(share: float) -> str:
    if np.isnan(share):
        return ""
    color = "red" if share < POOR_RECALL - 0.15 else "yellow" if share < POOR_RECALL else "green"
    return f"[{color}]{share:.3f}[/{color}]"


def print_problems(console: Console, problems: Sequence[Problem]) -> None:
    """Counts of each kind, and the errors and warnings by file, as many as fit a screen or two."""
    counts: dict[tuple[str, str], int] = {}
    for problem in problems:
        counts[problem.level, problem.kind] = counts.get((problem.level, problem.kind), 0) + 1
    if counts:
        table = Table(title="problems")
        for column in ("", "kind"):
            table.add_column(column)
        table.add_column("count", justify="right")
        for (level, kind), count in sorted(counts.items(), key=lambda c: LEVELS.index(c[0][0])):
            table.add_row(f"[{_COLORS[level]}]{level}[/]", kind, f"{count:,}")
        console.print(table)
    files = by_file(problem for problem in problems if problem.level != "note")
    for (split, file), of_file in list(files.items())[:_FILES_SHOWN]:
        console.print(f"{escape(file)} ({escape(split)})", highlight=False)
        for problem in of_file:
            color = _COLORS[problem.level]
            console.print(
                f"  [{color}]{problem.level}[/]: {problem.kind}: {escape(problem.text)}",
                highlight=False,
            )
    if len(files) > _FILES_SHOWN:
        console.print(f"... and {len(files) - _FILES_SHOWN} more files")


def verdict(problems: Sequence[Problem]) -> str:
    """'2 errors, 1 warning, 0 notes'."""
    counts = count_levels(problems)
    return ", ".join(f"{n:,} {level}{'' if n == 1 else 's'}" for level, n in counts.items())
