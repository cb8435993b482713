import sys

import jax
import numpy as np
import pytest

from ssd_jax.training.checkpoints import Checkpoints, Meta
from ssd_jax.training.optimizer import build_optimizer
from ssd_jax.training.state import TrainState
from tests.export import networks

# As ssd_jax.export does before it imports OpenVINO, for the tests that import it first.
sys.modules.setdefault("openvino_telemetry", None)


@pytest.fixture(scope="session")
def pictures(shapes_folder):
    return networks.load_pictures(shapes_folder)


@pytest.fixture(scope="session", params=[networks.normed_config, networks.plain_config])
def any_detector(request, pictures):
    return networks.spread_detector(request.param(), pictures)


@pytest.fixture(scope="session")
def detector(pictures):
    return networks.spread_detector(networks.normed_config(), pictures)


@pytest.fixture(scope="session")
def workdir(detector, shapes_folder, tmp_path_factory):
    """A run's folder with the detector as its checkpoint, on the pictures of `shapes`."""
    engine = detector.engine
    config = engine.config.copy_and_resolve_references()
    config.data.kind = "shapes/small"
    config.data.eval = "train[:6]"
    config.data.data_dir = shapes_folder
    folder = tmp_path_factory.mktemp("run")
    variables = engine.variables
    state = TrainState(
        step=np.int32(0),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=build_optimizer(config).init(variables["params"]),
        average={},
        seed=np.int32(0),
        skipped=np.int32(0),
    )
    checkpoints = Checkpoints(folder, keep=1)
    checkpoints.save(jax.device_put(state), Meta(config, engine.class_names))
    checkpoints.close()
    return folder
