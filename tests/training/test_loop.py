"""A run that is stopped where it hurts."""

import io
import json
import os
import signal

import jax
import pytest
from rich.console import Console

from ssd_jax.training import loop
from ssd_jax.training.checkpoints import Checkpoints
from tests.small import small_config

pytestmark = pytest.mark.usefixtures("loose_dtypes")


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
        return evaluate(*arguments)

    evaluations, evaluate = [], loop.evaluate
    with monkeypatch.context() as patched:
        patched.setattr(loop, "evaluate", stopped)
        assert "stopped by SIGTERM: step 2 of 2 is saved" in go_on()
    assert evaluations == [None]
    assert Checkpoints(tmp_path).meta(2).mean_ap is None

    printed = go_on()
    assert "going on from step 2 of 2" in printed
    assert f"step 2  mAP {evaluations[1].mean:.4f} on train[:32]" in printed
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last == {"step": 2, "mAP": evaluations[1].mean}
