"""Parameters by name: patterns of a config against the network's tree."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax


def name_of(path: tuple[Any, ...]) -> str:
    """A path of a tree of dictionaries as text: 'backbone/conv1_1/conv/kernel'."""
    return "/".join(str(entry.key) for entry in path)


def names(tree: Any) -> list[str]:
    """The names of all leaves."""
    return [name_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name fits one of some patterns; `*` stands for anything, also for '/'."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def check_patterns(field: str, patterns: Sequence[str], tree: Any) -> None:
    """Makes sure that each pattern means something.

    Raises:
      ValueError: it fits no leaf of the tree; the message names the config's field.
    """
    known = names(tree)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            layers = ", ".join(dict.fromkeys("/".join(name.split("/")[:2]) for name in known))
            raise ValueError(
                f"config.{field} has the pattern {pattern!r}, which fits none of the names; "
                f"they begin with {layers or 'nothing'}; `*` stands for anything"
            )
