"""The folder of a run: held by one program at a time, and emptied for another run."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from rich.console import Console

from ssd_jax import processes
from ssd_jax.evaluation import report
from ssd_jax.file_lock import try_lock
from ssd_jax.training import checkpoints, faults, profile

SHEET = "detections.png"
"""The pictures of the last evaluation."""

_LOCK = ".lock"


@contextlib.contextmanager
def hold(workdir: Path, console: Console, *, patience: float = 120.0) -> Iterator[None]:
    """Makes a run's folder, and keeps other programs from training there meanwhile.

    Of several processes the first one holds it for all. The system lets go of it however the
    program ends; a server of files, that of a machine that failed, after a while. Where the file
    system knows no locks, nothing is held.

    Args:
      workdir: the folder; it is taken away again if nothing else has come into it.
      console: is told what is waited for.
      patience: seconds to wait for another program's end, such as one that is being stopped.

    Raises:
      ValueError: another program trains there.
      OSError: the folder cannot be written, or is not the same one for all processes.
    """
    # The others do not look: what a file server has once not seen, a machine takes for absent long
    # after the first process has made it.
    is_new = processes.is_first() and not workdir.exists()
    processes.check_shared(workdir)
    lock = workdir / _LOCK
    with contextlib.ExitStack() as held:
        file = _wait(lock, console, patience) if processes.is_first() else None
        if file is not None:
            held.enter_context(file)
        processes.wait_for_work()
        if not processes.share(file is not None):
            raise ValueError(
                f"another program trains in {workdir}: give another --workdir. If none does, as "
                f"after a machine's failure, delete {lock}"
            )
        try:
            yield
        finally:
            if is_new and os.listdir(workdir) == [_LOCK]:
                shutil.rmtree(workdir)


def remove(workdir: Path) -> None:
    """Deletes what is of the run that is there, but its log, which begins anew by itself."""
    for name in (checkpoints.FOLDER, faults.FOLDER, profile.FOLDER, report.FOLDER):
        shutil.rmtree(workdir / name, ignore_errors=True)
    (workdir / SHEET).unlink(missing_ok=True)


def _wait(lock: Path, console: Console, patience: float) -> IO[str] | None:
    """The locked file, if it is to be had within some seconds."""
    until, is_told = time.monotonic() + patience, False
    while (file := _take(lock)) is None and time.monotonic() < until:
        if not is_told:
            console.print(
                f"another program trains in {lock.parent}: waiting {patience:.0f} s for its end"
            )
        is_told = True
        time.sleep(0.5)
    return file


def _take(lock: Path) -> IO[str] | None:
    """The file, locked; None if another program has it."""
    lock.parent.mkdir(parents=True, exist_ok=True)  # the other one may have taken it away
    file = lock.open("w")
    if try_lock(file):
        return file
    file.close()
    return None
