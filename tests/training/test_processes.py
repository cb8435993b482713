"""Two processes on this machine, joined by jax.distributed, against one with as many devices."""

import collections
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from ssd_jax.detector import load_checkpoint
from ssd_jax.training.loop import train
from tests.small import small_config

pytestmark = pytest.mark.usefixtures("compiled_in_haste", "loose_dtypes")

ROOT = Path(__file__).parents[2]
RECIPE = """
from tests.small import small_config

def get_config():
    config = small_config({folder!r})
    config.train.steps = {steps}
    config.train.checkpoint_every = 4
    config.train.log_every = 1
    return config
"""


# The other process has nothing left to do for longer than JAX lets one wait for the rest.
SLOW_EVALUATION = """
import functools, runpy, sys, time
sys.path.insert(0, ".")
import jax
from ssd_jax.evaluation import report

jax.distributed.initialize = functools.partial(
    jax.distributed.initialize, shutdown_timeout_seconds=2
)
write_files = report.write_files
report.write_files = lambda *arguments: (time.sleep(8), write_files(*arguments))
runpy.run_path("evaluate.py", run_name="__main__")
"""


def config_of(folder: str, steps: int):
    config = small_config(folder)
    config.train.steps = steps
    config.train.checkpoint_every = 4
    config.train.log_every = 1
    return config


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start_two(*arguments: str, heartbeat: int = 300) -> list[subprocess.Popen]:
    address = f"127.0.0.1:{free_port()}"
    return [
        subprocess.Popen(
            [
                *(sys.executable, *arguments, "--coordinator", address, "--num_processes=2"),
                *(f"--process_id={process_id}", f"--heartbeat={heartbeat}"),
            ],
            cwd=ROOT,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process_id in range(2)
    ]


def outputs(started: list[subprocess.Popen], code: int = 0) -> list[str]:
    """What each printed, when both have ended with this code."""
    both = [process.communicate(timeout=300) for process in started]
    for process, (printed, told) in zip(started, both, strict=True):
        assert process.returncode == code, printed + told
    return [printed for printed, _ in both]


def training(folder: Path, shapes_folder: str, steps: int) -> list[str]:
    recipe = folder / f"steps_{steps}.py"
    folder.mkdir(exist_ok=True)
    recipe.write_text(RECIPE.format(folder=shapes_folder, steps=steps))
    return ["train.py", f"--config={recipe}", f"--workdir={folder / 'run'}"]


def assert_same_parameters(ours: Path, theirs: Path) -> None:
    (ours_there, _, step), (expected, _, last) = map(load_checkpoint, (ours, theirs))
    assert step == last
    for leaf, wanted in zip(jax.tree.leaves(ours_there), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(leaf, wanted)


def losses(workdir: Path) -> list[float]:
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def mean_ap(workdir: Path) -> float:
    return json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])["mAP"]


def test_two_processes_train_and_evaluate_as_one(tmp_path, shapes_folder):
    whole = tmp_path / "one"
    subprocess.run(
        [sys.executable, *training(whole, shapes_folder, 8)],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"},
        capture_output=True,
        check=True,
    )
    first, second = outputs(start_two(*training(tmp_path, shapes_folder, 8)))
    assert "on 2 cpu" in first and "step 8/8" in first
    assert "step" not in second
    one, two = whole / "run", tmp_path / "run"
    assert_same_parameters(two, one)
    assert losses(two) == losses(one)
    assert len(losses(two)) == 8
    names = {".lock", "checkpoints", "detections.png", "metrics.jsonl", "tensorboard"}
    assert {path.name for path in two.iterdir()} == names

    out = tmp_path / "evaluated"
    slow = tmp_path / "slow.py"
    slow.write_text(SLOW_EVALUATION)
    first, second = outputs(start_two(str(slow), f"--ckpt={two}", f"--out={out}", "--metrics=voc"))
    assert f"mAP {mean_ap(one):.4f}" in first
    assert "mAP" not in second
    assert json.loads((out / "metrics.json").read_text())["mAP"] == mean_ap(one)
    detections = json.loads((out / "detections.json").read_text())
    by_image = collections.Counter(found["image_id"] for found in detections)
    assert by_image == dict.fromkeys(range(32), 200)  # each image once, all its slots taken

    tuning = training(tmp_path / "tuned", shapes_folder, 1)
    first, _ = outputs(start_two(*tuning, f"--config.init={two}"))
    assert "classes taken by name" in first
    refused = start_two("evaluate.py", f"--ckpt={two}", "--model=nothing.onnx")
    for process in refused:
        _, told = process.communicate(timeout=300)
        assert process.returncode == 1
        assert "--model detects in one process" in told


