"""Writes docs/recipes.md, in what the recipes differ: `python -m ssd_jax.recipes_table`."""

import importlib.util
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from ssd_jax import cli
from ssd_jax import config as config_lib
from ssd_jax.schedules import with_schedule

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "recipes.md"

ORIGINAL = ("voc300", "voc512", "coco300", "coco512")
PROGRAMS = ("recipes/ssd_pytorch", "recipes/torchvision", "recipes/mmdetection")
LATER = ("voc300_plus", "voc512_plus")

HEAD = """\
# Recipes, and in what they differ

Written by `python -m ssd_jax.recipes_table` from the files of [`configs/`](../configs), each of
which says where its values are from. Fields are explained in
[`ssd_jax/config.py`](../ssd_jax/config.py); those that no table shows are the same in all its
recipes. A run that goes on says which of them are others than it began with, or refuses.
"""

UNLIKE_A_RECIPE = ("data.root", "data.archives", "data.voc_root", "data.data_dir")


def main(arguments: Sequence[str]) -> None:
    """Writes the page."""
    if arguments:
        raise ValueError(f"unexpected {' '.join(arguments)}: it takes nothing")
    PAGE.write_text(page())
    print(f"the recipes' differences are in {PAGE}")


def page() -> str:
    """The whole page."""
    modules = {name: _load(name) for name in (*ORIGINAL, *PROGRAMS, *LATER)}
    configs = {name: module.get_config() for name, module in modules.items()}
    fast = configs["voc300"].copy_and_resolve_references()
    fast.schedule = "fast"
    parts = [
        HEAD,
        "## The original\n",
        table({name: configs[name] for name in ORIGINAL}),
        "## Other programs' SSD300\n",
        "Next to the original recipe for the data that the program's own was published for.\n",
        table({name: configs[name] for name in ("voc300", PROGRAMS[0])}),
        table({name: configs[name] for name in ("coco300", *PROGRAMS[1:])}),
        *(_section(name, modules[name]) for name in PROGRAMS),
        "## What came later\n",
        table(
            {
                "voc300": configs["voc300"],
                "voc300, schedule=fast": with_schedule(fast),
                **{name: configs[name] for name in LATER},
            }
        ),
    ]
    return "\n".join(parts)


def table(configs: Mapping[str, ConfigDict]) -> str:
    """A table of the fields in which configs differ: a row a field, a column a config."""
    flat = {name: dict(config_lib.flatten(config)) for name, config in configs.items()}
    fields = [
        field
        for field in next(iter(flat.values()))
        if field not in UNLIKE_A_RECIPE
        and len({repr(values[field]) for values in flat.values()}) > 1
    ]
    lines = ["| | " + " | ".join(flat) + " |", "| --- |" + " --- |" * len(flat)]
    for field in fields:
        cells = [_cell(values[field]) for values in flat.values()]
        lines.append(f"| `{field}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(map(_cell, value)) or "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def _section(name: str, module: ModuleType) -> str:
    """What the recipe's docstring says about what no field says."""
    text = inspect.cleandoc(module.__doc__ or "")
    _, found, rest = text.partition("What no field says:")
    if not found:
        raise ValueError(f"configs/{name}.py: its docstring has no 'What no field says:'")
    return f"What no field says of `{name}`:{rest}\n"


def _load(name: str) -> ModuleType:
    """The module of a file of configs/, which is no package."""
    path = ROOT / "configs" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    cli.run(main)
