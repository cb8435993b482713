"""The SSD network as ONNX nodes, channels first throughout.

Runtimes on CPUs compute convolutions channels first; a graph made from JAX's NHWC one has a
transpose before and after each. Here the only layout changes are those of the input picture. The
heads' outputs come out as planes, [B, 4 + C, P], without a transpose: for that their channels are
in another order than in the checkpoint, and so are the priors (`plane_order`).
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from ssd_jax.export.onnx_graph import Graph
from ssd_jax.model import BATCH_NORM_EPSILON, SSD, VGG_STAGES
from ssd_jax.priors import PriorSpec, extra_convolutions

Arrays = dict[str, Any]


def add_network(graph: Graph, model: SSD, variables: Arrays, images: str) -> tuple[str, str]:
    """Adds the network.

    Args:
      graph: to add to.
      model: its shape.
      variables: what `model.apply` takes, as NumPy arrays.
      images: name of the input, normalised pixels [B, 3, H, W].

    Returns:
      The names of the offsets [B, 4, P] and of the class logits [B, C, P], priors in the order of
      `plane_order`.

    Raises:
      ValueError: its backbone is another than VGG16.
    """
    params = variables["params"]
    if model.backbone is not None:
        raise ValueError(
            f"ONNX files are of SSD on VGG16 only, not on {type(model.backbone).__name__}: "
            "take the format stablehlo"
        )
    statistics = variables.get("batch_stats", {})

    def unit(x: str, part: str, layer: str, **attributes: Any) -> str:
        unit_params = params[part][layer]
        running = statistics.get(part, {}).get(layer, {})
        kernel, bias = _folded(unit_params["conv"], unit_params.get("bn"), running.get("bn"))
        return graph.add(
            "Relu", _conv(graph, x, kernel, bias, name=f"{part}/{layer}", **attributes)
        )

    x = images
    features = []
    for stage, channels in enumerate(VGG_STAGES, start=1):
        for layer in range(1, len(channels) + 1):
            x = unit(x, "backbone", f"conv{stage}_{layer}", pads=[1] * 4)
        if stage == 4:
            features.append(_unit_length(graph, x))
        if stage == 5:
            x = graph.add("MaxPool", x, kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)
        else:
            ceil = int(stage == 3)
            x = graph.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=ceil)
    x = unit(x, "backbone", "fc6", pads=[6] * 4, dilations=[6, 6])
    x = unit(x, "backbone", "fc7")
    features.append(x)
    for level, shape in enumerate(extra_convolutions(model.priors.image_size), start=6):
        x = unit(x, "extras", f"conv{level}_1")
        x = unit(x, "extras", f"conv{level}_2", pads=[*shape.padding] * 2, strides=shape.stride)
        features.append(x)
    return _add_heads(graph, model, params, statistics.get("heads", {}), features)


def plane_order(spec: PriorSpec, priors: Float32[np.ndarray, "P 4"]) -> Float32[np.ndarray, "P 4"]:
    """The priors in the order of the outputs here: level, then box of the cell, row, column."""
    levels, first = [], 0
    for (rows, columns), boxes in zip(spec.feature_maps, spec.boxes_per_cell, strict=True):
        count = rows * columns * boxes
        level = priors[first : first + count].reshape(rows, columns, boxes, 4)
        levels.append(level.transpose(2, 0, 1, 3).reshape(count, 4))
        first += count
    return np.concatenate(levels)


def _add_heads(
    graph: Graph, model: SSD, params: Arrays, statistics: Arrays, features: list[str]
) -> tuple[str, str]:
    """One convolution a level to offsets and logits: channels are output-major, then the box."""
    planes = []
    # conv4_3's scale a channel goes into the weights that read it.
    scales = [params["l2norm"]["scale"], *[None] * (len(features) - 1)]
    for level, boxes in enumerate(model.priors.boxes_per_cell):
        kernels, biases = [], []
        for kind in ("loc", "conf"):
            name, norm = f"{kind}_{level}", f"{kind}_{level}_bn"
            kernel, bias = _folded(
                params["heads"][name], params["heads"].get(norm), statistics.get(norm)
            )
            kernels.append(_output_major(kernel, boxes))
            biases.append(_output_major(bias, boxes))
        kernel, bias = np.concatenate(kernels, axis=-1), np.concatenate(biases)
        if (scale := scales[level]) is not None:
            kernel = kernel * np.asarray(scale)[:, None]
        x = _conv(graph, features[level], kernel, bias, name=f"heads/{level}", pads=[1] * 4)
        shape = graph.constant([0, 4 + model.num_classes, -1])
        planes.append(graph.add("Reshape", x, shape))
    outputs = graph.add("Concat", *planes, axis=2)
    split = graph.constant([4, model.num_classes])
    loc, conf = graph.add_many("Split", outputs, split, names=["loc", "conf"], axis=1)
    return loc, conf


def _output_major(parameter: np.ndarray, boxes: int) -> np.ndarray:
    """From channels (box, output) to (output, box) along the last axis."""
    apart = parameter.reshape(*parameter.shape[:-1], boxes, -1)
    return apart.swapaxes(-1, -2).reshape(parameter.shape)


def _folded(
    conv: Arrays, norm: Arrays | None, statistics: Arrays | None
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of a convolution, with the batch norm that follows it, if any, folded in."""
    kernel = np.asarray(conv["kernel"])
    if norm is None or statistics is None:
        return kernel, np.asarray(conv["bias"])
    mean, variance = (np.asarray(statistics[name]) for name in ("mean", "var"))
    factor = np.asarray(norm["scale"]) / np.sqrt(variance + np.float32(BATCH_NORM_EPSILON))
    return kernel * factor, np.asarray(norm["bias"]) - mean * factor


def _conv(
    graph: Graph,
    x: str,
    kernel: Float[np.ndarray, "kh kw I O"],
    bias: Float[np.ndarray, " O"],
    *,
    name: str,
    **attributes: Any,
) -> str:
    return graph.add(
        "Conv",
        x,
        graph.constant(kernel.transpose(3, 2, 0, 1).astype(np.float32), f"{name}/kernel"),
        graph.constant(bias.astype(np.float32), f"{name}/bias"),
        name=name,
        kernel_shape=kernel.shape[:2],
        **attributes,
    )


def _unit_length(graph: Graph, x: str) -> str:
    """`L2Norm` without its scale."""
    channels = graph.constant([1])
    squares = graph.add("ReduceSumSquare", x, channels, keepdims=1)
    epsilon = graph.constant(np.float32(1e-10))
    return graph.add("Div", x, graph.add("Sqrt", graph.add("Add", squares, epsilon)))
