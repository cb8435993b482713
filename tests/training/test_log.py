import json

import pytest

from ssd_jax.training import log as log_lib
from ssd_jax.training.log import Clock, MetricLog, duration


def read(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_lines_of_steps_that_are_done_again_are_dropped(tmp_path):
    log = MetricLog(tmp_path, 0)
    for step in (1, 2, 3):
        log.write(step, {"loss": float(step)})
    log.close()
    log = MetricLog(tmp_path, 2)
    log.write(3, {"loss": 30.0})
    log.close()
    assert read(tmp_path) == [
        {"step": 1, "loss": 1.0},
        {"step": 2, "loss": 2.0},
        {"step": 3, "loss": 30.0},
    ]


def test_a_line_cut_short_by_a_kill_is_dropped(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n{"step": 1, "lo')
    MetricLog(tmp_path, 5).close()
    assert read(tmp_path) == [{"step": 1, "loss": 1.0}]


def test_clock_counts_training_only(monkeypatch):
    now = iter([10.0, 14.0, 100.0, 106.0, 200.0, 204.0])
    monkeypatch.setattr(log_lib.time, "perf_counter", lambda: next(now))
    clock = Clock(start=0, stop=100, batch_size=8)
    assert clock.tick(1) is None  # the first step is compilation
    assert clock.seconds_left is None
    assert clock.tick(21) == pytest.approx(20 * 8 / 4)
    assert clock.seconds_left == pytest.approx(79 * 0.2)
    clock.waited(80.0)
    clock.resume(21)  # an evaluation, from second 14 to 100
    clock.waited(3.0)
    assert clock.tick(41) == pytest.approx(20 * 8 / 6)
    assert clock.wait_fraction == pytest.approx(3 / 6)
    assert clock.seconds_left == pytest.approx(59 * (4 + 6) / 40)
    clock.resume(45)  # an evaluation after four more steps, which are not counted
    assert clock.tick(49) == pytest.approx(4 * 8 / 4)
    assert clock.seconds_left == pytest.approx(51 * (4 + 6 + 4) / 44)


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "?"), (0.4, "0:00"), (61.6, "1:02"), (3723.0, "1:02:03")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text
