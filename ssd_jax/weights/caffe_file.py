"""Reads .caffemodel files with the few fields of Caffe's schema that hold weights and priors.

Field numbers are those of BVLC's caffe.proto and of its SSD branch.
"""

from pathlib import Path
from typing import Any

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
        "clip": (5, "bool", "one"),
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
        raise ValueError(f"{path} is no whole .caffemodel: {fault}") from fault
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


def prior_sizes(net: Any) -> tuple[float, ...] | None:
    """The sizes of the priors that the file's own PriorBox layers have, min sizes and last max.

    In whole pixels, as Caffe's layer takes them. None where the file has no such layers.
    """
    parameters = [layer.prior_box_param for layer in net.layer if layer.type == "PriorBox"]
    if not parameters:
        return None
    smallest = sorted(int(parameter.min_size[0]) for parameter in parameters)
    largest = max(int(parameter.max_size[0]) for parameter in parameters)
    return (*map(float, smallest), float(largest))


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
