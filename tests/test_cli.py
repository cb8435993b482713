"""How the command lines tell faults."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ssd_jax import config as config_lib

ROOT = Path(__file__).parents[1]
FULL = """
import jax.numpy as jnp
from ssd_jax import cli, processes

def ask_for_too_much(arguments):
    jnp.zeros(2**46)

cli.define_processes()
processes.are_several = lambda: {several}
processes.await_verdict = lambda heartbeat: print("waits for a verdict")
cli.run(ask_for_too_much)
"""


def python(code: str, *flags: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code, *flags],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("several", "start"), [(False, ""), (True, "process 0 of 1: ")])
def test_a_device_without_memory_is_one_line_that_says_what_needs_less(several: bool, start: str):
    done = python(FULL.format(several=several))
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"error: {start}RESOURCE_EXHAUSTED: Out of memory")
    named = re.findall(r"[a-z]+\.[a-z_]+", line)
    assert "train.batch_size" in named and "evaluate.batch_size" in named
    assert set(named) <= dict(config_lib.flatten(config_lib.base())).keys()


def test_traceback_shows_where_memory_was_asked_for():
    told = python(FULL.format(several=False), "--traceback").stderr
    assert "JaxRuntimeError: RESOURCE_EXHAUSTED" in told and "in ask_for_too_much" in told
