"""Times non-maximum suppression against torchvision's batched_nms, or a loop like ssd.pytorch's.

    python benchmarks/nms.py [--quick]

20 classes at once: crowded candidates (many objects, each found many times) and adversarial ones (a
chain in which each box overlaps but the next too much, so that one decision waits for the other);
then one class with 100 to 4000 candidates. What stays is compared before anything is timed:
batched_nms may shift the boxes of each class to a place of their own, and rounds them by that, so
that one in a thousand may differ.
"""

import jax
import jax.numpy as jnp
import numpy as np
from common import Report, importable, main, medians, on_cpu, torch_peers

from ssd_jax.detection import nms

CLASSES, CANDIDATES, IOU = 20, 400, 0.45
MAY_DIFFER = 0.001
"""Share of the boxes of which a peer may say otherwise whether they stay."""
LOOPS = "PyTorch loops"


def crowded(rng: np.random.Generator, classes: int, count: int) -> np.ndarray:
    """Boxes [classes, count, 4]: ten round each of count / 10 objects, in any order."""
    centre = rng.uniform(0.1, 0.9, (classes, count // 10, 1, 2)) + rng.normal(
        0, 0.01, (classes, count // 10, 10, 2)
    )
    size = rng.uniform(0.05, 0.2, (classes, count // 10, 1, 2)) * rng.uniform(
        0.9, 1.1, (classes, count // 10, 10, 2)
    )
    boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=-1)
    return np.stack([rng.permutation(one.reshape(-1, 4)) for one in boxes]).astype(np.float32)


def chains(classes: int, count: int) -> np.ndarray:
    """Boxes [classes, count, 4], each an IoU of .54 with the next and of .25 with the one after."""
    left = 0.3 * np.arange(count, dtype=np.float32)
    one = np.stack([left, np.zeros(count), left + 1, np.ones(count)], axis=1)
    return np.broadcast_to(one, (classes, count, 4)).astype(np.float32)


def measure(report: Report, quick: bool) -> None:
    """Both kinds at the recipe's size, then growing ones."""
    rng = np.random.default_rng(0)
    compare(report, "crowded", crowded(rng, CLASSES, CANDIDATES), quick)
    compare(report, "a chain", chains(CLASSES, CANDIDATES), quick)
    for count in (100, 400) if quick else (100, 200, 400, 1000, 2000, 4000):
        compare(report, "crowded", crowded(rng, 1, count), quick)


def compare(report: Report, kind: str, boxes: np.ndarray, quick: bool) -> None:
    """Times ours and the peer on boxes [classes, count, 4]."""
    classes, count, _ = boxes.shape
    scores = np.tile(np.linspace(1, 0.02, count, dtype=np.float32), (classes, 1))
    suppress = jax.jit(jax.vmap(lambda boxes, valid: nms(boxes, valid, IOU)))
    on_device = jnp.asarray(boxes), jnp.ones((classes, count), bool)
    case = f"{kind}, {classes} x {count}"
    calls = {"ssd_jax": lambda: suppress(*on_device)}
    if torch_peers(report):
        name, call = peer(boxes, scores)
        calls[name] = call
        stays = np.zeros((classes, count), bool)
        stays.reshape(-1)[call().cpu().numpy()] = True
        check_alike(report, f"{case}: {name}", np.asarray(suppress(*on_device)), stays)
    at_once = 1 if on_cpu() else 10
    seconds = medians(calls, rounds=3 if quick else 9, at_once=at_once, singly={LOOPS})
    for name, time in seconds.items():
        report.add(f"{case}: {name}", 1e3 * time, "ms")


def check_alike(report: Report, case: str, ours: np.ndarray, theirs: np.ndarray) -> None:
    """Notes of how many boxes a peer says otherwise whether they stay; raises if they are many."""
    differ = int(np.sum(ours != theirs))
    text = f"{case}: {differ} of {ours.size} boxes stay in one of the two only"
    if differ >= MAY_DIFFER * ours.size:
        raise ValueError(text)
    if differ:
        report.note(text)


def peer(boxes: np.ndarray, scores: np.ndarray):
    """(name, a call that returns the flat indices that stay)."""
    import literal_torch
    import torch
    from peers_torch import device

    boxes, scores = (torch.from_numpy(x.copy()).to(device()) for x in (boxes, scores))
    classes, count = scores.shape
    if importable("torchvision"):
        from torchvision.extension import _has_ops
        from torchvision.ops import batched_nms

        if _has_ops():
            number = torch.arange(classes, device=device()).repeat_interleave(count)
            flat = boxes.view(-1, 4), scores.view(-1), number
            return "torchvision.ops.batched_nms", lambda: batched_nms(*flat, IOU)

    def loops():
        kept = [literal_torch.nms(b, s, IOU, count) for b, s in zip(boxes, scores, strict=True)]
        return torch.cat([k + row * count for row, k in enumerate(kept)])

    return LOOPS, loops


if __name__ == "__main__":
    main(__doc__, measure)
