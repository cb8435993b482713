import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssd_jax.model import VGG16
from ssd_jax.weights import names
from ssd_jax.weights.backbone import (
    from_caffe_vgg16,
    from_keras,
    from_ssd_pytorch_vgg16,
    from_torchvision_vgg16,
    from_torchvision_vgg16_bn,
)
from ssd_jax.weights.files import read_weights
from tests.weights.states import blobs, state

CHANNELS = {1: 64, 2: 128, 3: 256, 4: 512, 5: 512}
LAYERS = {1: 2, 2: 2, 3: 3, 4: 3, 5: 3}


def convolutions():
    """(stage, number, inputs, outputs) of VGG16."""
    inputs = 3
    for stage, count in LAYERS.items():
        for number in range(1, count + 1):
            yield stage, number, inputs, CHANNELS[stage]
            inputs = CHANNELS[stage]


@pytest.fixture(scope="module")
def keras():
    """Layer -> [kernel, bias] of Keras's VGG16, random; the classifier's numbers tell their place.

    fc1[row, column, channel, output] = 1000 row + 100 column + channel / 512 + output / 2^13, in
    the flattened form; fc2[input, output] = input + output / 4096.
    """
    random = np.random.default_rng(0)
    layers = {
        f"block{stage}_conv{number}": [
            random.random((3, 3, inputs, outputs), np.float32),
            random.random(outputs, np.float32),
        ]
        for stage, number, inputs, outputs in convolutions()
    }
    places = np.arange(7, dtype=np.float32)
    fc1 = (
        1000 * places[:, None, None, None]
        + 100 * places[None, :, None, None]
        + np.arange(512, dtype=np.float32)[None, None, :, None] / 512
        + np.arange(4096, dtype=np.float32)[None, None, None, :] / 8192
    )
    numbers = np.arange(4096, dtype=np.float32)
    layers["fc1"] = [fc1.reshape(25088, 4096), numbers]
    layers["fc2"] = [numbers[:, None] + numbers[None, :] / 4096, -numbers]
    layers["predictions"] = [np.zeros((4096, 1), np.float32), np.zeros(1, np.float32)]
    return layers


def check_subsampled(params):
    """fc6 and fc7 are every third row and column and every fourth channel of fc1 and fc2."""
    for row, column, channel, output in ((0, 0, 0, 0), (1, 2, 511, 1), (2, 0, 7, 1023)):
        expected = 3000 * row + 300 * column + channel / 512 + 4 * output / 8192
        np.testing.assert_allclose(
            params["fc6"]["conv"]["kernel"][row, column, channel, output], expected, rtol=1e-6
        )
    assert params["fc6"]["conv"]["kernel"].shape == (3, 3, 512, 1024)
    np.testing.assert_array_equal(params["fc6"]["conv"]["bias"], np.arange(0, 4096, 4))
    fc7 = params["fc7"]["conv"]["kernel"]
    assert fc7.shape == (1, 1, 1024, 1024)
    assert fc7[0, 0, 3, 5] == 12 + 20 / 4096
    np.testing.assert_array_equal(params["fc7"]["conv"]["bias"], -np.arange(0, 4096, 4))


def test_keras(keras):
    backbone = from_keras(keras)
    kernel, bias = keras["block1_conv1"]
    ours = backbone.params["conv1_1"]["conv"]
    np.testing.assert_array_equal(ours["kernel"], kernel[:, :, ::-1])  # BGR to RGB
    np.testing.assert_array_equal(ours["bias"], bias)
    for name in ("block1_conv2", "block3_conv3", "block5_conv1"):
        ours = backbone.params[name.replace("block", "conv").replace("_conv", "_")]["conv"]
        np.testing.assert_array_equal(ours["kernel"], keras[name][0])
    assert backbone.preprocessing.mean == (123.68, 116.779, 103.939)
    check_subsampled(backbone.params)


def test_keras_without_its_classifier_leaves_fc6_and_fc7_fresh(keras):
    notop = {name: weights for name, weights in keras.items() if name.startswith("block")}
    params = from_keras(notop).params
    assert len(params) == 13
    assert not {"fc6", "fc7"} & params.keys()


