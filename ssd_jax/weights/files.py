"""Weights of other programs from the files they come in, recognised by what is inside."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ssd_jax.weights import backbone, detectors
from ssd_jax.weights.caffe_file import blobs_of, prior_boxes_of, read_net
from ssd_jax.weights.imported import Backbone, Imported
from ssd_jax.weights.keras_file import read_keras
from ssd_jax.weights.layout import State, first_few, without_prefix
from ssd_jax.weights.torch_file import read_torch

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"

_DETECTORS = {  # a name that no other kind has, and the importer
    "vgg.0.weight": detectors.from_ssd_pytorch,
    "backbone.vgg.0.weight": detectors.from_lufficc,
    "backbone.scale_weight": detectors.from_torchvision,
    "neck.l2_norm.weight": detectors.from_mmdetection,
}
_BACKBONES = {
    "features.1.running_mean": backbone.from_torchvision_vgg16_bn,
    "features.0.weight": backbone.from_torchvision_vgg16,
    "0.weight": backbone.from_ssd_pytorch_vgg16,
}


def read_weights(
    path: Path, *, class_names: Sequence[str] | None = None, dataset: str | None = None
) -> Imported | Backbone:
    """A whole detector, or VGG16's weights, from a file of any kind that docs/weights.md lists.

    Args:
      path: the file.
      class_names: a detector's, without background; None as of `from_ssd_pytorch`.
      dataset: 'voc' or 'coco', whose prior sizes a detector has; None as of `from_ssd_pytorch`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: its kind is not known, it is broken, or not the network it seems to be. The
        message starts with the path.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    with path.open("rb") as file:
        start = file.read(len(_HDF5))
    if start == _HDF5:
        weights = read_keras(path)
        return _named(path, lambda: backbone.from_keras(weights))
    if start.startswith((_ZIP, _PICKLE)):
        state = read_torch(path)
        return _named(path, lambda: _from_torch(state, class_names, dataset))
    return _from_caffe(path, class_names, dataset)


def _from_torch(
    state: State, class_names: Sequence[str] | None, dataset: str | None
) -> Imported | Backbone:
    state = without_prefix(state)
    for name, importer in _DETECTORS.items():
        if name in state:
            return importer(state, class_names=class_names, dataset=dataset)
    for name, of_backbone in _BACKBONES.items():
        if name in state:
            return of_backbone(state)
    if "backbone.features.0.weight" in state and "bbox_head.cls_convs.0.weight" in state:
        raise ValueError(
            "weights of mmdetection before 2.14: bring them to its newer names by its "
            "tools/model_converters/upgrade_ssd_version.py"
        )
    raise ValueError(
        f"names like {first_few(list(state))} are of no SSD or VGG16 that is known; expected one "
        "of " + ", ".join([*_DETECTORS, *_BACKBONES])
    )


def _from_caffe(
    path: Path, class_names: Sequence[str] | None, dataset: str | None
) -> Imported | Backbone:
    net = read_net(path)
    blobs = blobs_of(net, path)
    if "conv4_3_norm" not in blobs:
        return _named(path, lambda: backbone.from_caffe_vgg16(blobs))
    boxes = _named(path, lambda: prior_boxes_of(net))
    if boxes is not None and class_names is not None:
        dataset = dataset or "voc"  # the sizes follow from the file
    imported = _named(
        path, lambda: detectors.from_caffe(blobs, class_names=class_names, dataset=dataset)
    )
    if boxes is None:
        return imported
    sizes = boxes.sizes
    if len(sizes) != len(imported.priors.min_sizes) + 1:
        raise ValueError(
            f"{path}: its PriorBox layers have {len(sizes) - 1} sizes for "
            f"{len(imported.priors.min_sizes)} feature maps"
        )
    (height, width), maps = imported.priors.image_size, imported.priors.feature_maps
    divided = [(height / rows, width / columns) for rows, columns in maps]
    for stated, parts, step in zip(boxes.steps, divided, imported.priors.steps, strict=True):
        if (stated or parts) != step:
            said = f"a step of {stated}" if stated else f"no step, so Caffe's is {parts}"
            raise ValueError(f"{path}: its PriorBox layers have {said}, not {step}")
    priors = dataclasses.replace(
        imported.priors,
        min_sizes=sizes[:-1],
        max_sizes=sizes[1:],
        aspect_ratios=boxes.aspect_ratios,
        variances=boxes.variances,
    )
    return dataclasses.replace(imported, priors=priors)


def _named(path, build):
    """`build()`, its ValueErrors with the path in front."""
    try:
        return build()
    except ValueError as fault:
        raise ValueError(f"{path}: {fault}") from fault
