"""The folder of a run: held by one program at a time, and emptied for another run."""

import contextlib
import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from rich.console import Console

from ssd_jax import processes
from ssd_jax.training import checkpoints, faults, profile

SHEET = "detections.png"
"""The pictures of the last evaluation."""

_EVALUATION = "evaluation"  # evaluate.py's
_LOCK = ".lock"
_UNKNOWN_TO_THE_DISK = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


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
    is_new = not workdir.exists()
    processes.check_shared(workdir)
    lock = workdir / _LOCK
    with contextlib.ExitStack() as held:
        is_ours = True
        if processes.is_first():
            is_ours = _wait(held.enter_context(lock.open("w")), workdir, console, patience)
        processes.wait_for_work()
        if not processes.share(is_ours):
            raise ValueError(
                f"another program trains in {workdir}: give another --workdir. If none does, as "
                f"after a machine's failure, delete {lock}"
            )
        try:
            yield
        finally:
            if is_new and processes.is_first() and os.listdir(workdir) == [_LOCK]:
                shutil.rmtree(workdir)


def remove(workdir: Path) -> None:
    """Deletes what is of the run that is there, but its log, which begins anew by itself."""
    for name in (checkpoints.FOLDER, faults.FOLDER, profile.FOLDER, _EVALUATION):
        shutil.rmtree(workdir / name, ignore_errors=True)
    (workdir / SHEET).unlink(missing_ok=True)


def _wait(file: IO[str], workdir: Path, console: Console, patience: float) -> bool:
    """Whether a file is this program's own, within some seconds."""
    until, is_told = time.monotonic() + patience, False
    while not (is_ours := _lock(file)) and time.monotonic() < until:
        if not is_told:
            console.print(
                f"another program trains in {workdir}: waiting {patience:.0f} s for its end"
            )
        is_told = True
        time.sleep(0.5)
    return is_ours


def _lock(file: IO[str]) -> bool:
    """Whether a file is this program's own now."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as fault:
        if fault.errno not in _UNKNOWN_TO_THE_DISK:
            raise
    return True