def torchvision_state(keras):
    state = {}
    place = 0
    for stage, number, _, _ in convolutions():
        kernel, bias = keras[f"block{stage}_conv{number}"]
        state[f"features.{place}.weight"] = kernel.transpose(3, 2, 0, 1)
        state[f"features.{place}.bias"] = bias
        place += 2 if number < LAYERS[stage] else 3  # its pool
    # PyTorch flattens (channel, row, column), with the outputs first.
    fc1 = keras["fc1"][0].reshape(7, 7, 512, 4096).transpose(3, 2, 0, 1).reshape(4096, 25088)
    state |= {"classifier.0.weight": fc1, "classifier.0.bias": keras["fc1"][1]}
    state |= {"classifier.3.weight": keras["fc2"][0].T, "classifier.3.bias": keras["fc2"][1]}
    return state | {"classifier.6.weight": np.zeros((1, 4096), np.float32)}


def test_torchvision(keras):
    backbone = from_torchvision_vgg16(torchvision_state(keras))
    for name in ("block1_conv1", "block2_conv1", "block5_conv3"):
        ours = backbone.params[name.replace("block", "conv").replace("_conv", "_")]["conv"]
        np.testing.assert_array_equal(ours["kernel"], keras[name][0])  # RGB there too
    np.testing.assert_allclose(backbone.preprocessing.mean, (123.675, 116.28, 103.53))
    np.testing.assert_allclose(backbone.preprocessing.std, (58.395, 57.12, 57.375))
    check_subsampled(backbone.params)


def test_torchvision_features_have_no_classifier_and_another_preprocessing(keras):
    state = torchvision_state(keras)
    for name in [name for name in state if name.startswith("classifier")]:
        state[name] = np.broadcast_to(np.float32(np.nan), state[name].shape)
    backbone = from_torchvision_vgg16(state)
    assert len(backbone.params) == 13
    np.testing.assert_allclose(backbone.preprocessing.mean, (122.999, 116.999, 103.999), atol=1e-3)
    assert backbone.preprocessing.std == (1.0, 1.0, 1.0)


def test_torchvision_with_batch_norm_gives_what_pytorch_does(tmp_path):
    torch = pytest.importorskip("torch", reason="compares with PyTorch, an optional extra")
    layers = []
    for stage, number, inputs, outputs in convolutions():
        layers += [torch.nn.Conv2d(inputs, outputs, 3, padding=1), torch.nn.BatchNorm2d(outputs)]
        layers += [torch.nn.ReLU()]
        if number == LAYERS[stage]:
            layers += [torch.nn.MaxPool2d(2, 2)]
    features = torch.nn.Sequential(*layers)
    torch.manual_seed(0)
    for array in (*features.parameters(), *features.buffers()):
        if array.ndim == 1:
            torch.nn.init.uniform_(array.data, 0.5, 1.5)
        elif array.ndim == 4:
            torch.nn.init.kaiming_normal_(array.data)
    state = {f"features.{name}": array for name, array in features.state_dict().items()}
    for layer, shape in ((0, (4096, 25088)), (3, (4096, 4096))):  # one number, repeated
        state[f"classifier.{layer}.weight"] = torch.tensor([layer + 2.0]).expand(shape)
        state[f"classifier.{layer}.bias"] = torch.zeros(4096)
    torch.save(state, tmp_path / "vgg16_bn.pth")

    backbone = read_weights(tmp_path / "vgg16_bn.pth")
    images = np.random.default_rng(0).normal(0, 1, (2, 64, 64, 3)).astype(np.float32)
    network = VGG16(batch_norm=True)
    fresh = jax.jit(network.init, static_argnums=2)(jax.random.key(0), jnp.asarray(images), False)
    for kind, part in {"params": backbone.params, "batch_stats": backbone.batch_stats}.items():
        for layer, unit in part.items():
            fresh[kind][layer] |= jax.tree.map(jnp.asarray, unit)
    conv4_3, _ = jax.jit(network.apply, static_argnums=2)(fresh, jnp.asarray(images), False)
    with torch.no_grad():
        expected = features.eval()[:33](torch.from_numpy(images).permute(0, 3, 1, 2))
    expected = expected.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(conv4_3, expected, atol=1e-4 * expected.max())
    assert backbone.params["fc6"]["conv"].keys() == {"kernel"}
    assert backbone.params["fc7"]["conv"]["kernel"][0, 0, 0, 0] == 5

    del state["features.1.running_var"]
    arrays = {name: np.asarray(array) for name, array in state.items()}
    with pytest.raises(ValueError, match=r"1\.running_var has shape None, expected \[64\]"):
        from_torchvision_vgg16_bn(arrays)


