"""Broken data through the command line: one line that names the file, and an exit code."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pytest
from rich.console import Console

from ssd_jax import cli
from ssd_jax.sharding import make_mesh, shardings
from ssd_jax.training.inputs import load_batches, load_splits
from tests.data import make

ROOT = Path(__file__).parents[2]
DOG = make.xml_object("dog", (8, 6, 40, 30))
BOMB = (
    '<!DOCTYPE a [<!ENTITY x "lol"><!ENTITY y "&x;&x;&x;&x;">]>'
    "<annotation><object><name>&y;</name></object></annotation>"
)
SMALL = {
    "data.canvas": 100,
    "model.size": 96,
    "model.width": 0.03125,
    "train.batch_size": 2,
    "train.steps": 2,
}


def break_xml(root: Path) -> None:
    (root / "Annotations/b.xml").write_text("<annotation><object>")


def bomb(root: Path) -> None:
    (root / "Annotations/b.xml").write_text(BOMB)


def name_another_class(root: Path) -> None:
    emu = make.xml_object("emu", (1, 1, 9, 9))
    (root / "Annotations/b.xml").write_text(make.xml((60, 80), [emu]))


def cut_image(root: Path) -> None:
    path = root / "JPEGImages/b.jpg"
    path.write_bytes(path.read_bytes()[:-40])


def empty_split(root: Path) -> None:
    (root / "ImageSets/Main/train.txt").write_text("")


def mismatched_ids(root: Path) -> None:
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": [{"id": 5, "image_id": 77, "category_id": 1, "bbox": [0, 0, 9, 9]}],
    }
    (root / "all.json").write_text(json.dumps(content))


CASES: dict[str, tuple[Callable[[Path], None], str, dict[str, Any], str]] = {
    "broken XML": (break_xml, "custom_voc", {}, "b.xml: broken XML"),
    "XML bomb": (bomb, "custom_voc", {}, "b.xml: declares XML entities"),
    "unknown class": (
        name_another_class,
        "custom_voc",
        {"data.class_names": ("dog",)},
        "b.xml: unknown class 'emu'",
    ),
    "image cut short": (cut_image, "custom_voc", {}, "'b.jpg of"),
    "empty split": (empty_split, "custom_voc", {}, "split 'train' of"),
    "ids that do not match": (
        mismatched_ids,
        "custom_coco",
        {"data.annotations": "all.json"},
        "all.json: annotation 5 has image_id 77",
    ),
}


def spoiled(case: str, folder: Path) -> tuple[Path, str, dict[str, Any]]:
    """A dataset with the fault of a case; its folder, recipe and the fields to set."""
    spoil, recipe, fields, _ = CASES[case]
    root = make.voc_folder(
        folder / "data", {"a": [DOG], "b": [DOG]}, {"train": ["a", "b"], "test": ["a"]}
    )
    spoil(root)
    return root, recipe, {"data.root": str(root), **SMALL, **fields}


@pytest.mark.parametrize("case", CASES)
def test_a_fault_stops_a_run_before_its_first_step(case: str, tmp_path: Path):
    """As `train` begins: opens the splits and asks for the first batch."""
    root, recipe, fields = spoiled(case, tmp_path)
    config = importlib.import_module(f"configs.{recipe}").get_config()
    config.update_from_flattened_dict(fields)
    with pytest.raises(cli.USER_FAULTS) as caught:
        train_data, _ = load_splits(config)
        _, rows = shardings(make_mesh(jax.devices()[:1]))
        next(load_batches(config, train_data, 0, rows, Console(quiet=True)))
    message = str(caught.value)
    assert "\n" not in message and CASES[case][-1] in message and str(root) in message


@pytest.mark.parametrize("case", ["XML bomb", "unknown class"])
def test_a_fault_is_one_line_and_an_exit_code(case: str, tmp_path: Path):
    root, recipe, fields = spoiled(case, tmp_path)
    options = [f"--config.{name}={value}" for name, value in fields.items()]
    config = f"--config=configs/{recipe}.py"
    done = subprocess.run(
        [sys.executable, "train.py", config, *options, f"--workdir={tmp_path}/run"],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ") and CASES[case][-1] in line and str(root) in line
