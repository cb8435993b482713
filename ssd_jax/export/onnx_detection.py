"""Decoding, softmax and non-maximum suppression as ONNX nodes: `ssd_jax.detection.detect`."""

import numpy as np
from jaxtyping import Float32

from ssd_jax.export.onnx_graph import FLOAT, INT32, Graph


def add_detection(
    graph: Graph,
    loc: str,
    conf: str,
    priors: Float32[np.ndarray, "P 4"],
    *,
    variances: tuple[float, float],
    score_threshold: float,
    iou_threshold: float,
    pre_nms_top_k: int,
    max_detections: int,
    clip: str,
    batch_of: str,
) -> None:
    """Adds the outputs `boxes` [B, K, 4], `scores` [B, K] and `labels` int32 [B, K].

    Args:
      graph: to add to.
      loc: name of the offsets, [B, 4, P].
      conf: name of the class logits, background first, [B, C, P].
      priors: centre form, in the order of the logits.
      variances, score_threshold, iou_threshold, pre_nms_top_k, max_detections, clip: as of
        `ssd_jax.detection.detect`.
      batch_of: name of an input of the graph with B images. (Of any other value than an input,
        OpenVINO would keep what computes it from being fused with what follows.)
    """
    pre_nms_top_k = min(pre_nms_top_k, len(priors))
    boxes = _decode(graph, loc, priors, variances)
    if clip == "before":
        boxes = _clipped(graph, boxes)
    boxes = graph.add("Transpose", boxes, perm=[0, 2, 1])
    scores = _class_scores(graph, conf, score_threshold, pre_nms_top_k)
    kept = graph.add(
        "NonMaxSuppression",
        boxes,
        scores,
        graph.constant([pre_nms_top_k]),
        graph.constant(np.array([iou_threshold], np.float32)),
        graph.constant(np.array([score_threshold], np.float32)),
    )
    _best_of_images(graph, boxes, scores, kept, batch_of, max_detections, clip)


def _decode(
    graph: Graph,
    loc: str,
    priors: Float32[np.ndarray, "P 4"],
    variances: tuple[float, float],
) -> str:
    """Corner-form boxes as planes, [B, 4, P] (`ssd_jax.boxes.decode`)."""
    split = graph.constant([2, 2])
    shifts, scales = graph.add_many("Split", loc, split, names=["shifts", "scales"], axis=1)
    planes = priors.T[None]
    sides = planes[:, 2:]
    moved = graph.add("Mul", shifts, graph.constant(np.float32(variances[0]) * sides))
    centers = graph.add("Add", moved, graph.constant(planes[:, :2]))
    grown = graph.add("Exp", graph.add("Mul", scales, graph.constant(np.float32(variances[1]))))
    halves = graph.add("Mul", grown, graph.constant(sides / 2))
    corners = [graph.add("Sub", centers, halves), graph.add("Add", centers, halves)]
    return graph.add("Concat", *corners, axis=1)


def _clipped(graph: Graph, boxes: str) -> str:
    low, high = graph.constant(np.float32(0)), graph.constant(np.float32(1))
    return graph.add("Clip", boxes, low, high)


def _class_scores(graph: Graph, conf: str, threshold: float, top_k: int) -> str:
    """Probabilities of the foreground, [B, C - 1, P]: of each class the `top_k` best, others 0.

    Non-maximum suppression goes from the best to the worst, so what is below the `top_k` best of a
    class changes nothing among them. Hence nothing is sorted unless some class has more above the
    threshold than that, which ordinary pictures do not have.
    """
    probabilities = graph.add("Softmax", conf, axis=1)
    first, end, axis = graph.constant([1]), graph.constant([2**31 - 1]), graph.constant([1])
    scores = graph.add("Slice", probabilities, first, end, axis)
    above = graph.add("Greater", scores, graph.constant(np.float32(threshold)))
    counts = graph.add(
        "ReduceSum", graph.add("Cast", above, to=INT32), graph.constant([2]), keepdims=0
    )
    crowded = graph.add("Greater", counts, graph.constant(np.int32(top_k)))
    at = graph.add("Transpose", graph.add("NonZero", crowded), perm=[1, 0])
    k = graph.constant([top_k])
    of_class = graph.add("GatherND", scores, at)
    best, _ = graph.add_many("TopK", of_class, k, names=["", ""], sorted=0)
    last = graph.add("ReduceMin", best, axis, keepdims=0)
    zeros = graph.add("Cast", graph.add("Less", counts, graph.constant(np.int32(0))), to=FLOAT)
    floor = graph.add("Unsqueeze", graph.add("ScatterND", zeros, at, last), graph.constant([2]))
    enough = graph.add("GreaterOrEqual", scores, floor)
    return graph.add("Where", enough, scores, graph.constant(np.float32(0)))


def _best_of_images(
    graph: Graph,
    boxes: str,
    scores: str,
    kept: str,
    batch_of: str,
    max_detections: int,
    clip: str,
) -> None:
    """The best of all classes of each image, padded.

    `kept` is [N, 3], rows (image, class, prior) by image, class and falling score. They are few:
    each image ranks all of them, with those of other images at score 0.
    """
    image, of_class, prior = graph.add_many(
        "Split", kept, names=["kept/image", "kept/class", "kept/prior"], axis=1, num_outputs=3
    )
    at = graph.add("Concat", image, prior, axis=1)
    # As many rows of score 0 as can be asked for, so that there are always enough.
    padding = graph.constant([0, max_detections])
    rows_padding = graph.constant([0, 0, max_detections, 0])
    found = graph.add("Pad", graph.add("GatherND", scores, kept), padding)
    corners = graph.add("Pad", graph.add("GatherND", boxes, at), rows_padding)
    label = graph.add("Add", of_class, graph.constant([1]))
    label = graph.add("Pad", graph.add("Cast", label, to=INT32), rows_padding)
    image = graph.add("Pad", image, rows_padding)

    zero, one = (graph.constant(np.array(i, np.int64)) for i in (0, 1))
    batch = graph.add("Squeeze", graph.add("Shape", batch_of, end=1))
    axis = graph.constant([1])
    images = graph.add("Unsqueeze", graph.add("Range", zero, batch, one), axis)
    own = graph.add("Equal", images, graph.add("Transpose", image))
    nothing = graph.constant(np.float32(0))
    ranked = graph.add("Where", own, found, nothing)
    k = graph.constant([max_detections])
    best, index = graph.add_many("TopK", ranked, k, names=["scores", "ranks"])

    filled = graph.add("Greater", best, nothing)
    labels = graph.add("Gather", graph.add("Squeeze", label, axis), index)
    graph.add("Where", filled, labels, graph.constant(np.int32(0)), name="labels")
    chosen = graph.add("Gather", corners, index)
    if clip == "after":
        chosen = _clipped(graph, chosen)
    last = graph.constant([2])
    graph.add("Where", graph.add("Unsqueeze", filled, last), chosen, nothing, name="boxes")