def test_ssd_pytorch_reduced_fc():
    whole = state(names.ssd_pytorch)
    reduced = {n.removeprefix("vgg."): a for n, a in whole.items() if n.startswith("vgg.")}
    backbone = from_ssd_pytorch_vgg16(reduced)
    assert len(backbone.params) == 15
    assert backbone.params["fc7"]["conv"]["bias"][0] == whole["vgg.33.bias"][0]
    assert backbone.preprocessing.mean == (123.0, 117.0, 104.0)


def test_caffe_reduced_fc_is_turned_to_rgb():
    vgg = {n: b for n, b in blobs(state(names.caffe)).items() if "mbox" not in n}
    ramp = np.broadcast_to(np.arange(3, dtype=np.float32)[None, :, None, None], (64, 3, 3, 3))
    vgg["conv1_1"] = [ramp, vgg["conv1_1"][1].reshape(1, 1, 1, 64)]
    backbone = from_caffe_vgg16(vgg)
    np.testing.assert_array_equal(
        backbone.params["conv1_1"]["conv"]["kernel"][0, 0, :, 0], [2, 1, 0]
    )
    assert backbone.params["conv1_1"]["conv"]["bias"].shape == (64,)
    assert len(backbone.params) == 15


@pytest.mark.parametrize("naming", ["{layer}_{kind}_1:0", "{layer}/{layer}/{kind}:0"])
def test_the_h5_file(keras, tmp_path, naming):
    """In the flat naming of the published file, and in the nested one of later Keras."""
    notop = {name: weights for name, weights in keras.items() if name.startswith("block")}
    path = tmp_path / "vgg16_notop.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"input_1", *(name.encode() for name in notop)]
        file.create_group("input_1").attrs["weight_names"] = np.array([], "S1")
        for layer, weights in notop.items():
            group = file.create_group(layer)
            datasets = [naming.format(layer=layer, kind=kind) for kind in ("W", "b")]
            group.attrs["weight_names"] = [name.encode() for name in datasets]
            for name, array in zip(datasets, weights, strict=True):
                group[name] = array
    backbone = read_weights(path)
    np.testing.assert_array_equal(
        backbone.params["conv4_2"]["conv"]["kernel"], keras["block4_conv2"][0]
    )


def test_wrong_shapes_are_named(keras):
    with pytest.raises(ValueError, match=r"fc1\.weight has shape \[10, 10\], expected \[25088"):
        from_keras(keras | {"fc1": [np.zeros((10, 10), np.float32), np.zeros(10, np.float32)]})
    with pytest.raises(ValueError, match=r"Keras's VGG16: conv5_3\.bias, conv5_3\.weight missing"):
        from_keras({name: w for name, w in keras.items() if name != "block5_conv3"})


def test_another_network_of_keras_is_refused(keras):
    vgg19 = {f"block{stage}_conv4": keras[f"block{stage}_conv3"] for stage in (3, 4, 5)}
    with pytest.raises(
        ValueError, match=r"Keras's VGG16: it has no conv3_4\.weight, conv3_4\.bias"
    ):
        from_keras(keras | vgg19)
    with pytest.raises(ValueError, match=r"not Keras's VGG16: layer norm has 1 arrays"):
        from_keras(keras | {"norm": [np.zeros(3, np.float32)]})
