"""How much memory a run takes, and how it is kept from taking ever more."""

import ctypes
import os
import platform

import jax
import psutil

_GIB = 2**30
_M_ARENA_MAX = -8  # of <malloc.h>
_ARENAS = 2


def device_memory() -> tuple[float, float | None]:
    """(GiB used, GiB there are) of the fullest device of this process.

    Used is the most since the process started, where a device counts that, as GPUs do: between two
    steps what a step needs on the way is free again, and little more than the state is in use.
    A CPU counts nothing: then it is the resident memory of this process, and no limit.
    """
    counted = list(filter(None, (device.memory_stats() for device in jax.local_devices())))
    if not counted:
        return psutil.Process().memory_info().rss / _GIB, None
    fullest = max(counted, key=_used)
    limit = fullest.get("bytes_limit")
    return _used(fullest) / _GIB, limit / _GIB if limit else None


def _used(statistics: dict[str, int]) -> int:
    return statistics.get("peak_bytes_in_use", statistics["bytes_in_use"])


def limit_arenas() -> None:
    """Has glibc's malloc keep few arenas; elsewhere nothing. To be called before threads start.

    Whoever sets MALLOC_ARENA_MAX keeps that number.

    By default there are eight a core, and each checkpoint and evaluation, with threads of its own,
    leaves holes in others of them: with as many bytes in use a run's resident memory grows for
    hours (docs/performance.md).
    """
    if platform.libc_ver()[0] == "glibc" and "MALLOC_ARENA_MAX" not in os.environ:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)
