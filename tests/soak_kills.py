"""Kills a training at random moments, many times, and compares how it ends with one left alone.

    python -m tests.soak_kills --kills 30

Each start goes on where the last one was killed (SIGKILL, to its worker processes too): in its
start, in a step, in an evaluation or while a checkpoint is written, with another number of loader
workers each time. A run that reaches its end is compared, bit for bit, with the run that nobody
killed, and another one is begun until there were enough kills. Takes minutes; no part of the tests.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from ssd_jax.detector import load_checkpoint

ROOT = Path(__file__).parents[1]


def command(folder: Path, workdir: Path, steps: int, workers: int) -> list[str]:
    """A training of 96 pixels and width 1/8 on the embedded dataset, that saves all the time."""
    fields = {
        "data.kind": "shapes/small",
        "data.data_dir": str(folder / "tfds"),
        "data.eval": "test[:16]",
        "data.workers": workers,
        "model.size": 96,
        "priors.sizes": "()",
        "train.batch_size": 4,
        "train.steps": steps,
        "train.log_every": 1,
        "train.checkpoint_every": 3,
        "train.eval_every": 20,
    }
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    return [
        sys.executable,
        "train.py",
        "--config=configs/shapes.py",
        f"--workdir={workdir}",
        *flags,
    ]


def start(folder: Path, workdir: Path, steps: int, workers: int) -> subprocess.Popen:
    """Starts it in a group of processes of its own."""
    return subprocess.Popen(
        command(folder, workdir, steps, workers),
        cwd=ROOT,
        env={**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")},
        stdout=(folder / "out.txt").open("a"),
        stderr=(folder / "err.txt").open("w"),
        start_new_session=True,
    )


def kill_at_random(process: subprocess.Popen, workdir: Path, rng: random.Random) -> bool:
    """Kills a start, one in four before its first step; returns whether it still ran."""
    if rng.random() < 0.25:
        time.sleep(rng.uniform(0, 8))
    else:
        lines = workdir / "metrics.jsonl"
        before = lines.stat().st_mtime_ns if lines.exists() else 0
        began = False
        while process.poll() is None and not began:
            time.sleep(0.02)
            # Opening the log writes it too, so wait for what comes after.
            began = lines.exists() and lines.stat().st_mtime_ns > before + 10**6
        time.sleep(rng.uniform(0, 3))
    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return running


def parameters(workdir: Path) -> list[np.ndarray]:
    """All variables of the newest checkpoint."""
    variables, _, step = load_checkpoint(workdir)
    return [np.int64(step), *map(np.asarray, jax.tree.leaves(variables))]


def main() -> None:
    """Runs the soak by the options; exits with an error if a run ended otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="ssd_jax_soak_"))
    began = time.monotonic()
    whole = folder / "whole"
    if start(folder, whole, options.steps, 0).wait():
        sys.exit((folder / "err.txt").read_text())
    expected = parameters(whole)
    kills = ends = 0
    while kills < options.kills:
        workdir = folder / "killed"
        shutil.rmtree(workdir, ignore_errors=True)
        done = False
        while not done:
            process = start(folder, workdir, options.steps, workers=rng.choice((0, 0, 1, 2)))
            if kills < options.kills:
                killed = kill_at_random(process, workdir, rng)
                kills += killed
                done = not killed
            else:
                process.wait()
                done = True
            if done and process.returncode:
                sys.exit((folder / "err.txt").read_text())
            minutes = (time.monotonic() - began) / 60
            print(f"{kills} kills, {ends} ends, {minutes:.1f} min", flush=True)
        ends += 1
        for ours, theirs in zip(parameters(workdir), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    print(f"{kills} kills, {ends} runs of {options.steps} steps: all bit for bit as the whole one")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
