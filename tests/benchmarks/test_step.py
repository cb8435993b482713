"""A case or a peer that does not fit costs no figure of the others."""

import json
import sys
import types

import pytest
import step
import workload


def lack_memory(*arguments) -> None:
    raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory")


def test_a_case_that_lacks_memory_leaves_the_others(report, monkeypatch):
    written = []

    def measure_case(report, case, config, limit, quick) -> None:
        written.extend(json.loads(path.read_text()) for path in report.folder.iterdir())
        if config.train.batch_size == 2:
            lack_memory()
        report.add(case, 1.0, "ms/image")

    monkeypatch.setattr(workload, "matrix_limit", lambda: 1e9)
    monkeypatch.setattr(step, "cases", lambda quick: [(300, 1), (300, 2), (300, 3)])
    monkeypatch.setattr(step, "measure_case", measure_case)
    step.measure(report, quick=True)
    names = [figure.name for figure in report.figures]
    assert names == [
        "matrix product",
        "SSD300, float32, batch 1",
        "SSD300, float32, batch 3",
    ]
    (note,) = report.notes
    assert note.startswith("SSD300, float32, batch 2 is left out: RESOURCE_EXHAUSTED")
    # What a run that is killed in each case leaves.
    assert [len(content["figures"]) for content in written] == [1, 2, 2]


@pytest.mark.parametrize("fits", [True, False])
def test_a_peer_that_lacks_memory_leaves_the_others(report, monkeypatch, fits):
    def plain(*arguments):
        return (lambda: None) if fits else lack_memory

    ours = types.SimpleNamespace(model=None, batch=None)
    monkeypatch.setattr(step, "torch_peers", lambda report: True)
    monkeypatch.setattr(step, "importable", lambda name: True)
    monkeypatch.setitem(
        sys.modules,
        "peers_torch",
        types.SimpleNamespace(
            PlainStep=plain, TorchvisionStep=lambda batch, compiled: lambda: None
        ),
    )
    found = step.peers(report, "batch 2", ours, 300)
    assert list(found) == (["PyTorch", "torchvision"] if fits else ["torchvision"])
    assert len(report.notes) == (0 if fits else 1)
