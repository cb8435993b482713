"""Times inference: uint8 pictures in, detections out, and its parts.

    python benchmarks/inference.py [--quick]

Decoding and NMS are timed on made-up outputs of the network: crowded ones, where every class has
400 candidates, and empty ones. The peer is a plain PyTorch SSD: its network, and decoding and NMS
in loops on crowded outputs of two images at most, for a batch of 64 would be 400,000 rounds.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import (
    Call,
    Report,
    called_once,
    main,
    medians,
    noting_lack_of_memory,
    on_cpu,
    torch_peers,
    wait,
)
from ml_collections import ConfigDict
from workload import CLASS_NAMES, make_batch, measure_cases, multiply_adds

from ssd_jax.model import SSD
from ssd_jax.priors import prior_boxes
from ssd_jax.recipe import build_model, build_predict, build_stages

LATENCY_BAR, LIMIT_BAR, SHARE_BAR = 1.5, 0.5, 0.1  # milliseconds, and shares
LOOPED = 2
"""Images that PyTorch decodes in loops at most."""


def measure(report: Report, quick: bool) -> None:
    """One picture at a time and many, of both sizes."""
    many = 8 if on_cpu() else 64
    cases = [(300, 1)] if quick else [(300, 1), (300, many), (512, 1), (512, many)]
    measure_cases(report, cases, functools.partial(measure_case, quick=quick))


def measure_case(report: Report, case: str, config: ConfigDict, limit: float, quick: bool) -> None:
    """The whole, its parts and the peer at one size."""
    batch_size = config.train.batch_size
    model = build_model(config, CLASS_NAMES)
    stages = build_stages(config, model)
    predict, forward, detect = map(
        jax.jit, (build_predict(config, model), stages.forward, stages.detect)
    )
    images = jnp.zeros((1, *model.priors.image_size, 3))
    variables = jax.jit(model.init)(jax.random.key(0), images)
    batch = jax.device_put(make_batch(config))
    normalised = jax.jit(stages.preprocess)(batch["image"], batch["size"])
    outputs = {
        kind: jax.device_put(make_outputs(batch_size, model.priors.num_priors, background))
        for kind, background in (("crowded", 0.0), ("empty", 20.0))
    }
    calls = {
        "ssd_jax": lambda: predict(variables, batch["image"], batch["size"]),
        "network": lambda: forward(variables, normalised),
        "decoding and NMS, crowded": lambda: detect(*outputs["crowded"]),
        "decoding and NMS, empty": lambda: detect(*outputs["empty"]),
    }
    for call in calls.values():
        wait(call())  # before the peers: it takes the memory that it needs
    looped = min(LOOPED, batch_size)
    loops = f"PyTorch, decoding and NMS in loops, crowded, batch {looped}"
    if torch_peers(report):
        few = [x[:looped] for x in outputs["crowded"]]
        makers = {
            "PyTorch, network": lambda: torch_network(model, batch),
            loops: lambda: torch_loops(model, *few),
        }
        for name, make in makers.items():
            with noting_lack_of_memory(report, f"{case}: {name}"):
                calls[name] = called_once(make)
    seconds = medians(calls, rounds=3 if quick else 9)
    for name, time in seconds.items():
        is_latency = name == "ssd_jax" and (config.model.size, batch_size) == (300, 1)
        at_most = LATENCY_BAR if is_latency and not on_cpu() else None
        images = looped if name == loops else batch_size
        report.add(f"{case}: {name}", 1e3 * time / images, "ms/image", at_most=at_most)
    share = 2 * multiply_adds(model) * batch_size / seconds["ssd_jax"] / limit
    at_full_size = batch_size > 1 and not on_cpu()
    report.add(
        f"{case}: share of the limit", share, "", at_least=LIMIT_BAR if at_full_size else None
    )
    for kind in outputs:
        time = seconds[f"decoding and NMS, {kind}"]
        share = time / (seconds["network"] + time)
        bar = SHARE_BAR if at_full_size else None
        report.add(f"{case}: share of decoding and NMS, {kind}", share, "", at_most=bar)
    if "PyTorch, network" in seconds:
        ratio = seconds["network"] / seconds["PyTorch, network"]
        report.add(f"{case}: times PyTorch's time, network", ratio, "")


def make_outputs(rows: int, priors: int, background: float) -> tuple[np.ndarray, np.ndarray]:
    """Offsets [B, P, 4] and logits [B, P, C]: 400 priors and more score above .01 in each class.

    Unless the background's logit is high: then none does.
    """
    rng = np.random.default_rng(0)
    loc = rng.normal(size=(rows, priors, 4)).astype(np.float32)
    conf = rng.normal(size=(rows, priors, len(CLASS_NAMES) + 1)).astype(np.float32)
    conf[..., 0] += background
    return loc, conf


def torch_network(model: SSD, batch: Mapping[str, Any]) -> Call:
    """A call of the network in PyTorch."""
    import torch
    from peers_torch import PlainSSD, autocast, device, images_of

    network = PlainSSD(model).to(device(), memory_format=torch.channels_last).eval()
    images = images_of(batch, model.priors.image_size[0])

    @torch.inference_mode()
    def forward():
        with autocast():
            return network(images)

    return forward


def torch_loops(model: SSD, loc: jax.Array, conf: jax.Array) -> Call:
    """A call of decoding and NMS in loops on outputs of the network."""
    import literal_torch
    import torch
    from peers_torch import device

    outputs = (torch.from_numpy(np.array(x)).to(device()) for x in (loc, conf))
    arguments = *outputs, torch.from_numpy(np.array(prior_boxes(model.priors))).to(device())

    @torch.inference_mode()
    def detect():
        return literal_torch.detect(*arguments)

    return detect


if __name__ == "__main__":
    main(__doc__, measure)
