"""What is written of the steps, and when."""

import io
import json

import jax
import jax.numpy as jnp
from rich.console import Console

from ssd_jax.recipe import build_model
from ssd_jax.training.faults import Faults
from ssd_jax.training.log import MetricLog
from ssd_jax.training.optimizer import build_optimizer
from ssd_jax.training.progress import Progress
from ssd_jax.training.state import init_state
from tests.small import small_config
from tests.training.test_watch import turned_split

NAMES = ("loss", "loc", "conf", "rate")


def written(folder) -> list[tuple[int, float]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def test_steps_are_written_while_the_device_is_at_the_next_two(tmp_path):
    config, printed = small_config(""), io.StringIO()
    config.train.log_every, config.train.steps = 5, 10
    dataset, _ = turned_split(tmp_path)
    console, log = Console(file=printed, width=200), MetricLog(tmp_path, 0)
    progress = Progress(config, 0, log, console, Faults(config, dataset, tmp_path, console))
    state = jax.eval_shape(
        lambda: init_state(build_model(config, ("cat",)), build_optimizer(config), 0)
    )
    seen = []
    for step in range(1, 9):
        progress.stepped(state, dict.fromkeys(NAMES, jnp.float32(10 * step)))
        seen.append(written(tmp_path))
    lines = [(step, 10.0 * step) for step in range(1, 9)]
    assert seen == [lines[:n] for n in (0, 0, 1, 2, 5, 5, 5, 6)]
    assert "step 5/10  loss 30.000" in printed.getvalue()
    assert progress.check()["loss"] == 70.0  # of 6, 7 and 8
    assert written(tmp_path) == lines
    progress.close()
    log.close()
