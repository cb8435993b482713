"""Runs every benchmark that this machine can, each in a process of its own, and prints one table.

    python benchmarks/run.py [--quick] [--root VOCdevkit/VOC2007] [--results FOLDER]

--quick takes small sizes, to see that all runs, and writes to results/quick. The input pipeline is
timed on real pictures: without --root it is left out. On a GPU what one compiles is kept for the
others, in a temporary folder unless JAX_COMPILATION_CACHE_DIR names one.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from common import RESULTS, Figure, print_figures

FOLDER = Path(__file__).parent
SUBJECTS = (
    *("step", "parts", "end_to_end", "inference", "loss", "nms", "memory", "scaling"),
    *("startup", "voc_metrics"),
)
INPUT_SECONDS, QUICK_INPUT_SECONDS = 8, 2


def main() -> None:
    """Runs, gathers, prints; exits with 1 if a benchmark failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: does it all run?")
    parser.add_argument("--root", help="a folder in VOC's layout, for the input pipeline")
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, default=SUBJECTS)
    parser.add_argument("--results", type=Path, help="the folder of the JSON files")
    options = parser.parse_args()
    folder = options.results or (RESULTS / "quick" if options.quick else RESULTS)
    to_folder = ["--results", str(folder)]
    figures: list[tuple[str, Figure]] = []
    failed = []
    with shared_cache() as environment:
        for subject in options.only:
            print(f"== {subject}", flush=True)
            started = time.time()
            arguments = ["--quick", *to_folder] if options.quick else to_folder
            if not run(subject, arguments, environment):
                failed.append(subject)
            figures += read(subject, folder, started)
        if options.root:
            print("== input", flush=True)
            seconds = QUICK_INPUT_SECONDS if options.quick else INPUT_SECONDS
            arguments = ["--root", options.root, "--seconds", str(seconds), *to_folder]
            if not run("input", arguments, environment):
                failed.append("input")
    print_figures(figures)
    if failed:
        sys.exit(f"these failed: {', '.join(failed)}")


@contextlib.contextmanager
def shared_cache() -> Iterator[dict[str, str]]:
    """The environment of the benchmarks: off the CPU with one compilation cache for all."""
    # In a process of its own: JAX, once started, keeps memory of the GPU.
    backend = subprocess.run(
        [sys.executable, "-c", "import jax; print(jax.default_backend())"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.split()[-1]
    with tempfile.TemporaryDirectory() as cache:
        shared = {} if backend == "cpu" else {"JAX_COMPILATION_CACHE_DIR": cache}
        yield {**shared, **os.environ}


def run(subject: str, arguments: list[str], environment: dict[str, str]) -> bool:
    """Whether the benchmark ended well."""
    command = [sys.executable, str(FOLDER / f"{subject}.py"), *arguments]
    return subprocess.run(command, check=False, env=environment).returncode == 0


def read(subject: str, folder: Path, started: float) -> list[tuple[str, Figure]]:
    """The figures that the benchmark has just written, also one that then failed."""
    written = [p for p in folder.glob(f"{subject}_*.json") if p.stat().st_mtime >= started - 1]
    return [
        (subject, Figure(**figure))
        for path in written
        for figure in json.loads(path.read_text())["figures"]
    ]


if __name__ == "__main__":
    main()
