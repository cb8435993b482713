"""How much memory a run takes."""

import jax
import psutil

_GIB = 2**30


def device_memory() -> tuple[float, float | None]:
    """(GiB used, GiB there are) of the fullest device of this process.

    A CPU counts none: then it is the resident memory of this process, and no limit.
    """
    counted = list(filter(None, (device.memory_stats() for device in jax.local_devices())))
    if not counted:
        return psutil.Process().memory_info().rss / _GIB, None
    fullest = max(counted, key=lambda statistics: statistics["bytes_in_use"])
    limit = fullest.get("bytes_limit")
    return fullest["bytes_in_use"] / _GIB, limit / _GIB if limit else None
