"""A run that is stopped where it hurts."""

import io
import json
import os
import signal
import sys

import jax
import numpy as np
import pytest
from rich.console import Console

from ssd_jax.data import load_dataset
from ssd_jax.detector import load_checkpoint
from ssd_jax.recipe import build_model
from ssd_jax.training import loop
from ssd_jax.training.checkpoints import Checkpoints
from ssd_jax.training.optimizer import build_optimizer
from ssd_jax.training.setup import set_up
from ssd_jax.training.state import init_state
from tests.small import small_config

pytestmark = pytest.mark.usefixtures("compiled_in_haste", "loose_dtypes")


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

    def broken(*arguments):
        raise ValueError("an image that cannot be decoded")

    evaluations, detect = [], loop.detect
    with monkeypatch.context() as patched:
        patched.setattr(loop, "detect", broken)
        options = {"console": Console(quiet=True), "devices": jax.devices()[:1]}
        with pytest.raises(ValueError, match="an image that cannot"):
            loop.train(config, tmp_path / "broken", **options)
    assert Checkpoints(tmp_path / "broken").latest == 2  # the steps are not lost

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


def figures(workdir, name):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line[name] for line in lines if name in line}


def test_a_run_saves_evaluates_and_averages_as_often_as_the_config_says(
    tmp_path, shapes_folder, monkeypatch
):
    config = small_config(shapes_folder)
    config.model.size, config.model.width = 64, 1 / 32
    config.train.steps, config.train.checkpoint_every, config.train.eval_every = 8, 2, 4
    config.train.keep = 9
    config.ema.decay, config.seed = 0.9, 2**32 + 7
    options = {"console": Console(file=io.StringIO(), width=200), "devices": jax.devices()[:1]}
    evaluated = []

    def detect(config, predict, variables, *arguments):
        evaluated.append(jax.device_get(variables))
        return real_detect(config, predict, variables, *arguments)

    real_detect = loop.detect
    monkeypatch.setattr(loop, "detect", detect)
    loop.train(config, tmp_path / "whole", **options)
    whole = Checkpoints(tmp_path / "whole")
    assert whole.steps == [2, 4, 6, 8]
    scores = {step: whole.meta(step).mean_ap for step in whole.steps}
    assert scores == {2: None, 6: None, **figures(tmp_path / "whole", "mAP")}
    assert [step for step, score in scores.items() if score is not None] == [4, 8]

    # The average is what is evaluated, and what detects; what learns goes on beside it.
    model = build_model(config, whole.meta(8).class_names)
    like = init_state(model, build_optimizer(config), config.seed, average=True)
    last = whole.restore_state(8, like)
    assert len(evaluated) == 2
    for variables in (evaluated[1], load_checkpoint(tmp_path / "whole")[0]):
        jax.tree.map(np.testing.assert_array_equal, variables, last.average)
    assert all(
        not np.array_equal(average, learnt)
        for average, learnt in zip(
            jax.tree.leaves(last.average["params"]), jax.tree.leaves(last.params), strict=True
        )
    )

    # Stopped after the third step, and gone on with, it ends as the other.
    config.train.keep, config.train.keep_every = 1, 3
    config.train.checkpoint_every, config.train.eval_every = 1, 0

    def to_device(batch, rows):
        taken.append(batch)
        if len(taken) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return real_to_device(batch, rows)

    taken, real_to_device = [], loop.to_device
    monkeypatch.setattr(loop, "to_device", to_device)
    assert loop.train(config, tmp_path / "two", **options) is None
    assert Checkpoints(tmp_path / "two").steps == [3]
    loop.train(config, tmp_path / "two", **options)
    assert len(taken) == 8
    two = Checkpoints(tmp_path / "two")
    assert two.steps == [3, 6, 8]
    jax.tree.map(np.testing.assert_array_equal, two.restore_state(8, like), last)
    assert [*figures(tmp_path / "two", "mAP")] == [8]
    assert figures(tmp_path / "two", "loss") == figures(tmp_path / "whole", "loss")


def test_a_run_starts_from_the_weights_of_its_seed(tmp_path, shapes_folder):
    config = small_config(shapes_folder)
    config.model.size, config.model.width, config.seed = 64, 1 / 32, 5
    _, state = set_up(config, tmp_path, False, jax.devices()[:1], Console(quiet=True))
    names = load_dataset(config.data, config.data.train).class_names
    expected = init_state(build_model(config, names), build_optimizer(config), 5)
    jax.tree.map(np.testing.assert_array_equal, state.learning, expected.learning)
    assert int(state.seed) == 5
