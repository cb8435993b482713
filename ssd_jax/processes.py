"""A run of several processes on one or more machines, and what they say to each other."""

import contextlib
import functools
import itertools
import os
import pickle
import socket
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

_UNSEEN_FOR = 90.0  # seconds: NFS clients ask again after 60 for what was not there
_LONGEST_WORK_MS = 7 * 24 * 3600 * 1000
_works = itertools.count()  # all processes count alike: a barrier's name serves once


def connect(
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    heartbeat_seconds: int = 30,
) -> bool:
    """Joins the other processes of a run, by what is given or what the cluster says.

    JAX knows Slurm, Open MPI, Kubernetes (indexed Jobs and JobSets) and TPU pods. To be called
    before anything is computed.

    Args:
      coordinator: HOST:PORT that process 0 listens on and all others reach; None: by the cluster.
      num_processes: how many there are; None: by the cluster.
      process_id: which this is, from 0; None: by the cluster.
      heartbeat_seconds: a process that is not heard of for so long is dead, and the others end.

    Returns:
      Whether this is one of a run's processes; False for a program by itself.

    Raises:
      ValueError: some are given, and the cluster does not say the others.
      OSError: the others are not there.
    """
    given = {
        "--coordinator": coordinator,
        "--num_processes": num_processes,
        "--process_id": process_id,
    }
    alone = all(value is None for value in given.values())
    if alone and (_in_plain_pod() or _is_only_task()):
        return False
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=heartbeat_seconds,
        )
    except ValueError as fault:
        if alone and "coordinator_address should be defined" in str(fault):
            return False
        missing = [name for name, value in given.items() if value is None]
        raise ValueError(
            f"{fault} Give {' '.join(missing) or 'other values'}: the cluster does not say"
        ) from fault
    except jax.errors.JaxRuntimeError as fault:
        raise OSError(f"the processes of the run did not come together: {fault}") from fault
    return True


def _in_plain_pod() -> bool:
    """In Kubernetes, but in no indexed Job: JAX's detection would fail for want of one."""
    return (
        "KUBERNETES_SERVICE_HOST" in os.environ
        and "JOB_COMPLETION_INDEX" not in os.environ
        and "TPU_WORKER_HOSTNAMES" not in os.environ
    )


def _is_only_task() -> bool:
    """The one task of a Slurm or Open MPI step: joined, JAX would leave it one of its GPUs."""
    counts = (os.environ.get(name) for name in ("OMPI_COMM_WORLD_SIZE", "SLURM_NTASKS"))
    return next((count for count in counts if count), None) == "1"


def are_several() -> bool:
    """Whether this process is one of several."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def this_one() -> str:
    """'process 1 of 2', for messages."""
    return f"process {jax.process_index()} of {jax.process_count()}"


def is_first() -> bool:
    """Whether this process is the one that writes what is written once."""
    return jax.process_index() == 0


def first_before_others(make: Callable[[], Any]) -> Any:
    """Calls `make` on the first process, then on all others: for what it leaves on disk.

    The others wait for as long as the first is at work; if it dies, they end.
    """
    wait_for_all("ready")  # connected before one of them is long at work
    if is_first():
        made = make()
        wait_for_work()
        return made
    wait_for_work()
    return make()


def wait_for_all(point: str) -> None:
    """Returns when every process has come to this point; CPUs do not wait for ever."""
    multihost_utils.sync_global_devices(point)


def wait_for_work() -> None:
    """Returns when every process has come to this point, however long one of them works before.

    A collective of the devices would time out; here JAX's coordinator is asked, which watches over
    the processes' heartbeats.
    """
    if jax.process_count() > 1:
        # Barriers with a timeout of one's own are not public.
        from jax._src.distributed import global_state

        coordinator: Any = global_state.client
        coordinator.wait_at_barrier(f"ssd_jax_work_{next(_works)}", _LONGEST_WORK_MS)


def check_shared(folder: Path) -> None:
    """Makes a folder, and sees to it that it is the same for all processes.

    Raises:
      OSError: the first process cannot write there, or what it writes another does not see.
    """
    if jax.process_count() == 1:
        folder.mkdir(parents=True, exist_ok=True)
        return
    token = folder / f".{share(uuid.uuid4().hex)}"
    fault = ""
    if is_first():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            token.touch()
        except OSError as met:
            fault = str(met)
    if fault := share(fault):
        raise OSError(fault)
    until = time.monotonic() + _UNSEEN_FOR
    while not (there := token.exists()) and time.monotonic() < until:
        time.sleep(0.2)
    wait_for_work()
    seen = gather(there)
    if is_first():
        token.unlink()
    if not all(seen):
        raise OSError(
            f"{folder} is not the same folder for all processes: those that do not see what the "
            f"first one writes are {[i for i, sees in enumerate(seen) if not sees]}; put it on a "
            "disk that they share"
        )


def share(value: Any) -> Any:
    """What the first process gives, on all of them; the others' value is not looked at."""
    return gather(value if is_first() else None)[0]


def gather(value: Any) -> list[Any]:
    """Every process's value, in their order, on all of them."""
    if jax.process_count() == 1:
        return [value]
    # Pickle, for these are this very program's own objects: nobody else's come this way.
    content = np.frombuffer(pickle.dumps(value), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(len(content)))
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: len(content)] = content
    rows = multihost_utils.process_allgather(padded)
    return [pickle.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


@functools.cache
def on_this_host() -> int:
    """How many of the processes, this one among them, share this machine's memory."""
    host = socket.gethostname()
    return gather(host).count(host)


def lost_touch(fault: BaseException) -> bool:
    """Whether a fault is that another process could not be reached in the middle of a step."""
    return isinstance(fault, jax.errors.JaxRuntimeError) or "Gloo" in str(fault)


def await_verdict(heartbeat_seconds: int) -> None:
    """Gives JAX the time to notice which process is gone: it says so and ends this one."""
    time.sleep(heartbeat_seconds + 10)


def leave(code: int) -> NoReturn:
    """Ends this process at once after a fault.

    An orderly end would wait for the other processes, and they wait for this one in their next
    step; so they notice that it is gone, and end too.
    """
    with contextlib.suppress(OSError):  # nobody reads them any more
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
