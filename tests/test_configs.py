"""Each recipe of configs/ trains, evaluates and says how it is run."""

import importlib.util

import jax
import pytest

from ssd_jax import config as config_lib
from ssd_jax.data import load_dataset
from ssd_jax.training.loop import train
from tests.programs import ROOT, quiet
from tests.small import small_config


@pytest.mark.usefixtures("compiled_in_haste", "loose_dtypes")
@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.py")), ids=lambda p: p.stem)
def test_every_config_takes_a_step(path, tmp_path, shapes_folder):
    """Shrunk to one step of a small network on `shapes`, whatever its own data."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    assert (
        dict(config_lib.flatten(config)).keys()
        == dict(config_lib.flatten(config_lib.base())).keys()
    )
    assert "python train.py --config configs/" in module.__doc__
    config.data.update(small_config(shapes_folder).data)
    config.model.size = 96
    config.model.width = 0.125
    config.init = "scratch"
    config.priors.sizes = ()
    config.train.steps = 1
    config.train.batch_size = 2
    evaluation = train(config, tmp_path, console=quiet(), devices=jax.devices()[:1])
    assert len(evaluation.results.detections) == len(load_dataset(config.data, config.data.eval))
