"""A run's folder is one program's at a time."""

import pytest

from ssd_jax import processes
from ssd_jax.training.workdir import hold, remove


def test_two_programs_do_not_train_in_one_folder(tmp_path):
    with hold(tmp_path / "run"), hold(tmp_path / "other"):
        with pytest.raises(ValueError, match=r"another program trains in .*run: give another"):
            with hold(tmp_path / "run"):
                pytest.fail("it is held")
    with hold(tmp_path / "run"):
        pass


def test_the_processes_of_a_run_hold_it_as_one(tmp_path, monkeypatch):
    with hold(tmp_path):
        monkeypatch.setattr(processes, "is_first", lambda: False)
        with hold(tmp_path):
            pass
        monkeypatch.setattr(processes, "share", lambda value: True)  # the first one's was taken
        with pytest.raises(ValueError, match="another program trains"):
            with hold(tmp_path):
                pytest.fail("it is held")


def test_nothing_of_a_deleted_run_is_taken_for_the_next_ones(tmp_path):
    for name in ("checkpoints/2/meta", "evaluation/test/metrics.json", "faults/step_7.npz"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    for name in ("detections.png", "metrics.jsonl", "my notes.txt"):
        (tmp_path / name).touch()
    remove(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.jsonl", "my notes.txt"}
    remove(tmp_path)
