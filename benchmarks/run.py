"""Runs every benchmark that this machine can, each in a process of its own, and prints one table.

    python benchmarks/run.py [--quick] [--root VOCdevkit/VOC2007]

--quick takes small sizes, to see that all runs, and writes to results/quick. The input pipeline is
timed on real pictures: without --root it is left out.
"""

import argparse
import json
import subprocess
import sys
import time
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
    options = parser.parse_args()
    figures: list[tuple[str, Figure]] = []
    failed = []
    for subject in options.only:
        print(f"== {subject}", flush=True)
        started = time.time()
        arguments = ["--quick"] if options.quick else []
        if not run(subject, arguments):
            failed.append(subject)
        figures += read(subject, options.quick, started)
    if options.root:
        print("== input", flush=True)
        seconds = QUICK_INPUT_SECONDS if options.quick else INPUT_SECONDS
        arguments = ["--root", options.root, "--seconds", str(seconds)]
        if not run("input", [*arguments, "--results", str(folder(options.quick))]):
            failed.append("input")
    print_figures(figures)
    if failed:
        sys.exit(f"these failed: {', '.join(failed)}")


def run(subject: str, arguments: list[str]) -> bool:
    """Whether the benchmark ended well."""
    command = [sys.executable, str(FOLDER / f"{subject}.py"), *arguments]
    return subprocess.run(command, check=False).returncode == 0


def folder(quick: bool) -> Path:
    """Where the JSON files are."""
    return RESULTS / "quick" if quick else RESULTS


def read(subject: str, quick: bool, started: float) -> list[tuple[str, Figure]]:
    """The figures that the benchmark has just written, also one that then failed."""
    written = [
        p for p in folder(quick).glob(f"{subject}_*.json") if p.stat().st_mtime >= started - 1
    ]
    return [
        (subject, Figure(**figure))
        for path in written
        for figure in json.loads(path.read_text())["figures"]
    ]


if __name__ == "__main__":
    main()
