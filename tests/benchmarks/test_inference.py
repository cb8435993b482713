"""PyTorch's loops are timed on few images, and its figures compare."""

import types

import inference
import numpy as np
import pytest

from ssd_jax.priors import VOC300
from tests.small import small_config


@pytest.fixture
def no_network(monkeypatch):
    """The network, whose figures are not what is tested, does nothing."""
    model = types.SimpleNamespace(priors=VOC300, init=lambda key, images: {})
    stages = types.SimpleNamespace(
        preprocess=lambda images, sizes: images, forward=lambda *_: (), detect=lambda *_: ()
    )
    for name, stub in {
        "build_model": lambda config, class_names: model,
        "build_stages": lambda config, model: stages,
        "build_predict": lambda config, model: lambda *_: (),
        "multiply_adds": lambda model: 1,
        "torch_peers": lambda report: True,
        "torch_network": lambda model, batch: lambda: None,
        "torch_loops": lambda model, loc, conf: lambda: None,
        "medians": lambda calls, rounds: dict.fromkeys(calls, 0.012),
    }.items():
        monkeypatch.setattr(inference, name, stub)


@pytest.mark.parametrize(("batch_size", "looped"), [(4, 2), (1, 1)])
def test_loops_are_over_two_images_and_all_figures_are_an_image(
    report, monkeypatch, no_network, batch_size, looped
):
    given = []

    def torch_loops(model, loc: np.ndarray, conf: np.ndarray):
        given.append((len(loc), len(conf)))
        return lambda: None

    monkeypatch.setattr(inference, "torch_loops", torch_loops)
    config = small_config("")
    config.train.batch_size = batch_size
    inference.measure_case(report, "case", config, 1e9, quick=True)
    assert given == [(looped, looped)]
    times = {figure.name: figure.value for figure in report.figures if figure.unit == "ms/image"}
    assert times["case: ssd_jax"] == 12 / batch_size
    name = f"case: PyTorch, decoding and NMS in loops, crowded, batch {looped}"
    assert times[name] == 12 / looped


def test_a_peer_that_lacks_memory_costs_no_figure_of_ours(report, monkeypatch, no_network):
    def torch_network(model, batch):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(inference, "torch_network", torch_network)
    inference.measure_case(report, "case", small_config(""), 1e9, quick=True)
    names = [figure.name for figure in report.figures]
    assert "case: ssd_jax" in names and "case: PyTorch, network" not in names
    assert report.notes == ["case: PyTorch, network is left out: CUDA error: out of memory"]
