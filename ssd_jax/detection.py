"""From the network's outputs to detections: decoding and per-class non-maximum suppression."""

import functools
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int, UInt32

from ssd_jax.boxes import decode, iou, sides_and_area

Clip = Literal["before", "after", "never"]

BITS = 32
"""Booleans in a word."""

ROUNDS = 4
"""Rounds of NMS between two looks whether it is done: a GPU has to wait for the look."""


class Detections(NamedTuple):
    """Detections of a batch, an image's best first, padded with score 0, label 0 and box 0."""

    boxes: Float[Array, "*B K 4"]
    scores: Float[Array, "*B K"]
    labels: Int[Array, "*B K"]


def nms(
    boxes: Float[Array, "K 4"], valid: Bool[Array, "K"], iou_threshold: float
) -> Bool[Array, "K"]:
    """Greedy non-maximum suppression: which boxes stay.

    A box stays unless its IoU with a better one that stays is above the threshold. That rule has
    exactly one solution, and repeating it from any start reaches it: after round r the first r
    boxes are right. As many rounds are needed as the longest chain of boxes that suppress each
    other has links; every ROUNDS rounds it looks whether anything still changes.

    Args:
        boxes: corner form, best first.
        valid: the boxes that take part; the others neither stay nor suppress.
        iou_threshold: boxes that overlap more than this suppress each other.
    """
    suppressors = _suppressors(boxes, iou_threshold)

    def unstable(state: tuple[Bool[Array, "K"], Bool[Array, "K"]]) -> Bool[Array, ""]:
        before, keep = state
        return jnp.any(before != keep)

    def suppress(
        state: tuple[Bool[Array, "K"], Bool[Array, "K"]],
    ) -> tuple[Bool[Array, "K"], Bool[Array, "K"]]:
        _, keep = state
        for _ in range(ROUNDS):
            before, keep = keep, valid & ~jnp.any(suppressors & _pack(keep)[:, None], axis=0)
        return before, keep

    _, keep = jax.lax.while_loop(unstable, suppress, (jnp.zeros_like(valid), valid))
    return keep


def _suppressors(boxes: Float[Array, "K 4"], iou_threshold: float) -> UInt32[Array, "W K"]:
    """Which better boxes overlap each box more than the threshold, packed as `_pack` does."""
    count = boxes.shape[0]
    words = -(-count // BITS)
    sides = jnp.stack(sides_and_area(boxes))
    others = jnp.pad(sides, ((0, 0), (0, words * BITS - count))).reshape(5, BITS, words)
    order = jnp.arange(BITS * words).reshape(BITS, words)

    def bit(number: int) -> UInt32[Array, "W K"]:
        overlap = iou(others[:, number, :, None], sides[:, None, :])
        is_better = order[number, :, None] < jnp.arange(count)[None, :]
        return ((overlap > iou_threshold) & is_better).astype(jnp.uint32) << number

    # Written out for one kernel, which XLA vectorises on a CPU.
    return functools.reduce(jnp.bitwise_or, map(bit, range(BITS)))


def _pack(flags: Bool[Array, "K"]) -> UInt32[Array, "W"]:
    """Booleans as bits: number i is bit i // W of word i % W."""
    words = -(-flags.size // BITS)
    rows = jnp.pad(flags, (0, words * BITS - flags.size)).reshape(BITS, words)
    shifts = jnp.arange(BITS, dtype=jnp.uint32)[:, None]
    return jnp.sum(rows.astype(jnp.uint32) << shifts, axis=0, dtype=jnp.uint32)


def detect(
    loc: Float[Array, "B P 4"],
    conf_logits: Float[Array, "B P C"],
    priors: Float[Array, "P 4"],
    *,
    score_threshold: float = 0.01,
    iou_threshold: float = 0.45,
    pre_nms_top_k: int = 400,
    max_detections: int = 200,
    clip: Clip = "after",
    variances: tuple[float, float] = (0.1, 0.2),
) -> Detections:
    """Detections of a batch from the network's outputs (SSD, section 3.1 and 3.7, inference).

    For each class but background: the priors that score above `score_threshold`, of them the best
    `pre_nms_top_k`, of them those that NMS keeps; then the best of all classes. Equal scores rank
    by class, then by prior.

    Args:
        loc: predicted offsets.
        conf_logits: class logits, background first.
        priors: centre form.
        score_threshold: a detection's score is above this.
        iou_threshold: two detections of one class overlap at most so much.
        pre_nms_top_k: priors of one class that go into NMS at most.
        max_detections: K, detections of one image at most.
        clip: when boxes are clipped to the image: 'after' all else (Caffe); 'before' NMS, which
            then compares what is left of them (torchvision, mmdetection); or 'never' (ssd.pytorch).
        variances: as for `decode`; of a `PriorSpec` its `variances`, which the priors do not tell.

    Returns:
        Detections with boxes [B, K, 4] in corner form, relative to the image, scores [B, K] and
        labels [B, K] int32.

    Raises:
        ValueError: an unknown `clip`.
    """
    if clip not in get_args(Clip):
        raise ValueError(f"clip is {clip!r}: it must be one of {', '.join(get_args(Clip))}")

    def detect_image(loc: Float[Array, "P 4"], conf_logits: Float[Array, "P C"]) -> Detections:
        boxes = decode(loc.astype(jnp.float32), priors, variances)
        boxes = boxes.clip(0, 1) if clip == "before" else boxes
        probabilities = jax.nn.softmax(conf_logits.astype(jnp.float32), axis=-1)
        scores = probabilities[:, 1:].T
        scores = jnp.where(scores > score_threshold, scores, 0)
        scores, index = jax.lax.top_k(scores, min(pre_nms_top_k, scores.shape[1]))
        class_boxes = boxes[index]

        def keep_of_class(boxes: Float[Array, "K 4"], valid: Bool[Array, "K"]) -> Array:
            return nms(boxes, valid, iou_threshold)

        kept = jax.vmap(keep_of_class)(class_boxes, scores > 0)
        best = _best_of_image(class_boxes, jnp.where(kept, scores, 0), max_detections)
        return best._replace(boxes=best.boxes.clip(0, 1)) if clip == "after" else best

    return jax.vmap(detect_image)(loc, conf_logits)


def _best_of_image(
    boxes: Float[Array, "F K 4"], scores: Float[Array, "F K"], max_detections: int
) -> Detections:
    """The best detections of all foreground classes of one image, padded."""
    ranks = boxes.shape[1]
    scores, index = jax.lax.top_k(scores.reshape(-1), min(max_detections, scores.size))
    found = scores > 0
    best = jnp.where(found[:, None], boxes.reshape(-1, 4)[index], 0)
    labels = jnp.where(found, index // ranks + 1, 0)
    padding = (0, max_detections - scores.shape[0])
    return Detections(
        jnp.pad(best, (padding, (0, 0))), jnp.pad(scores, padding), jnp.pad(labels, padding)
    )
