"""From uint8 pictures on a canvas to the network's input, as ONNX nodes."""

import numpy as np

from ssd_jax.export.onnx_graph import FLOAT, INT32, Graph


def add_resize(
    graph: Graph,
    images: str,
    sizes: str,
    *,
    image_size: tuple[int, int],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> str:
    """Adds what `ssd_jax.augment.resize_for_evaluation` does.

    Where an output pixel lies between the pixels of the picture is computed in whole numbers:
    runtimes may compute floats in bfloat16, which has no eighth bit left for a position above 256.

    Args:
      graph: to add to.
      images: name of the canvases, uint8 [B, S, S', 3] of any S and S'.
      sizes: name of (height, width) of the picture at the top left of each, int32 [B, 2].
      image_size: (height, width) of the network's input, pixels.
      mean: to subtract a channel.
      std: to divide by, after that.

    Returns:
      The name of the input, float [B, 3, H, W].
    """
    heights, widths = graph.add_many(
        "Split", sizes, names=["heights", "widths"], axis=1, num_outputs=2
    )
    x = graph.add("Transpose", images, perm=[0, 3, 1, 2])
    # Normalised first (weights sum to one): OpenVINO multiplies integers' casts in float32 only.
    x = graph.add("Sub", graph.add("Cast", x, to=FLOAT), graph.constant(_planes(mean)))
    if std != (1.0, 1.0, 1.0):
        x = graph.add("Div", x, graph.constant(_planes(std)))
    rows = _weights(graph, heights, graph.add("Shape", images, start=1, end=2), image_size[0])
    columns = _weights(graph, widths, graph.add("Shape", images, start=2, end=3), image_size[1])
    x = graph.add("MatMul", graph.add("Transpose", rows, perm=[0, 1, 3, 2]), x)
    return graph.add("MatMul", x, columns)


def _weights(graph: Graph, size: str, canvas: str, output: int) -> str:
    """Weights of canvas pixels in output pixels, [B, 1, S, output]."""
    below, above, fraction = _taps(graph, size, output)
    zero, one = (graph.constant(np.array(i, np.int32)) for i in (0, 1))
    count = graph.add("Squeeze", graph.add("Cast", canvas, to=INT32))
    pixel = graph.add("Unsqueeze", graph.add("Range", zero, count, one), graph.constant([0, 2]))
    axis = graph.constant([1])
    remainder = graph.add("Sub", graph.constant(np.float32(1)), fraction)
    weights = []
    for place, share in ((below, remainder), (above, fraction)):
        here = graph.add("Equal", graph.add("Unsqueeze", place, axis), pixel)
        taken = graph.add("Unsqueeze", share, axis)
        weights.append(graph.add("Where", here, taken, graph.constant(np.float32(0))))
    return graph.add("Unsqueeze", graph.add("Add", *weights), axis)


def _taps(graph: Graph, size: str, output: int) -> tuple[str, str, str]:
    """For each output pixel, [B, output]: the two pixels it lies between, and how near the second.

    The position is (i + 1/2) size / output - 1/2, at least 0: a fraction over 2 output.
    """
    whole = graph.constant(np.array([2 * output], np.int32))
    odd = graph.constant((2 * np.arange(output, dtype=np.int32) + 1)[None, :])
    scaled = graph.add(
        "Sub", graph.add("Mul", size, odd), graph.constant(np.array([output], np.int32))
    )
    scaled = graph.add("Max", scaled, graph.constant(np.array([0], np.int32)))
    below = graph.add("Div", scaled, whole)
    rest = graph.add("Sub", scaled, graph.add("Mul", below, whole))
    fraction = graph.add(
        "Div",
        graph.add("Cast", rest, to=FLOAT),
        graph.constant(np.array([2 * output], np.float32)),
    )
    one = graph.constant(np.array([1], np.int32))
    above = graph.add("Min", graph.add("Add", below, one), graph.add("Sub", size, one))
    return below, above, fraction


def _planes(values: tuple[float, float, float]) -> np.ndarray:
    return np.array(values, np.float32)[None, :, None, None]
