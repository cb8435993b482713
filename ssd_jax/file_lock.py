"""Locks on files, by which programs know of each other; the system lets go however one ends."""

import errno
import fcntl
from typing import IO

_UNKNOWN_TO_THE_DISK = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


def try_lock(file: IO[str]) -> bool:
    """Whether an open file is this program's own now, also where the file system knows no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as fault:
        if fault.errno not in _UNKNOWN_TO_THE_DISK:
            raise
    return True


def wait_for_lock(file: IO[str]) -> None:
    """Returns when an open file, which another program holds, is this one's own."""
    fcntl.flock(file, fcntl.LOCK_EX)
