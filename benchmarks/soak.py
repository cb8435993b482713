"""Watches the memory and the open files of a training run for some minutes.

    python benchmarks/soak.py --minutes 60
    python benchmarks/soak.py --minutes 5 -- --config.model.width=0.125 --config.model.size=128

Runs train.py on configs/shapes.py, with what follows `--` besides, and samples the resident memory
(of all its processes together) and the open files every few seconds. What the first third does is
warm-up: compiling, the first evaluation, full caches. Over the rest a straight line is fitted:
memory is flat where it grows by less than 1 % of its median an hour, or by less than 16 MiB in all;
open files are flat where the most in the last tenth is not above the most in the tenth after
warm-up. Writes benchmarks/results/soak.json; exits 1 if one is not flat or the run failed.
"""

import argparse
import datetime
import json
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "soak.json"
MIB = 2**20
WARM_UP = 1 / 3
GROWTH_AN_HOUR = 0.01
GROWTH_IN_ALL = 16.0  # MiB
ENDLESS = 10**9
STOPPED = 143  # train.py's exit code where SIGTERM ended it


def sample(process: psutil.Process) -> tuple[float, int] | None:
    """(MiB resident, open files and sockets) of a process and all below it; None if it ended."""
    memory, files = 0.0, 0
    try:
        for member in [process, *process.children(recursive=True)]:
            memory += member.memory_info().rss / MIB
            files += member.num_fds()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return None
    return memory, files


def watch(command: list[str], minutes: float, every: float, log: Path) -> tuple[list[Any], int]:
    """Runs a command for some minutes; [seconds, MiB, files] every so often, and its exit code.

    It is ended by SIGTERM, upon which train.py saves and exits with 143.
    """
    samples = []
    with log.open("w") as printed:
        running = subprocess.Popen(command, cwd=ROOT, stdout=printed, stderr=subprocess.STDOUT)
        process, start = psutil.Process(running.pid), time.monotonic()
        while running.poll() is None and time.monotonic() - start < 60 * minutes:
            time.sleep(every)
            if (taken := sample(process)) is not None:
                samples.append([round(time.monotonic() - start, 1), *taken])
        ended_early = running.poll() is not None
        running.send_signal(signal.SIGTERM)
        code = running.wait()
    if ended_early:
        return samples, code or 1
    return samples, 0 if code == STOPPED else code or 1


def judge(samples: list[Any]) -> dict[str, Any]:
    """The figures of a run: what grew after warm-up, and whether that is flat."""
    seconds, memory, files = np.array(samples, np.float64).T
    warm = seconds >= seconds[-1] * WARM_UP
    hours = seconds[warm] / 3600
    slope = float(np.polyfit(hours, memory[warm], 1)[0])
    grown = slope * float(hours[-1] - hours[0])
    median = float(np.median(memory[warm]))
    tenth = max(1, int(warm.sum()) // 10)
    files_first, files_last = (float(part.max()) for part in (files[warm][:tenth], files[-tenth:]))
    return {
        "samples": len(samples),
        "minutes": round(seconds[-1] / 60, 1),
        "memory_mib_median": round(median, 1),
        "memory_mib_most": round(float(memory.max()), 1),
        "memory_mib_an_hour": round(slope, 2),
        "memory_mib_grown": round(grown, 2),
        "memory_flat": slope < GROWTH_AN_HOUR * median or grown < GROWTH_IN_ALL,
        "open_files_after_warm_up": files_first,
        "open_files_at_the_end": files_last,
        "open_files_flat": files_last <= files_first,
    }


def main() -> None:
    """Runs, samples, judges and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--every", type=float, default=5, help="seconds between samples")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("options", nargs="*", help="of train.py, after --")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workdir, log = Path(folder) / "run", Path(folder) / "printed.txt"
        command = [
            *(sys.executable, "train.py", "--config", "configs/shapes.py"),
            *(f"--config.train.steps={ENDLESS}", "--config.optimizer.schedule=step"),
            *(f"--workdir={workdir}", *arguments.options),
        ]
        samples, code = watch(command, arguments.minutes, arguments.every, log)
        printed = log.read_text().splitlines()
    print(*printed[-10:], sep="\n")
    if len(samples) < 10:
        sys.exit(f"error: only {len(samples)} samples: give more --minutes or a smaller --every")
    figures = judge(samples)
    print(json.dumps(figures, indent=2))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    written = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {psutil.cpu_count()} cores",
        "options": arguments.options,
        "exit_code": code,
        **figures,
        "seconds_mib_files": [[s, round(m, 1), f] for s, m, f in samples],
    }
    arguments.out.write_text(json.dumps(written) + "\n")
    if code or not (figures["memory_flat"] and figures["open_files_flat"]):
        sys.exit(f"error: exit code {code} of train.py, or not flat")


if __name__ == "__main__":
    main()
