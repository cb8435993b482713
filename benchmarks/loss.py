"""Times matching, mining and loss, forward and backward, against the same in PyTorch loops.

    python benchmarks/loss.py [--quick]

SSD300's priors, batch 32, 50 ground truths an image. Both losses are compared first: with
ssd.pytorch's rule of matching they are the same number. The limit is the time in which the device's
memory gives the logits once and takes as much, their gradient, at the speed of a large copy.
"""

import jax
import jax.numpy as jnp
import numpy as np
from common import Report, copy_limit, main, medians, on_cpu, torch_peers
from workload import CLASS_NAMES, make_boxes

from ssd_jax.losses import multibox_loss
from ssd_jax.matching import Bipartite, match
from ssd_jax.priors import VOC300, prior_boxes

OBJECTS = 50
BAR = 20.0
LOOPS = "PyTorch loops"


def measure(report: Report, quick: bool) -> None:
    """Ours by both rules of matching, and PyTorch's."""
    batch_size, classes = (4 if quick else 32), len(CLASS_NAMES) + 1
    rng = np.random.default_rng(0)
    boxes = make_boxes(rng, (batch_size, OBJECTS))
    labels = rng.integers(1, classes, (batch_size, OBJECTS)).astype(np.int32)
    loc = rng.normal(size=(batch_size, VOC300.num_priors, 4)).astype(np.float32)
    conf = rng.normal(size=(batch_size, VOC300.num_priors, classes)).astype(np.float32)
    on_device = jax.device_put((loc, conf, boxes, labels))
    greedy, argmax = build_loss("greedy"), build_loss("argmax")
    calls = {
        "ssd_jax, greedy": lambda: greedy(*on_device),
        "ssd_jax, argmax": lambda: argmax(*on_device),
    }
    if torch_peers(report):
        calls[LOOPS] = torch_loss(loc, conf, boxes, labels)
        value, _ = argmax(*on_device)
        np.testing.assert_allclose(float(value), float(calls[LOOPS]()), rtol=1e-4)
    at_once = 1 if on_cpu() else 10
    seconds = medians(calls, rounds=3 if quick else 9, at_once=at_once, singly={LOOPS})
    seconds["limit, logits in and as much out"] = 2 * conf.nbytes / copy_limit()
    case = f"batch {batch_size}, {OBJECTS} objects"
    for name, time in seconds.items():
        report.add(f"{case}: {name}", 1e3 * time, "ms")
    if LOOPS in seconds:
        ratio = seconds[LOOPS] / seconds["ssd_jax, greedy"]
        bar = None if quick else BAR
        report.add(f"{case}: times the speed of {LOOPS}", ratio, "", at_least=bar)


def build_loss(bipartite: Bipartite):
    """(loc, conf, boxes, labels) -> (loss, gradients of loc and conf), compiled."""
    priors = jnp.asarray(prior_boxes(VOC300))

    def loss(loc, conf, boxes, labels):
        targets = jax.vmap(lambda b, c: match(b, c, priors, bipartite=bipartite))(boxes, labels)
        return sum(multibox_loss(loc, conf, *targets))

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))


def torch_loss(loc, conf, boxes, labels):
    """A call that computes the loss and both gradients by PyTorch."""
    import literal_torch
    import torch
    from peers_torch import device

    loc, conf = (torch.from_numpy(x.copy()).to(device()).requires_grad_() for x in (loc, conf))
    truths = [torch.from_numpy(x.copy()).to(device()) for x in boxes]
    classes = [torch.from_numpy(x.astype(np.int64)).to(device()) for x in labels]
    priors = torch.from_numpy(np.array(prior_boxes(VOC300))).to(device())

    def call():
        loc.grad = conf.grad = None
        value = literal_torch.multibox_loss(loc, conf, truths, classes, priors)
        value.backward()
        return value.detach()

    return call


if __name__ == "__main__":
    main(__doc__, measure)
