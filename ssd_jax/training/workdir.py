"""The folder of a run: held by one program at a time, and emptied for another run."""

import contextlib
import errno
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ssd_jax import processes
from ssd_jax.training import checkpoints, faults, profile

SHEET = "detections.png"
"""The pictures of the last evaluation."""

_EVALUATION = "evaluation"  # evaluate.py's
_LOCK = ".lock"
_UNKNOWN_TO_THE_DISK = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


@contextlib.contextmanager
def hold(workdir: Path) -> Iterator[None]:
    """Makes a run's folder, and keeps other programs from training there meanwhile.

    Of several processes the first one holds it for all. The system lets go of it however the
    program ends. Where the file system knows no locks, nothing is held.

    Raises:
      ValueError: another program trains there.
      OSError: the folder cannot be written, or is not the same one for all processes.
    """
    processes.check_shared(workdir)
    with contextlib.ExitStack() as held:
        is_taken = False
        if processes.is_first():
            is_taken = not _lock(held.enter_context((workdir / _LOCK).open("w")))
        if processes.share(is_taken):
            raise ValueError(
                f"another program trains in {workdir}: give another --workdir, or wait for its end"
            )
        yield


def remove(workdir: Path) -> None:
    """Deletes what is of the run that is there, but its log, which begins anew by itself."""
    for name in (checkpoints.FOLDER, faults.FOLDER, profile.FOLDER, _EVALUATION):
        shutil.rmtree(workdir / name, ignore_errors=True)
    (workdir / SHEET).unlink(missing_ok=True)


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
