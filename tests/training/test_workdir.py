"""A run's folder is one program's at a time."""

import contextlib
import io
import threading

import jax
import pytest
from rich.console import Console

from ssd_jax import processes
from ssd_jax.training.workdir import hold, remove


def test_two_programs_do_not_train_in_one_folder(tmp_path):
    told = Console(file=io.StringIO(), width=400)
    with hold(tmp_path / "run", told), hold(tmp_path / "other", told):
        assert not told.file.getvalue()
        with pytest.raises(ValueError, match=r"in .*run: give another .* delete .*run/\.lock"):
            with hold(tmp_path / "run", told, patience=0.1):
                pytest.fail("it is held")
        assert "run: waiting 0 s for its end" in told.file.getvalue()
    with hold(tmp_path / "run", told):
        pass


def test_the_end_of_another_program_is_waited_for(tmp_path):
    told, held = Console(file=io.StringIO(), width=400), contextlib.ExitStack()
    held.enter_context(hold(tmp_path / "run", told))  # it is refused, and takes the folder away
    ending = threading.Timer(1, held.close)
    ending.start()
    with hold(tmp_path / "run", told):
        ending.join()
        with pytest.raises(ValueError, match="another program trains"):
            with hold(tmp_path / "run", told, patience=0.0):
                pytest.fail("it is held")
    assert told.file.getvalue().count("waiting 120 s") == 1


def test_a_folder_that_nothing_came_into_is_taken_away(tmp_path):
    quiet = Console(quiet=True)
    (tmp_path / "there").mkdir()
    for name, content in (("empty", None), ("full", "metrics.jsonl"), ("there", None)):
        with pytest.raises(KeyError), hold(tmp_path / name, quiet):
            if content:
                (tmp_path / name / content).touch()
            raise KeyError
    assert {path.name for path in tmp_path.iterdir()} == {"full", "there"}


def test_a_folder_that_comes_late_to_a_machine_is_waited_for(tmp_path, monkeypatch):
    """As an NFS client shows it that has asked for it before it was made."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(processes, "is_first", lambda: False)
    monkeypatch.setattr(processes, "wait_for_work", lambda: None)
    monkeypatch.setattr(processes, "gather", lambda value: [True, value])
    shared = ["token", ""]  # what the first process calls its file, and that nothing went wrong
    monkeypatch.setattr(processes, "share", lambda value: shared.pop(0))
    appears = threading.Timer(1, (tmp_path / ".token").touch)
    appears.start()
    processes.check_shared(tmp_path)
    appears.join()

    shared += ["another", ""]
    monkeypatch.setattr(processes, "_UNSEEN_FOR", 0.1)
    with pytest.raises(OSError, match=r"not the same folder .* are \[1\]"):
        processes.check_shared(tmp_path)


def test_the_processes_of_a_run_hold_it_as_one(tmp_path, monkeypatch):
    quiet = Console(quiet=True)
    with hold(tmp_path, quiet):
        monkeypatch.setattr(processes, "is_first", lambda: False)
        monkeypatch.setattr(processes, "share", lambda value: True)  # the first one has it
        with hold(tmp_path, quiet):
            pass
        monkeypatch.setattr(processes, "share", lambda value: False)
        with pytest.raises(ValueError, match="another program trains"):
            with hold(tmp_path, quiet):
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
