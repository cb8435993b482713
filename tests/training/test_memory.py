"""What a run's memory is told by, and kept flat by."""

import platform
import re
import subprocess
import sys

import pytest

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
