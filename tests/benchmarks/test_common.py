"""What benchmarks note, leave out and write."""

import itertools
import json
import sys

import common
import jax.numpy as jnp
import pytest
from common import Report, is_out_of_memory, medians, noting_lack_of_memory, torch_peers


def fill_memory() -> None:
    jnp.zeros(2**46).block_until_ready()


def fill_torch() -> None:
    torch = pytest.importorskip("torch")
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.\nOf it ...")


@pytest.mark.parametrize(
    ("fill", "reason"), [(fill_memory, "RESOURCE_EXHAUSTED"), (fill_torch, "CUDA out of memory")]
)
def test_what_lacks_memory_is_noted_and_the_rest_goes_on(report, fill, reason):
    with noting_lack_of_memory(report, "batch 128"):
        fill()
    (note,) = report.notes
    assert note.startswith(f"batch 128 is left out: {reason}") and "\n" not in note


@pytest.mark.parametrize(
    "text",
    [
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.",
        "CUDA error: out of memory\nCUDA kernel errors might be reported at another call",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_a_lack_of_memory_is_known_by_what_it_says(text):
    assert is_out_of_memory(RuntimeError(text))


def test_other_faults_are_not_taken_for_a_lack_of_memory(report):
    with pytest.raises(RuntimeError, match="cuDNN"), noting_lack_of_memory(report, "batch 128"):
        raise RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")
    assert report.notes == []


def test_what_is_left_out_of_several_cases_is_said_once(report):
    report.note("no peers")
    report.note("no peers")
    assert report.notes == ["no peers"]


def test_what_lasts_long_is_called_once_a_round(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(common.time, "perf_counter", lambda: float(next(clock)))
    called = {"short": 0, "long": 0}

    def call(name: str) -> None:
        called[name] += 1

    calls = {"short": lambda: call("short"), "long": lambda: call("long")}
    seconds = medians(calls, rounds=3, at_once=10, singly={"long"})
    assert called == {"short": 2 + 3 * 10, "long": 2 + 3}
    assert seconds == {"short": 0.1, "long": 1.0}


def test_a_peer_on_the_cpu_is_none_to_a_gpu(report, monkeypatch):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("PyTorch has a GPU")
    assert torch_peers(report)
    monkeypatch.setattr(common, "on_cpu", lambda: False)
    assert not torch_peers(report)
    (note,) = report.notes
    assert note.startswith("JAX computes on a GPU, PyTorch cannot")


def test_peers_compute_where_jax_does(monkeypatch):
    torch = pytest.importorskip("torch")
    import peers_torch

    assert peers_torch.device().type == "cpu"
    monkeypatch.setattr(peers_torch, "on_cpu", lambda: False)
    assert peers_torch.device().type == "cuda"
    assert torch.backends.cudnn.benchmark


def written(folder) -> dict:
    (path,) = folder.iterdir()
    return json.loads(path.read_text())


def test_a_benchmark_that_is_killed_leaves_what_it_measured(report):
    report.add("first", 1.0, "s")
    report.note("no peers")
    content = written(report.folder)
    assert [figure["name"] for figure in content["figures"]] == ["first"]
    assert content["notes"] == ["no peers"]
    assert content["finished"] is False


def test_a_benchmark_that_fails_leaves_what_it_measured(tmp_path, monkeypatch):
    def measure(report: Report, quick: bool) -> None:
        report.add("first", 1.0, "s")
        raise RuntimeError("no second")

    monkeypatch.setattr(sys, "argv", ["step.py", "--quick", f"--results={tmp_path}"])
    with pytest.raises(RuntimeError, match="no second"):
        common.main("Times.", measure)
    content = written(tmp_path)
    assert [figure["name"] for figure in content["figures"]] == ["first"]
    assert content["finished"] is False
    common.main("Times.", lambda report, quick: None)
    assert written(tmp_path)["finished"] is True
