"""What a run's memory is told by, and kept flat by."""

import dataclasses
import platform
import re
import subprocess
import sys

import jax
import psutil
import pytest

from ssd_jax.training.memory import device_memory

# Threads that hold memory at once, and how many arenas glibc says it then has.
THREADS = """
import ctypes, threading
from ssd_jax.training.memory import limit_arenas
if {limited}:
    limit_arenas()
held, done = threading.Barrier(13), threading.Barrier(13)
def hold():
    kept = [bytearray(1000) for _ in range(100)]
    held.wait(), done.wait()
for _ in range(12):
    threading.Thread(target=hold).start()
held.wait()
libc = ctypes.CDLL(None)
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
done.wait()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="arenas are glibc's")
@pytest.mark.parametrize("limited", [False, True])
def test_many_threads_share_few_arenas(limited: bool):
    code = THREADS.format(limited=limited)
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    arenas = len(re.findall("<heap nr=", printed))
    assert (arenas == 2) if limited else (arenas > 4)


@dataclasses.dataclass(frozen=True)
class Device:
    """A device that counts its memory, or not."""

    statistics: dict[str, int] | None

    def memory_stats(self) -> dict[str, int] | None:
        return self.statistics


def counts(used: int, peak: int | None = None) -> Device:
    statistics = {"bytes_in_use": used * 2**30, "bytes_limit": 80 * 2**30}
    return Device(statistics if peak is None else {**statistics, "peak_bytes_in_use": peak * 2**30})


@pytest.mark.parametrize(
    ("devices", "told"),
    [
        ([counts(3, 40), counts(5, 30)], (40, 80)),  # the most in a step, not what is left after it
        ([counts(3), counts(5)], (5, 80)),
        ([Device(None), Device({"bytes_in_use": 2**30})], (1, None)),
    ],
    ids=["peaks", "no peaks", "no limit"],
)
def test_memory_is_the_most_that_a_device_had_in_use(monkeypatch, devices, told):
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    assert device_memory() == told


def test_memory_of_a_cpu_is_the_process_own():
    used, limit = device_memory()
    assert limit is None
    assert 0.01 < used < psutil.virtual_memory().total / 2**30
