"""What can be wrong with a dataset, and how bad it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LEVELS = ("error", "warning", "note")

# An error stops a run or spoils its result; a warning is something that training gets round by
# itself, at a price.
KINDS = {
    "no list": "error",
    "broken list": "error",
    "empty split": "error",
    "no class": "error",
    "listed twice": "error",
    "no image": "error",
    "undecodable image": "error",
    "no annotation": "error",
    "broken annotation": "error",
    "unknown class": "error",
    "classes differ": "error",
    "nothing to fit": "error",
    "size differs": "error",
    "image in two splits": "error",
    "image twice in a split": "warning",
    "box inverted": "warning",
    "box without area": "warning",
    "box outside": "warning",
    "skipped image": "warning",
    "no objects": "note",
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
      split: Where it was met.
      file: The file to mend.
      kind: One of KINDS.
      text: What was met, and what to do where that is not plain.
    """

    split: str
    file: str
    kind: str
    text: str

    @property
    def level(self) -> str:
        """'error', 'warning' or 'note'."""
        return KINDS[self.kind]


def count_levels(problems: Iterable[Problem]) -> dict[str, int]:
    """How many problems there are of each level."""
    counts = dict.fromkeys(LEVELS, 0)
    for problem in problems:
        counts[problem.level] += 1
    return counts


def by_file(problems: Iterable[Problem]) -> dict[tuple[str, str], list[Problem]]:
    """Problems by (split, file), files with errors first, in the order they were met."""
    files: dict[tuple[str, str], list[Problem]] = {}
    for problem in sorted(problems, key=lambda problem: LEVELS.index(problem.level)):
        files.setdefault((problem.split, problem.file), []).append(problem)
    return files


def to_text(problems: Iterable[Problem]) -> str:
    """All problems, one a line, grouped by file."""
    lines = []
    for (split, file), of_file in by_file(problems).items():
        lines.append(f"{file} ({split})")
        lines += [f"  {problem.level}: {problem.kind}: {problem.text}" for problem in of_file]
    return "".join(f"{line}\n" for line in lines)
