"""A run that is stopped where it hurts."""

import io
import json
import os
import signal
import sys

import jax
import pytest
from rich.console import Console

from ssd_jax.training import loop
from ssd_jax.training.checkpoints import Checkpoints
from tests.small import small_config

pytestmark = pytest.mark.usefixtures("loose_dtypes")


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_stops_a_run_leaves_the_old_one_that_it_was_to_overwrite(
    tmp_path, shapes_folder, monkeypatch
):
    config = small_config(shapes_folder)
    config.model.size, config.model.width = 64, 1 / 32
    config.train.steps, config.train.eval_every = 2, 2
    console = Console(file=io.StringIO(), width=200)
    loop.train(config, tmp_path, console=console, devices=jax.devices()[:1])
    before = contents(tmp_path)
    assert any(path.is_relative_to(tmp_path / "checkpoints" / "2") for path in before)

    monkeypatch.setitem(sys.modules, "wandb", None)  # not installed
    for field, value, message in (
        ("data.cache", "disk", "data.cache is 'disk'"),
        ("train.wandb", "cats", "pip install wandb"),
        ("matching.bipartite", "gredy", "config.matching.bipartite is 'gredy'"),
        ("matching.threshold", 0.0, "config.matching.threshold is 0.0"),
        ("optimizer.frozen_statistics", ("bakbone/*",), "'bakbone/.*fits none of the names"),
    ):
        wrong = config.copy_and_resolve_references()
        wrong.update_from_flattened_dict({field: value})
        with pytest.raises(ValueError, match=message):
            loop.train(wrong, tmp_path, overwrite=True, console=console, devices=jax.devices()[:1])
        assert contents(tmp_path) == before


def test_an_evaluation_that_was_stopped_is_made_when_the_run_goes_on(
    tmp_path, shapes_folder, monkeypatch
):
    config = small_config(shapes_folder)
    config.model.size, config.model.width = 64, 1 / 32
    config.train.steps, config.train.eval_every = 2, 2

    def go_on() -> str:
        console = Console(file=io.StringIO(), width=200)
        evaluations.append(loop.train(config, tmp_path, console=console, devices=jax.devices()[:1]))
        return console.file.getvalue()

    def stopped(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return detect(*arguments)

    evaluations, detect = [], loop.detect
    with monkeypatch.context() as patched:
        patched.setattr(loop, "detect", stopped)
        assert "stopped by SIGTERM: step 2 of 2 is saved" in go_on()
    assert evaluations == [None]
    assert Checkpoints(tmp_path).meta(2).mean_ap is None

    printed = go_on()
    assert "going on from step 2 of 2" in printed
    assert f"step 2  mAP {evaluations[1].mean:.4f} on train[:32]" in printed
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last == {"step": 2, "mAP": evaluations[1].mean}
    assert Checkpoints(tmp_path).meta(2).mean_ap == evaluations[1].mean
    assert Checkpoints(tmp_path).best == 2
