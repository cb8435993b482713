"""VGG16 trained on ImageNet, from every form in which it is handed round, for the backbone.

fc6 and fc7 are subsampled from the classifier's fc1 and fc2 where the source has these: every third
row and column and every fourth channel (DeepLab's way, arXiv 1412.7062; SSD, section 3).
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from flax.traverse_util import unflatten_dict

from ssd_jax.priors import VOC300
from ssd_jax.weights import names
from ssd_jax.weights.detectors import caffe_state
from ssd_jax.weights.imported import Backbone, Preprocessing
from ssd_jax.weights.layout import Shape, State, first_few, rename, to_theirs, turn_bgr

_FULLY_CONNECTED = ("fc6", "fc7")
_KERNEL_ROWS = 7  # of fc1's kernel, which is as large as its feature map
_ROW_STEP, _CHANNEL_STEP = 3, 4

_TORCHVISION_CLASSIFIER = {
    "classifier.0.weight": (4096, 25088),
    "classifier.0.bias": (4096,),
    "classifier.3.weight": (4096, 4096),
    "classifier.3.bias": (4096,),
}
_TORCHVISION_PREPROCESSING = Preprocessing(
    (0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255)
)
_TORCH_NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def from_keras(weights: Mapping[str, Sequence[np.ndarray]]) -> Backbone:
    """Keras's VGG16, with its classifier or ("notop") without.

    Args:
      weights: layer -> [kernel, bias], as `ssd_jax.weights.keras_file.read_keras` returns them.

    Raises:
      ValueError: a layer is missing, or a shape is not VGG16's.
    """
    state = {}
    for layer, of_layer in weights.items():
        if len(of_layer) != 2:
            raise ValueError(
                f"not Keras's VGG16: layer {layer} has {len(of_layer)} arrays, not kernel and bias"
            )
        kernel, bias = of_layer
        name = layer.replace("block", "conv").replace("_conv", "_")  # block1_conv1: conv1_1
        state[f"{name}.weight"], state[f"{name}.bias"] = to_theirs(kernel), bias
    if "fc1.weight" in state:
        _check(state, {"fc1.weight": (25088, 4096), "fc2.weight": (4096, 4096)})
        rows = _KERNEL_ROWS
        fc1 = state["fc1.weight"].reshape(rows, rows, 512, 4096).transpose(3, 2, 0, 1)
        state |= _subsampled(fc1, state["fc1.bias"], state["fc2.weight"].T, state["fc2.bias"])
    params = _backbone(state, names.caffe, "Keras's VGG16", bgr=True)
    # Keras's "caffe" preprocessing: BGR minus (103.939, 116.779, 123.68).
    return Backbone(params, Preprocessing((123.68, 116.779, 103.939)), "Keras VGG16")


def from_torchvision_vgg16(state: State) -> Backbone:
    """VGG16 of torchvision: `vgg16-397923af.pth`, or `vgg16_features-amdegroot-88682ab5.pth`.

    The latter's classifier holds no numbers, so fc6 and fc7 stay fresh; and its features expect
    other preprocessing.

    Raises:
      ValueError: a layer is missing, or a shape is not VGG16's.
    """
    _check(state, _TORCHVISION_CLASSIFIER)
    features = _features(state)
    fc1 = state["classifier.0.weight"]
    if not np.all(np.isfinite(fc1)) or not np.any(fc1):
        params = _backbone(features, _place, "torchvision's VGG16 features")
        mean = (0.48235 * 255, 0.45882 * 255, 0.40784 * 255)
        return Backbone(params, Preprocessing(mean), "torchvision VGG16 features")
    params = _backbone(features | _torchvision_reduced(state), _place, "torchvision's VGG16")
    return Backbone(params, _TORCHVISION_PREPROCESSING, "torchvision VGG16")


def from_torchvision_vgg16_bn(state: State) -> Backbone:
    """VGG16 with batch norm of torchvision: `vgg16_bn-6c64b313.pth`.

    Here no convolution before a batch norm has a bias: theirs go into the running means. fc6 and
    fc7, which have no batch norm there, come without their biases, which batch norm would subtract.

    Raises:
      ValueError: a layer is missing, or a shape is not VGG16's.
    """
    _check(state, _TORCHVISION_CLASSIFIER)
    features = _features(state)
    # Before each convolution the list has a batch norm more than that of the plain VGG16.
    places = {layer: place + number for number, (layer, place) in enumerate(names.vgg_layers())}
    plain = {
        f"{names.VGG_PLACES[layer]}.{kind}": features[f"{own}.{kind}"]
        for layer, own in places.items()
        for kind in ("weight", "bias")
        if f"{own}.{kind}" in features
    }
    what = "torchvision's VGG16 with batch norm"
    params = _backbone(plain | _torchvision_reduced(state), _place, what)
    biases = {layer: unit["conv"].pop("bias") for layer, unit in params.items()}
    batch_stats = {}
    for layer, own in places.items():
        norm = {kind: f"{own + 1}.{name}" for kind, name in _TORCH_NORM.items()}
        _check(features, dict.fromkeys(norm.values(), biases[layer].shape))
        scale, bias, mean, var = (np.asarray(features[norm[kind]]) for kind in _TORCH_NORM)
        params[layer]["bn"] = {"scale": scale, "bias": bias}
        batch_stats[layer] = {"bn": {"mean": mean - biases[layer], "var": var}}
    return Backbone(
        params, _TORCHVISION_PREPROCESSING, "torchvision VGG16 with batch norm", batch_stats
    )


def from_ssd_pytorch_vgg16(state: State) -> Backbone:
    """ssd.pytorch's `vgg16_reducedfc.pth`.

    Raises:
      ValueError: a layer is missing, or a shape is not that of a VGG16 with reduced fc6 and fc7.
    """
    params = _backbone(state, _place, "ssd.pytorch's VGG16")
    return Backbone(params, Preprocessing((123.0, 117.0, 104.0)), "ssd.pytorch VGG16")


def from_caffe_vgg16(blobs: Mapping[str, Sequence[np.ndarray]]) -> Backbone:
    """Caffe's `VGG_ILSVRC_16_layers_fc_reduced.caffemodel`, by its layers' blobs.

    Raises:
      ValueError: a layer is missing, or a shape is not that of a VGG16 with reduced fc6 and fc7.
    """
    params = _backbone(caffe_state(blobs), names.caffe, "Caffe's VGG16 with reduced fc", bgr=True)
    return Backbone(params, Preprocessing((123.0, 117.0, 104.0)), "Caffe VGG16")


def _features(state: State) -> dict[str, np.ndarray]:
    """The convolutions by their places: '0.weight'."""
    prefix = "features."
    return {n.removeprefix(prefix): a for n, a in state.items() if n.startswith(prefix)}


def _torchvision_reduced(state: State) -> dict[str, np.ndarray]:
    """fc6 and fc7 by their places, from torchvision's classifier."""
    reduced = _subsampled(
        state["classifier.0.weight"].reshape(4096, 512, _KERNEL_ROWS, _KERNEL_ROWS),
        state["classifier.0.bias"],
        state["classifier.3.weight"],
        state["classifier.3.bias"],
    )
    return {
        f"{names.VGG_PLACES[layer]}.{kind}": reduced[f"{layer}.{kind}"]
        for layer in _FULLY_CONNECTED
        for kind in ("weight", "bias")
    }


