"""Reads .caffemodel files with the few fields of Caffe's schema that hold weights and priors.

Field numbers are those of BVLC's caffe.proto and of its SSD branch.
"""

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

_FIELD = descriptor_pb2.FieldDescriptorProto
_KINDS = {
    "int32": _FIELD.TYPE_INT32,
    "int64": _FIELD.TYPE_INT64,
    "float": _FIELD.TYPE_FLOAT,
    "double": _FIELD.TYPE_DOUBLE,
    "bool": _FIELD.TYPE_BOOL,
    "string": _FIELD.TYPE_STRING,
}
# message -> field: (number, type, how many); a type that is none of the above is a message.
_SCHEMA = {
    "BlobShape": {"dim": (1, "int64", "packed")},
    "BlobProto": {
        "num": (1, "int32", "one"),
        "channels": (2, "int32", "one"),
        "height": (3, "int32", "one"),
        "width": (4, "int32", "one"),
        "data": (5, "float", "packed"),
        "shape": (7, "BlobShape", "one"),
        "double_data": (8, "double", "packed"),
    },
    "PriorBoxParameter": {
        "min_size": (1, "float", "many"),
        "max_size": (2, "float", "many"),
        "aspect_ratio": (3, "float", "many"),
        "flip": (4, "bool", "one"),
        "clip": (5, "bool", "one"),
        "variance": (6, "float", "many"),
        "step": (10, "float", "one"),
        "step_h": (11, "float", "one"),
        "step_w": (12, "float", "one"),
        "offset": (13, "float", "one"),
    },
    "V1LayerParameter": {"name": (4, "string", "one"), "blobs": (6, "BlobProto", "many")},
    "LayerParameter": {
        "name": (1, "string", "one"),
        "type": (2, "string", "one"),
        "blobs": (7, "BlobProto", "many"),
        "prior_box_param": (203, "PriorBoxParameter", "one"),
    },
    "NetParameter": {
        "name": (1, "string", "one"),
        "layers": (2, "V1LayerParameter", "many"),
        "layer": (100, "LayerParameter", "many"),
    },
}


def _net_parameter() -> Any:
    """The class of the protobuf message NetParameter."""
    file = descriptor_pb2.FileDescriptorProto(
        name="ssd_jax/caffe.proto", package="ssd_jax.caffe", syntax="proto2"
    )
    for message, fields in _SCHEMA.items():
        described = file.message_type.add(name=message)
        for name, (number, kind, count) in fields.items():
            field = described.field.add(name=name, number=number)
            field.label = _FIELD.LABEL_OPTIONAL if count == "one" else _FIELD.LABEL_REPEATED
            field.type = _KINDS.get(kind, _FIELD.TYPE_MESSAGE)
            if kind not in _KINDS:
                field.type_name = f".{file.package}.{kind}"
            if count == "packed":
                field.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName(f"{file.package}.NetParameter")
    )


NetParameter = _net_parameter()


def read_net(path: Path) -> Any:
    """The file as a NetParameter.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no caffemodel, or cut short.
    """
    net = NetParameter()
    try:
        net.ParseFromString(path.read_bytes())
    except DecodeError as fault:
        raise ValueError(
            f"{path} is neither Keras's HDF5 nor PyTorch's .pth, and no whole .caffemodel: {fault}"
        ) from fault
    return net


def read_caffemodel(path: Path) -> dict[str, list[np.ndarray]]:
    """The blobs of every layer that has some, float32, by the layer's name.

    Raises:
      FileNotFoundError, ValueError: as of `read_net`; or a blob is not of its shape, or the file
        holds none.
    """
    return blobs_of(read_net(path), path)


def blobs_of(net: Any, path: Path) -> dict[str, list[np.ndarray]]:
    """As `read_caffemodel`, of a file that was read."""
    layers = {layer.name: layer.blobs for layer in [*net.layers, *net.layer] if layer.blobs}
    if not layers:
        raise ValueError(f"{path} is no .caffemodel with weights: no layer in it has blobs")
    return {
        name: [_array(blob, f"{path}: {name}") for blob in blobs] for name, blobs in layers.items()
    }


class PriorBoxes(NamedTuple):
    """What a file's own PriorBox layers say, the smallest boxes first.

    Attributes:
      sizes: min sizes, and the last max size, in whole pixels, as Caffe's layer takes them.
      aspect_ratios: of each layer, without 1 and without the inverses that it adds.
      steps: pixels between priors, down and across; None where Caffe divides the picture's side by
        the feature map's.
      variances: of centres and of sizes.
    """

    sizes: tuple[float, ...]
    aspect_ratios: tuple[tuple[float, ...], ...]
    steps: tuple[tuple[float, float] | None, ...]
    variances: tuple[float, float]


def prior_boxes_of(net: Any) -> PriorBoxes | None:
    """The priors of the file's PriorBox layers; None where it has none.

    Raises:
      ValueError: they are of a kind that there is not here.
    """
    layers = [layer for layer in net.layer if layer.type == "PriorBox"]
    if not layers:
        return None
    for layer in layers:
        _check_prior_box(layer)
    boxes = sorted((layer.prior_box_param for layer in layers), key=lambda box: box.min_size[0])
    for box, larger in itertools.pairwise(boxes):
        if int(box.max_size[0]) != int(larger.min_size[0]):
            raise ValueError(
                f"its PriorBox layers have a max_size of {box.max_size[0]:g} and the next min_size "
                f"of {larger.min_size[0]:g}: here these are one"
            )
        if _variances(box) != _variances(larger):
            raise ValueError("its PriorBox layers differ in their variances, which here do not")
    centre, _, size, _ = _variances(boxes[0])
    return PriorBoxes(
        sizes=(*(float(int(box.min_size[0])) for box in boxes), float(int(boxes[-1].max_size[0]))),
        aspect_ratios=tuple(tuple(r for r in box.aspect_ratio if r != 1) for box in boxes),
        steps=tuple(_step(box) for box in boxes),
        variances=(round(centre, 6), round(size, 6)),  # they are float32
    )


def _check_prior_box(layer: Any) -> None:
    box = layer.prior_box_param
    variances = _variances(box)
    wrong = {
        "min_size": len(box.min_size) != 1,
        "max_size": len(box.max_size) != 1,
        "flip": box.HasField("flip") and not box.flip,
        "clip": box.clip,  # of corners; `priors.clip` knows other programs' ways
        "variance": len(variances) != 4 or variances[::2] != variances[1::2],
        "offset": box.HasField("offset") and box.offset != 0.5,
    }
    for field, is_wrong in wrong.items():
        if is_wrong:
            raise ValueError(
                f"its layer {layer.name} has a prior_box_param.{field} that priors have not here"
            )


def _step(box: Any) -> tuple[float, float] | None:
    """Down and across, as Caffe reads them."""
    if box.HasField("step_h") or box.HasField("step_w"):
        return box.step_h, box.step_w
    return (box.step, box.step) if box.HasField("step") else None


def _variances(box: Any) -> list[float]:
    """Of x, y, width and height, as Caffe reads them: one is for all, none is .1."""
    given = list(box.variance) or [0.1]
    return given * 4 if len(given) == 1 else given


def _array(blob: Any, what: str) -> np.ndarray:
    values = np.array(blob.data or blob.double_data, np.float32)
    shape = (
        list(blob.shape.dim)
        if blob.HasField("shape")
        else [blob.num, blob.channels, blob.height, blob.width]
    )
    if values.size != np.prod(shape):
        raise ValueError(f"{what} has {values.size} numbers for shape {shape}")
    return values.reshape(shape)
