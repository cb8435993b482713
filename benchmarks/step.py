"""Times the training step on batches that are on the device already.

    python benchmarks/step.py [--quick]

The step is the one that `train.py` runs: augmentation, matching, network, mining, loss, gradient,
update. It is timed against a plain PyTorch SSD with the matching and mining of ssd.pytorch, and
against torchvision's ssd300_vgg16 where that is installed, eager and (on a GPU) compiled; neither
augments. The share of the limit counts three forward passes' multiply-adds a step.
"""

from common import Report, importable, main, matrix_limit, medians, on_cpu
from workload import Training, multiply_adds, recipe

TIMES_FORWARD = 3
CPU_BAR, LIMIT_BAR, PEER_BAR = 1.3, 0.45, 1.5


def cases(quick: bool) -> list[tuple[int, int]]:
    """(input size, batch size) of the runs."""
    if on_cpu():
        return [(300, 1)] if quick else [(300, 4), (512, 2)]
    return [(300, 8)] if quick else [(size, n) for size in (300, 512) for n in (32, 64, 128)]


def measure(report: Report, quick: bool) -> None:
    """The steps of every size and batch, ours and the peers' in turns."""
    limit = matrix_limit()
    report.add("matrix product", limit / 1e9, "GFLOP/s")
    dtype = "float32" if on_cpu() else "bfloat16"
    for size, batch_size in cases(quick):
        ours = Training(recipe(size, batch_size=batch_size, dtype=dtype))
        calls = {"ssd_jax": ours, **peers(report, ours, size)}
        rounds = (3 if quick else 5) if on_cpu() else 10
        seconds = medians(calls, rounds=rounds, at_once=1 if on_cpu() else 5)
        case = f"SSD{size}, {dtype}, batch {batch_size}"
        for name, time in seconds.items():
            report.add(f"{case}: {name}", 1e3 * time / batch_size, "ms/image")
        work = 2 * TIMES_FORWARD * multiply_adds(ours.model) * batch_size
        share = work / seconds["ssd_jax"] / limit
        report.add(f"{case}: share of the limit", share, "", at_least=bar(LIMIT_BAR, quick))
        if "PyTorch" in seconds:
            ratio = seconds["ssd_jax"] / seconds["PyTorch"]
            report.add(
                f"{case}: times PyTorch's time", ratio, "", at_most=CPU_BAR if on_cpu() else None
            )
        if (compiled := "torchvision, compiled") in seconds:
            ratio = seconds[compiled] / seconds["ssd_jax"]
            report.add(f"{case}: times the speed of {compiled}", ratio, "", at_least=PEER_BAR)


def bar(value: float, quick: bool) -> float | None:
    """A bar that stands for GPUs at full size only."""
    return None if on_cpu() or quick else value


def peers(report: Report, ours: Training, size: int) -> dict:
    """The steps of the peers that are installed, on the same pictures and boxes."""
    if not importable("torch"):
        report.note("PyTorch is not installed: no peers")
        return {}
    import peers_torch

    calls = {"PyTorch": peers_torch.PlainStep(ours.model, ours.batch)}
    if size != 300:
        return calls
    if not importable("torchvision"):
        report.note("torchvision is not there, or not for this PyTorch: it is left out")
        return calls
    calls["torchvision"] = peers_torch.TorchvisionStep(ours.batch, compiled=False)
    if not on_cpu():
        calls["torchvision, compiled"] = peers_torch.TorchvisionStep(ours.batch, compiled=True)
    return calls


if __name__ == "__main__":
    main(__doc__, measure)
