"""What the benchmarks share: clocks, the machine's limits, figures as a table and as JSON.

Every benchmark is `measure(report, quick)` in a file of its own, run by `main(__doc__, measure)`.
They import this before ssd_jax, which need not be installed: it is found beside this folder.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import functools
import gc
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).parents[1]))
# Before JAX starts: PyTorch, timed in the same process, needs memory of the GPU too.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "numpy", "grain", "opencv-python-headless"),
    *("faster-coco-eval", "torch", "torchvision", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13"),
)
LACKS_MEMORY = (
    *("RESOURCE_EXHAUSTED", "CUDA error: out of memory"),
    *("CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED"),
)
"""What a fault says for want of a device's memory: JAX's, CUDA's, cuDNN's, cuBLAS's."""

Call = Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Figure:
    """One thing measured.

    Attributes:
      name: what it is.
      value: the number.
      unit: of the number.
      bar: what it has to be, such as '<= 1.3'; '' where there is none.
      met: whether it is; None where there is no bar.
    """

    name: str
    value: float
    unit: str
    bar: str = ""
    met: bool | None = None


class Report:
    """The figures of one benchmark, gathered, printed and written.

    The file is written anew with each figure and each note: a benchmark that is killed leaves them.

    Attributes:
      subject: the benchmark's name.
      folder: of the JSON file.
      quick: whether sizes are small.
      figures: in the order measured.
      notes: what was left out, and why.
    """

    def __init__(self, subject: str, folder: Path, quick: bool) -> None:
        self.subject = subject
        self.folder = folder
        self.quick = quick
        self.figures: list[Figure] = []
        self.notes: list[str] = []

    def add(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> None:
        """Adds a figure, says and writes it; of the two bars one at most is given."""
        figure = Figure(name, value, unit)
        if at_most is not None:
            figure = dataclasses.replace(figure, bar=f"<= {at_most:g}", met=value <= at_most)
        elif at_least is not None:
            figure = dataclasses.replace(figure, bar=f">= {at_least:g}", met=value >= at_least)
        self.figures.append(figure)
        print(f"{name}: {value:.4g} {unit}", flush=True)
        self.write()

    def note(self, text: str) -> None:
        """Says what was left out, and why; of several cases once."""
        if text not in self.notes:
            self.notes.append(text)
            print(text, flush=True)
            self.write()

    def write(self, *, finished: bool = False) -> Path:
        """Writes the figures so far as JSON, with the machine, the versions and the date."""
        path = self.folder / f"{self.subject}_{jax.default_backend()}.json"
        content = {
            "subject": self.subject,
            "quick": self.quick,
            "finished": finished,
            **machine(),
            "figures": [dataclasses.asdict(figure) for figure in self.figures],
            "notes": self.notes,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        # Killed while it writes, it leaves what was written before.
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(content, indent=2) + "\n")
        return partial.replace(path)


def main(description: str, measure: Callable[[Report, bool], None]) -> None:
    """The command line of a benchmark; what was measured is written also where `measure` fails."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: does it all run?")
    parser.add_argument("--results", type=Path, help="the folder of the JSON files")
    options = parser.parse_args()
    # Quick figures are no results: they must not take the place of those that are kept.
    folder = options.results or (RESULTS / "quick" if options.quick else RESULTS)
    report = Report(Path(sys.argv[0]).stem, folder, options.quick)
    finished = False
    try:
        measure(report, options.quick)
        finished = True
    finally:
        print_figures([(report.subject, figure) for figure in report.figures])
        print(f"written to {report.write(finished=finished)}")


def print_figures(figures: list[tuple[str, Figure]]) -> None:
    """A table of (subject, figure): what was measured, the bar, whether it is met."""
    table = Table()
    for column in ("subject", "what"):
        table.add_column(column, overflow="fold")
    for column in ("figure", "bar", ""):
        table.add_column(column, justify="right", no_wrap=True)
    verdicts = {True: "met", False: "[bold]not met[/bold]", None: ""}
    for subject, figure in figures:
        value = f"{figure.value:.4g} {figure.unit}".rstrip()
        table.add_row(subject, figure.name, value, figure.bar, verdicts[figure.met])
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def machine() -> dict[str, Any]:
    """Device, versions, date."""
    device = jax.devices()[0]
    kind = processor() if on_cpu() else device.device_kind
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": f"{len(jax.devices())} x {kind}",
        "host": f"{os.cpu_count()} x {processor()}",
        "python": platform.python_version(),
        "versions": versions(),
    }


@functools.cache
def versions() -> dict[str, str]:
    """Of the packages that the figures hang on, those that are installed."""
    installed = {one.name for one in importlib.metadata.distributions()}
    return {name: importlib.metadata.version(name) for name in PACKAGES if name in installed}


def processor() -> str:
    """The processor's name, where Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((x.split(":")[1].strip() for x in lines if "model name" in x), platform.machine())


def on_cpu() -> bool:
    """Whether JAX computes on the CPU: the bars of both kinds of machine differ."""
    return jax.default_backend() == "cpu"


def wait(result: Any) -> None:
    """Returns when the result is there, JAX's or PyTorch's."""
    jax.block_until_ready(result)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.synchronize()


def medians(
    calls: Mapping[str, Call],
    *,
    rounds: int,
    at_once: int = 1,
    singly: Container[str] = (),
    warm_up: int = 2,
) -> dict[str, float]:
    """Seconds a call of each, the median of some rounds; each round times each once.

    In turns, so that what else the machine does falls on all alike.

    Args:
      calls: by name; what they return is waited for.
      rounds: how often each is timed.
      at_once: calls that a round makes before it waits; above 1 the device does not wait for the
        host in between, as in training.
      singly: the names of calls that are made once a round all the same: those that take so long
        that starting them counts for nothing.
      warm_up: calls of each before the clock runs.
    """
    for call in calls.values():
        for _ in range(warm_up):
            wait(call())
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times = 1 if name in singly else at_once
            started = time.perf_counter()
            for _ in range(times):
                result = call()
            wait(result)
            seconds[name].append((time.perf_counter() - started) / times)
    return {name: statistics.median(times) for name, times in seconds.items()}


def matrix_limit() -> float:
    """Operations a second of a large matrix product: bfloat16 on a GPU, float32 on a CPU."""
    side, dtype = (2048, jnp.float32) if on_cpu() else (8192, jnp.bfloat16)
    a = jax.random.normal(jax.random.key(0), (side, side), dtype)
    product = jax.jit(lambda a: a @ a)
    at_once = 1 if on_cpu() else 20
    seconds = medians({"": lambda: product(a)}, rounds=7, at_once=at_once)[""]
    return 2 * side**3 / seconds


def copy_limit() -> float:
    """Bytes a second read and written by an elementwise operation on a large array."""
    a = jnp.zeros((2**26 if on_cpu() else 2**29,), jnp.float32)
    plus_one = jax.jit(lambda a: a + 1)
    at_once = 1 if on_cpu() else 10
    return 2 * a.nbytes / medians({"": lambda: plus_one(a)}, rounds=7, at_once=at_once)[""]


def called_once(make: Callable[[], Call]) -> Call:
    """Makes a call and does it once, by which it takes the memory that it needs."""
    call = make()
    wait(call())
    return call


def torch_peers(report: Report) -> bool:
    """Whether PyTorch can be timed, on the kind of device that JAX computes on; else says why."""
    if not importable("torch"):
        report.note("PyTorch is not installed: no peers")
        return False
    if not on_cpu():
        import torch

        try:
            torch.ones(1, device="cuda").sum().item()
        except (AssertionError, RuntimeError) as fault:  # the first where it was built for CPUs
            reason = str(fault).strip().splitlines()[0]
            report.note(f"JAX computes on a GPU, PyTorch cannot ({reason}): no peers")
            return False
    return True


@contextlib.contextmanager
def noting_lack_of_memory(report: Report, what: str) -> Iterator[None]:
    """Goes on after what lacks memory of the device, which is then noted to be left out."""
    gc.collect()  # what a fault before still holds
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.cuda.empty_cache()  # else PyTorch keeps from JAX what it no longer needs
    try:
        yield
    except RuntimeError as fault:
        if not is_out_of_memory(fault):
            raise
        report.note(f"{what} is left out: {str(fault).splitlines()[0]}")


def is_out_of_memory(fault: Exception) -> bool:
    """Whether a fault of JAX or of PyTorch is that a device lacks memory."""
    said = any(words in str(fault) for words in LACKS_MEMORY)
    return said or type(fault).__name__ == "OutOfMemoryError"


def importable(name: str) -> bool:
    """Whether a package is there and starts; torchvision's may be another torch's."""
    if importlib.util.find_spec(name) is None:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(name)
    except (ImportError, RuntimeError, OSError):
        return False
    return True
