"""Writes docs/recipes.md, in what the recipes differ: `python -m ssd_jax.recipes_table`."""

import importlib.util
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from ssd_jax import cli, schedules
from ssd_jax import config as config_lib
from ssd_jax.schedules import with_schedule

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "recipes.md"

ORIGINAL = ("voc300", "voc512", "coco300", "coco512")
PROGRAMS = ("recipes/ssd_pytorch", "recipes/torchvision", "recipes/mmdetection")
LATER = ("voc300_plus", "voc512_plus")
OWN = ("custom_voc", "recipes/finetune")

HEAD = """\
# Recipes, and in what they differ

Written by `python -m ssd_jax.recipes_table` from the files of [`configs/`](../configs), each of
which says where its values are from. Fields are explained in
[`ssd_jax/config.py`](../ssd_jax/config.py); those that no table shows are the same in all its
recipes. A run that goes on says which of them are others than it began with, or refuses.
"""

THE_ORIGINAL = """\
The original's recipe line by line, but for the warm-up (it has none: `optimizer.warmup_steps=0`)
and for what no field says, which is the same in all four. `voc512` and `coco512` have the prior
sizes of the paper, which the original rounds down to whole pixels.
"""

SOONER = """\
## Sooner: `schedule=fast`

    python train.py --config configs/voc300.py --config.schedule=fast

It is for `voc300` and `voc512`; a field that the command line gives besides stays as it is given.
"""

FEW_IMAGES = """\
## Few images of one's own: `recipes/finetune`

    python train.py --config configs/recipes/finetune.py --config.data.root=DIR \\
        --config.init=RUN_OR_FILE

teaches a detector that there is already other classes, from images in VOC's layout. RUN_OR_FILE is
the folder of a run, of which it takes the newest checkpoint, one of `python -m ssd_jax.weights`, or
another program's file ([weights.md](weights.md)); the network's size, width, batch norm and priors
have to be the old one's (of a run of `custom_voc` or `shapes`: `--config.model.batch_norm=True`).
[The recipe](../configs/recipes/finetune.py) says why each of its choices is made, and has a command
to try it by; what came of that is in [results.md](results.md). Beside the recipe for one's own
images from random weights:
"""

HOW_WE_KNOW = """\
## How do we know

No recipe was trained at full size to its end yet. What stands in for that: each part, given the
same weights, images and boxes, does what the original or another program does, written out
literally in [`tests/reference`](../tests/reference). What is asserted, by

    python -m pytest tests/parity tests/test_augment.py tests/test_crops.py \\
        tests/weights/test_parity.py

- **Training** against an SSD in PyTorch with its own network, matching, mining, loss, gradient and
  SGD (`train_torch.py`). Five steps of SSD300 at full width, one image each: both terms of every
  step's loss to .1%, and each array of weights to 5% of the way it moved, which is rounding (in
  double precision, done once by hand, 3.5e-8). Five steps with batch norm in double precision, a
  sixteenth of the width, three images each: losses to .1%, weights and running statistics to 1% of
  their way. A step of SSD512, a quarter of the width: the same .1% and 1%. Pictures have the
  network's size, nothing is random, there is no warm-up, and the five steps are at a tenth of the
  recipe's rate: at its own, from random weights, rounding grows a hundredfold a step.
- **Augmentation**, given the numbers that are drawn, against OpenCV (`augment.py`): geometry to .03
  of 255 levels, with cubic and Lanczos kernels but for pixels that reach over the picture's edge,
  colours to .005. As it draws them: which objects stay, their boxes, and what becomes of five
  colours, in 20,000 draws here and 3000 literal ones, are of one distribution by Kolmogorov-Smirnov
  and chi-squared tests, at one in a thousand for all of them together. The crops of the three
  programs above are compared the same way (`peers_augment.py`).
- **Detection** with random weights in the files' form of Caffe, ssd.pytorch, lufficc/SSD,
  torchvision and mmdetection: the networks' outputs to .01% of their length, and of the largest of
  them; as many detections as the program's, scores to .0001, boxes to .002 of the picture's side.

What needs PyTorch (`pip install torch`), the first and the last, is skipped without it.
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
    modules = {name: _load(name) for name in (*ORIGINAL, *PROGRAMS, *LATER, *OWN)}
    configs = {name: module.get_config() for name, module in modules.items()}
    fast = configs["voc300"].copy_and_resolve_references()
    fast.schedule = "fast"
    parts = [
        HEAD,
        "## The original\n",
        THE_ORIGINAL,
        table({name: configs[name] for name in ORIGINAL}),
        _section(ORIGINAL[0], modules[ORIGINAL[0]]),
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
        SOONER,
        _after_first_line(schedules),
        FEW_IMAGES,
        table({name: configs[name] for name in OWN}),
        HOW_WE_KNOW,
    ]
    return "\n".join(parts)


def table(configs: Mapping[str, ConfigDict]) -> str:
    """A table of the fields in which configs differ: a row a field, a column a config."""
    flat = {name: dict(config_lib.flatten(config)) for name, config in configs.items()}
    for values in flat.values():
        if values["optimizer.schedule"] != "step":
            values["optimizer.boundaries"] = "-"  # not looked at
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


def _after_first_line(module: ModuleType) -> str:
    """A module's docstring without the line that names it."""
    _, _, rest = inspect.cleandoc(module.__doc__ or "").partition("\n\n")
    return f"{rest}\n"


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