def _place(layer: names.Layer) -> str:
    """The place in one list of all layers: '0', '2', '5'."""
    return str(names.VGG_PLACES[layer[1]])


def _subsampled(
    fc1: np.ndarray, fc1_bias: np.ndarray, fc2: np.ndarray, fc2_bias: np.ndarray
) -> dict[str, np.ndarray]:
    """fc6 and fc7 from fc1 (4096, 512, 7, 7) and fc2 (4096, 4096), outputs first."""
    every = slice(None, None, _CHANNEL_STEP)
    rows = slice(None, None, _ROW_STEP)
    return {
        "fc6.weight": fc1[every, :, rows, rows],
        "fc6.bias": fc1_bias[every],
        "fc7.weight": fc2[every, every, None, None],
        "fc7.bias": fc2_bias[every],
    }


def _check(state: State, shapes: Mapping[str, Shape]) -> None:
    for name, shape in shapes.items():
        met = state[name].shape if name in state else None
        if met != shape:
            raise ValueError(
                f"not VGG16's weights: {name} has shape {met and list(met)}, expected {list(shape)}"
            )


def _backbone(state: State, name_of: names.NameOf, what: str, bgr: bool = False) -> dict:
    """The parameters of the backbone, without fc6 and fc7 if the state has neither.

    Layers of the classifier that SSD does without may be in the state too.
    """
    shapes = {p: s for p, s in names.shapes(21, VOC300).items() if p[0] == "backbone"}
    reduced = {p for p in shapes if p[1] in _FULLY_CONNECTED}
    if not any(names.parameter(name_of, path) in state for path in reduced):
        shapes = {path: shape for path, shape in shapes.items() if path not in reduced}
    known = {names.parameter(name_of, path) for path in shapes}
    # Such as VGG19's, whose other layers would fit.
    strange = [n for n in state if re.match(r"conv[1-5]_\d\.", n) and n not in known]
    if strange:
        raise ValueError(f"not the weights of {what}: it has no {first_few(strange)}")
    flat = rename({n: a for n, a in state.items() if n in known}, name_of, shapes, what)
    if bgr:
        turn_bgr(flat)
    return unflatten_dict(flat)["backbone"]
