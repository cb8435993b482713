"""What is written while a run goes on: figures, pictures, traces, times."""

import gzip
import io
import json
import os
import struct
import subprocess
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
from tensorboardX.proto import event_pb2

from ssd_jax.compilation import CompileTimer
from ssd_jax.evaluation.evaluator import Evaluation
from ssd_jax.evaluation.scores import score
from ssd_jax.recipe import build_model
from ssd_jax.training.faults import Faults
from ssd_jax.training.log import MetricLog, open_log
from ssd_jax.training.pictures import build_draw
from ssd_jax.training.profile import StepTrace
from ssd_jax.training.progress import Progress
from tests.evaluation.make import turned_split
from tests.small import small_config
from tests.training.test_step import random_batch

CLASSES = ("cat", "dog")
ROOT = Path(__file__).parents[2]


def board_events(workdir):
    """All values in TensorBoard's files, which are records of length, checksum, data, checksum."""
    for path in workdir.glob("tensorboard/*"):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack_from("<Q", content)
            yield from event_pb2.Event.FromString(content[12 : 12 + length]).summary.value
            content = content[16 + length :]


def test_what_is_not_finite_is_null_and_no_point(tmp_path):
    log = MetricLog(tmp_path, 0)
    log.write(1, {"loss": float("nan"), "rate": 0.5})
    log.picture(1, "training", np.full((4, 6, 3), 200, np.uint8))
    log.close()
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line) == {"step": 1, "loss": None, "rate": 0.5}
    values = {value.tag: value for value in board_events(tmp_path)}
    assert values.keys() == {"rate", "training"}
    assert values["rate"].simple_value == 0.5
    assert (values["training"].image.height, values["training"].image.width) == (4, 6)


def test_a_run_that_goes_on_drops_what_it_does_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    whole = '{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.5}\n'
    path.write_text(whole)
    before = path.stat().st_ino
    MetricLog(tmp_path, 2).close()
    assert (path.read_text(), path.stat().st_ino) == (whole, before)
    path.write_text(whole + '{"step": 3, "loss": 1.0}\n{"step": 2, "lo')
    log = MetricLog(tmp_path, 2)
    log.write(3, {"loss": 0.5})
    log.close()
    assert path.read_text() == whole + '{"step": 3, "loss": 0.5}\n'
    assert {each.name for each in tmp_path.iterdir()} == {"metrics.jsonl", "tensorboard"}


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from ssd_jax.training.log import MetricLog

log = MetricLog(Path(sys.argv[1]), 0)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write past the limit is an OSError
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
step = 0
while True:  # TensorBoard's file, of ten times as much a step, is full long before the other
    step += 1
    log.write(step, {"loss": 1.0})
    for number in range(20):
        log._board.scalar(step, f"layer {number}", 1.0)
"""


def test_a_full_disk_ends_a_run_and_does_not_hang_it(tmp_path):
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "OSError: [Errno 27] File too large" in done.stderr.splitlines()[-1]


class FakeRun:
    def __init__(self, identity):
        self.id, self.logged, self.finished = identity, [], False

    def log(self, values, step):
        self.logged.append((step, values))

    def finish(self):
        self.finished = True


def test_weights_and_biases_gets_the_same_and_goes_on_with_its_run(tmp_path, monkeypatch):
    runs = []

    def init(**options):
        runs.append((options, FakeRun(options["id"] or "new")))
        return runs[-1][1]

    fake = types.SimpleNamespace(init=init, Image=lambda image: ("image", image.shape))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    config = small_config("")
    config.train.wandb = "cats"
    log = open_log(config, tmp_path, 0)
    log.write(1, {"loss": float("inf"), "rate": 0.5})
    log.picture(1, "training", np.zeros((4, 6, 3), np.uint8))
    log.close()
    open_log(config, tmp_path, 1).close()
    (first, run), (second, _) = runs
    assert (first["project"], first["name"], first["id"]) == ("cats", tmp_path.name, None)
    assert first["config"]["model"]["size"] == 96
    assert run.logged == [(1, {"rate": 0.5}), (1, {"training": ("image", (4, 6, 3))})]
    assert run.finished
    assert (second["id"], second["resume"]) == ("new", "allow")


def test_without_wandb_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = small_config("")
    config.train.wandb = "cats"
    with pytest.raises(ValueError, match=r"wandb is 'cats', .* pip install wandb"):
        open_log(config, tmp_path, 0)


def test_training_pictures_have_their_objects_and_priors(loose_dtypes):
    config = small_config("")
    config.train.pictures = 3
    config.augment.mirror_probability = 0.0
    batch = random_batch(0)
    batch["image"][:] = 0
    batch["size"][:] = 160
    batch["labels"][:] = 0
    batch["labels"][0, 0], batch["boxes"][0, 0] = 1, (0.25, 0.25, 0.75, 0.75)
    sheet = build_draw(config, build_model(config, CLASSES), CLASSES)(batch, 1)
    assert sheet.shape == (320, 960, 3)
    white = (sheet > 250).all(axis=-1)
    assert white[:, :320].sum() > 300  # a prior's outline
    assert not white[:, 320:].any()
    inner = sheet[10:-10, 330:630]
    assert inner.max() <= 6  # black, but for rounding


def test_none_are_drawn_where_none_are_asked_for():
    config = small_config("")
    assert build_draw(config, build_model(config, CLASSES), CLASSES) is None


@pytest.mark.parametrize(("count", "drawn"), [(0, set()), (2, {"detections"})])
def test_none_of_an_evaluation_either(tmp_path, count, drawn):
    config, console = small_config(""), Console(file=io.StringIO())
    config.train.pictures = count
    dataset, results = turned_split(tmp_path)
    scores = score(results, ["voc"], inclusive_pixels=False, threshold_inclusive=False)
    draw = build_draw(config, build_model(config, CLASSES), CLASSES)
    log, faults = MetricLog(tmp_path, 0), Faults(config, dataset, tmp_path, console)
    progress = Progress(config, 0, log, console, faults, draw)
    progress.evaluated(Evaluation(dataset, results, [0], None, scores, "voc"))
    progress.close()
    log.close()
    values = list(board_events(tmp_path))
    assert {value.tag for value in values if value.HasField("image")} == drawn
    assert {value.tag for value in values if not value.HasField("image")} == {"mAP"}


def test_a_trace_has_the_steps_asked_for(tmp_path):
    console = Console(file=io.StringIO(), width=400)
    step = jax.jit(lambda x: jnp.sin(x) + 1)
    with StepTrace(tmp_path, 10, 3, console) as trace:
        x = jnp.zeros(8)
        for done in range(11, 20):
            x = step(x)
            trace.stepped(done, {"x": x})
    (path,) = tmp_path.glob("profile/plugins/profile/*/perfetto_trace.json.gz")
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    steps = [event["args"]["step_num"] for event in events if event.get("name") == "train"]
    assert sorted(map(int, steps)) == [13, 14, 15]
    assert list(tmp_path.glob("profile/plugins/profile/*/*.xplane.pb"))
    assert "a trace of 3 steps is in" in console.file.getvalue()


def test_compiling_is_timed_and_nothing_else():
    timer = CompileTimer()
    try:
        f = jax.jit(lambda x: x * 3 + 1)
        f(jnp.zeros(5)).block_until_ready()
        assert timer.since_last().seconds > 0
        f(jnp.zeros(5)).block_until_ready()
        assert timer.since_last().seconds == 0
    finally:
        timer.close()
    jax.jit(lambda x: x * 5 + 1)(1.0)
    assert timer.since_last().seconds == 0
