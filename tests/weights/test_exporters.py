import jax
import numpy as np
import pytest

from ssd_jax.model import ssd300, ssd512
from ssd_jax.weights import from_ssd_pytorch, from_torchvision, to_ssd_pytorch, to_torchvision


@pytest.fixture(scope="module")
def variables():
    """Random numbers in the shape of an SSD300 of VOC."""
    images = jax.ShapeDtypeStruct((1, 300, 300, 3), np.float32)
    shapes = jax.eval_shape(ssd300().init, jax.random.key(0), images)
    random = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: random.random(leaf.shape, np.float32), shapes)


@pytest.mark.parametrize(
    ("there", "back"),
    [(to_ssd_pytorch, from_ssd_pytorch), (to_torchvision, from_torchvision)],
    ids=["ssd.pytorch", "torchvision"],
)
def test_round_trip_is_exact(variables, there, back):
    returned = back(there(variables)).variables
    jax.tree.map(np.testing.assert_array_equal, returned, variables)


@pytest.mark.parametrize(
    ("export", "network"),
    [(to_ssd_pytorch, "SsdPytorch"), (to_torchvision, "Torchvision")],
)
def test_the_programs_network_takes_all_of_it(variables, export, network):
    torch = pytest.importorskip("torch", reason="compares with PyTorch, an optional extra")
    from tests.reference import peers_torch

    with torch.device("meta"):
        arguments = (300, 21) if network == "SsdPytorch" else (21,)
        model = getattr(peers_torch, network)(*arguments)
    state = {name: torch.from_numpy(array) for name, array in export(variables).items()}
    model.load_state_dict(state, strict=True, assign=True)


@pytest.mark.parametrize(
    "model", [ssd300(3, width=0.5), ssd300(3, batch_norm=True), ssd512(3)], ids=repr
)
def test_other_networks_are_refused(model):
    images = jax.ShapeDtypeStruct((1, *model.priors.image_size, 3), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    variables = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), shapes)
    with pytest.raises(ValueError, match="only the full-width SSD300 without batch norm: "):
        to_ssd_pytorch(variables)
