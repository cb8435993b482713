"""Runs that diverge, that are stopped, killed or begun anew."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from ssd_jax.detector import load_checkpoint
from ssd_jax.training.loop import train
from tests.programs import ROOT, quiet, run
from tests.small import small_config

pytestmark = pytest.mark.usefixtures("compiled_in_haste", "loose_dtypes")


def test_a_diverging_run_stops_and_names_the_step(tmp_path, shapes_folder):
    config = small_config(shapes_folder)
    config.model.batch_norm = False
    config.optimizer.rate = 1e6
    config.train.log_every = 2
    with pytest.raises(FloatingPointError, match=r"step \d+ is not finite: .*optimizer\.rate"):
        train(config, tmp_path, console=quiet(), devices=jax.devices()[:1])


def test_batches_that_do_not_divide_over_the_devices_are_refused(tmp_path, shapes_folder):
    config = small_config(shapes_folder)
    config.train.batch_size = 12
    with pytest.raises(ValueError, match=r"train\.batch_size is 12, not a multiple of the 8"):
        train(config, tmp_path, console=quiet())


def parameters(workdir: Path) -> list[np.ndarray]:
    variables, _, _ = load_checkpoint(workdir)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(variables)]


def test_a_stopped_and_a_killed_run_ends_with_the_same_parameters_bit_for_bit(
    tmp_path, shapes_folder
):
    arguments = [
        *("train.py", "--config", "configs/shapes.py"),
        *("--config.data.kind=shapes/small", f"--config.data.data_dir={shapes_folder}"),
        *("--config.data.train=train", "--config.data.eval=test[:8]"),
        *("--config.train.batch_size=8", "--config.train.steps=12", "--config.train.log_every=1"),
        *("--config.train.checkpoint_every=2", "--config.train.eval_every=6"),
    ]
    run(*arguments, "--workdir", str(tmp_path / "whole"))

    workdir = tmp_path / "killed"
    for target, number, code in ((3, signal.SIGTERM, 143), (8, signal.SIGKILL, -signal.SIGKILL)):
        environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
        process = subprocess.Popen(
            [sys.executable, *arguments, "--workdir", str(workdir)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for_step(workdir / "metrics.jsonl", target, process)
        process.send_signal(number)
        assert process.wait() == code
    done = run(*arguments, "--workdir", str(workdir))
    assert "going on from step" in done.stdout
    for ours, expected in zip(parameters(workdir), parameters(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(ours, expected)


def wait_for_step(lines: Path, step: int, process: subprocess.Popen) -> None:
    for _ in range(3000):
        text = lines.read_text() if lines.exists() else ""
        if any(f'"step": {later},' in text for later in range(step, step + 4)):
            return
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.05)
    raise AssertionError(f"no step {step} in {lines}")


def test_overwrite_starts_anew(tmp_path, shapes_folder):
    config = small_config(shapes_folder)
    config.train.steps = 2
    config.train.batch_size = 8
    devices = jax.devices()[:1]
    train(config, tmp_path, console=quiet(), devices=devices)
    config.seed = 1
    with pytest.raises(ValueError, match=r"config\.seed is 1, but the run in this workdir has 0"):
        train(config, tmp_path, console=quiet(), devices=devices)
    console = quiet()
    train(config, tmp_path, overwrite=True, console=console, devices=devices)
    assert "going on" not in console.file.getvalue()
