"""Times what comes before the first step: imports, priors, compilation without and with its cache.

    python benchmarks/startup.py [--quick]

Each in fresh processes, as a user would meet it.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import Report, main, on_cpu

from ssd_jax.priors import VOC300, VOC512, prior_boxes

IMPORT_BAR, PRIORS_BAR = 2.0, 10.0  # seconds, milliseconds
FIRST_STEP = """
import time
started = time.perf_counter()
import jax
from workload import Training, recipe
config = recipe(300, batch_size={batch_size}, dtype={dtype!r})
config.model.width = {width}
jax.block_until_ready(Training(config)())
print(time.perf_counter() - started)
"""


def python(program: str, **environment: str) -> str:
    """What a fresh interpreter prints that runs a program in this folder; its errors are seen."""
    folder = Path(__file__).parent
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def import_seconds(imports: str, times: int) -> float:
    """Seconds that an import takes, the median of some processes."""
    program = f"import time; t = time.perf_counter(); {imports}; print(time.perf_counter() - t)"
    python(program)
    return statistics.median(float(python(program)) for _ in range(times))


def measure(report: Report, quick: bool) -> None:
    """Imports, priors, first step."""
    times = 2 if quick else 5
    libraries = import_seconds("import jax, flax.linen", times)
    model = import_seconds("import jax, flax.linen, ssd_jax.model", times)
    report.add("import jax, flax.linen", libraries, "s")
    report.add("import ssd_jax.model beyond them", model - libraries, "s", at_most=IMPORT_BAR)
    for name, spec in (("SSD300", VOC300), ("SSD512", VOC512)):
        started = time.perf_counter()
        for _ in range(20):
            prior_boxes(spec)
        milliseconds = (time.perf_counter() - started) / 20 * 1e3
        report.add(f"priors of {name}", milliseconds, "ms", at_most=PRIORS_BAR)
    dtype = "float32" if on_cpu() else "bfloat16"
    width, batch_size = (0.25 if quick else 1.0), (1 if quick else 4) if on_cpu() else 32
    program = FIRST_STEP.format(batch_size=batch_size, dtype=dtype, width=width)
    with tempfile.TemporaryDirectory() as cache:
        options = {
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        for name in ("without a cache", "with the cache of the run before"):
            seconds = float(python(program, **options).split()[-1])
            report.add(f"from start to the end of the first step, {name}", seconds, "s")


if __name__ == "__main__":
    main(__doc__, measure)