def wait_for_step(folder: Path, step: int, started: list[subprocess.Popen]) -> None:
    lines = folder / "run" / "metrics.jsonl"
    for _ in range(15_000):
        if lines.exists() and f'"step": {step},' in lines.read_text():
            return
        for process in started:
            assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError(f"no step {step} in {lines}")


def test_sigterm_to_one_stops_both_and_one_goes_on(tmp_path, shapes_folder):
    # On the devices lie batches too that no process has whole; one draws its part of them.
    flags = ("--config.data.cache=device", "--config.train.pictures=2")
    started = start_two(*training(tmp_path, shapes_folder, 3000), *flags)
    wait_for_step(tmp_path, 3, started)
    started[1].send_signal(signal.SIGTERM)
    first, _ = outputs(started, code=143)
    _, _, step = load_checkpoint(tmp_path / "run")
    assert 3 < step < 3000
    assert f"stopped by SIGTERM of a process: step {step} of 3000 is saved" in " ".join(
        first.split()
    )
    console = Console(file=io.StringIO(), width=200)
    train(
        config_of(shapes_folder, step + 1),
        tmp_path / "run",
        console=console,
        devices=jax.devices()[:2],
    )
    assert f"going on from step {step} of {step + 1}" in console.file.getvalue()


@pytest.mark.parametrize("killed", [0, 1])
def test_when_one_dies_the_other_ends_and_says_which(tmp_path, shapes_folder, killed):
    started = start_two(*training(tmp_path, shapes_folder, 3000), heartbeat=10)
    wait_for_step(tmp_path, 2, started)
    started[killed].kill()
    died = time.monotonic()
    _, told = started[1 - killed].communicate(timeout=60)
    assert time.monotonic() - died < 60
    assert started[1 - killed].returncode != 0
    started[killed].communicate()
    # The first process watches over the others; that it is gone itself they notice at once.
    wanted = "unhealthy (stopped sending heartbeats):\n1\n" if killed else "leader task was"
    assert wanted in told


def test_the_others_wait_while_the_first_works_longer_than_a_collective_may_take():
    code = """
import os, sys, time

os.environ["XLA_FLAGS"] = "--xla_cpu_collective_timeout_seconds=4"
from ssd_jax import processes

coordinator, process_id = sys.argv[2], int(sys.argv[4].removeprefix("--process_id="))
processes.connect(coordinator, 2, process_id, 60)
start = time.monotonic()
processes.first_before_others(lambda: time.sleep(10 if processes.is_first() else 0))
print(processes.this_one(), time.monotonic() - start > 9)
"""
    first, second = outputs(start_two("-c", code))
    assert first.split("\n")[-2] == "process 0 of 2 True"
    assert second.split("\n")[-2] == "process 1 of 2 True"


def in_fresh_python(code: str) -> subprocess.CompletedProcess:
    """JAX has to be told of processes before its first use: not where other tests ran before."""
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


def test_a_program_by_itself_is_one_process():
    done = in_fresh_python(
        """
import os
from ssd_jax import processes

assert processes.connect(None, None, None) is False
os.environ["KUBERNETES_SERVICE_HOST"] = "10.0.0.1"
assert processes.connect(None, None, None) is False
assert processes.gather({"a": 1}) == [{"a": 1}]
"""
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("tasks", [1, 2])
def test_a_single_task_of_a_cluster_keeps_all_its_devices(tasks):
    done = in_fresh_python(
        f"""
import os
import jax
from ssd_jax import processes

os.environ |= dict(SLURM_JOB_ID="1", SLURM_STEP_NODELIST="node1", SLURM_NTASKS="{tasks}")
os.environ |= dict(SLURM_PROCID="0", SLURM_LOCALID="0", SLURM_STEP_NUM_NODES="1")
joined = []
jax.distributed.initialize = lambda *_, **__: joined.append(True)
assert processes.connect(None, None, None) is bool(joined) is ({tasks} > 1)
"""
    )
    assert done.returncode == 0, done.stderr


def test_what_the_cluster_does_not_say_is_asked_for():
    code = "from ssd_jax import processes; processes.connect('127.0.0.1:1', None, 0)"
    told = in_fresh_python(code).stderr.splitlines()[-1]
    assert told.startswith("ValueError: Number of processes")
    assert "Give --num_processes" in told
