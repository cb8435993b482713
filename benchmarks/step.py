"""Times the training step on batches that are on the device already.

    python benchmarks/step.py [--quick]

The step is the one that `train.py` runs: augmentation, matching, network, mining, loss, gradient,
update. It is timed against a plain PyTorch SSD with the matching and mining of ssd.pytorch, and
against torchvision's ssd300_vgg16 where that is installed, eager and (on a GPU) compiled; neither
augments. The share of the limit counts three forward passes' multiply-adds a step.
"""

import functools

from common import (
    Call,
    Report,
    called_once,
    importable,
    is_out_of_memory,
    main,
    medians,
    noting_lack_of_memory,
    on_cpu,
    torch_peers,
    wait,
)
from ml_collections import ConfigDict
from workload import Training, measure_cases, multiply_adds

TIMES_FORWARD = 3
COMPILED = "torchvision, compiled"
CPU_BAR, LIMIT_BAR, PEER_BAR = 1.3, 0.45, 1.5


def cases(quick: bool) -> list[tuple[int, int]]:
    """(input size, batch size) of the runs."""
    if on_cpu():
        return [(300, 1)] if quick else [(300, 4), (512, 2)]
    return [(300, 8)] if quick else [(size, n) for size in (300, 512) for n in (32, 64, 128)]


def measure(report: Report, quick: bool) -> None:
    """The steps of every size and batch, ours and the peers' in turns."""
    measure_cases(report, cases(quick), functools.partial(measure_case, quick=quick))


def measure_case(report: Report, case: str, config: ConfigDict, limit: float, quick: bool) -> None:
    """The steps of one size and batch."""
    batch_size = config.train.batch_size
    ours = Training(config)
    wait(ours())  # before the peers: it takes the memory that it needs
    calls = {"ssd_jax": ours, **peers(report, case, ours, config.model.size)}
    rounds = (3 if quick else 5) if on_cpu() else 10
    seconds = medians(calls, rounds=rounds, at_once=1 if on_cpu() else 5)
    for name, time in seconds.items():
        report.add(f"{case}: {name}", 1e3 * time / batch_size, "ms/image")
    work = 2 * TIMES_FORWARD * multiply_adds(ours.model) * batch_size
    share = work / seconds["ssd_jax"] / limit
    report.add(f"{case}: share of the limit", share, "", at_least=bar(LIMIT_BAR, quick))
    if "PyTorch" in seconds:
        ratio = seconds["ssd_jax"] / seconds["PyTorch"]
        at_most = CPU_BAR if on_cpu() and not quick else None
        report.add(f"{case}: times PyTorch's time", ratio, "", at_most=at_most)
    if COMPILED in seconds:
        ratio = seconds[COMPILED] / seconds["ssd_jax"]
        name = f"{case}: times the speed of {COMPILED}"
        report.add(name, ratio, "", at_least=bar(PEER_BAR, quick))


def bar(value: float, quick: bool) -> float | None:
    """A bar that stands for GPUs at full size only."""
    return None if on_cpu() or quick else value


def peers(report: Report, case: str, ours: Training, size: int) -> dict[str, Call]:
    """The steps of the peers that are installed and fit, on the same pictures and boxes."""
    if not torch_peers(report):
        return {}
    import peers_torch

    makers = {"PyTorch": lambda: peers_torch.PlainStep(ours.model, ours.batch)}
    if size == 300 and importable("torchvision"):
        torchvision = functools.partial(peers_torch.TorchvisionStep, ours.batch)
        makers["torchvision"] = functools.partial(torchvision, compiled=False)
        if not on_cpu():
            makers[COMPILED] = functools.partial(torchvision, compiled=True)
    elif size == 300:
        report.note("torchvision is not there, or not for this PyTorch: it is left out")
    steps = {}
    for name, make in makers.items():
        with noting_lack_of_memory(report, f"{case}: {name}"):
            try:
                steps[name] = called_once(make)
            except Exception as fault:  # such as for want of a C compiler
                if name != COMPILED or is_out_of_memory(fault):
                    raise
                report.note(f"{case}: {name} is left out: {str(fault).splitlines()[0]}")
    return steps


if __name__ == "__main__":
    main(__doc__, measure)
