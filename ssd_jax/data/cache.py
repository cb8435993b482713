"""A whole split decoded and kept, so that later epochs cost the host nothing."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Int, UInt8

from ssd_jax import processes
from ssd_jax.data.batch import Batch, empty_batch
from ssd_jax.data.host_memory import free_bytes

logger = logging.getLogger(__name__)

_GB = 1e9


class HostCache:
    """Every row of a split as a batch has it, in this process's memory."""

    def __init__(self, count: int, canvas_size: int, slots: int) -> None:
        """Makes room for `count` rows.

        Raises:
          MemoryError: It does not fit into the memory that is free.
        """
        _check_room(
            "host",
            count * canvas_size**2 * 3,
            free_bytes() // processes.on_this_host(),
            f"{count} canvases of {canvas_size} x {canvas_size} pixels in memory",
        )
        self._table = empty_batch(count, canvas_size, slots)

    def fill(self, batches: Iterable[Batch], progress: Callable[[int, int], None]) -> None:
        """Stores the rows of batches that hold the whole split in order."""
        total, done, names = len(self._table["index"]), 0, []
        for batch in batches:
            _copy(batch, self._table, done)
            names += batch["name"].tolist()
            done = len(names)
            progress(done, total)
        self._table["name"] = np.array(names)

    def batch(self, positions: Int[np.ndarray, " B"]) -> Batch:
        """The rows at these positions of the split."""
        return _rows(self._table, positions)


class DeviceCache:
    """Every row of a split as a batch has it, the canvases in the devices' memory.

    Each device holds an equal part of the canvases. For a batch each gives those that it holds, and
    gets those that belong to it as the batch is sharded: only a batch ever goes between devices.
    """

    def __init__(self, count: int, canvas_size: int, slots: int, sharding: NamedSharding) -> None:
        """Makes room for `count` rows.

        Args:
          count: Images.
          canvas_size: Side of the canvases, pixels.
          slots: Ground-truth slots of an image.
          sharding: How the rows of a batch lie on the devices of a mesh, of all processes.

        Raises:
          MemoryError: It does not fit into the memory that is free on the devices.
        """
        self._sharding = sharding
        self._devices = list(sharding.mesh.devices.flat)
        self._ours = [
            (i, device)
            for i, device in enumerate(self._devices)
            if device.process_index == jax.process_index()
        ]
        self._held = -(-count // len(self._devices))
        _check_room(
            "device",
            self._held * canvas_size**2 * 3,
            min(_free_bytes(device) for _, device in self._ours),
            f"{self._held} of {count} canvases of {canvas_size} x {canvas_size} pixels on each of "
            f"{len(self._devices)} devices",
        )
        self._table = empty_batch(count, 0, slots)
        shape = (self._held, canvas_size, canvas_size, 3)
        self._parts = {i: jnp.zeros(shape, jnp.uint8, device=device) for i, device in self._ours}

    def fill(self, batches: Iterable[Batch], progress: Callable[[int, int], None]) -> None:
        """Stores the rows of batches that hold the whole split in order."""
        total, done, names = len(self._table["index"]), 0, []
        for batch in batches:
            canvases = cast(np.ndarray, batch["image"])
            _copy({**batch, "image": canvases[:, :0, :0]}, self._table, done)
            self._store(canvases, done)
            names += batch["name"].tolist()
            done = len(names)
            progress(done, total)
        self._table["name"] = np.array(names)
        parts = list(self._parts.values())
        shape = (self._held * len(self._devices), *parts[0].shape[1:])
        self._canvases = jax.make_array_from_single_device_arrays(shape, self._sharding, parts)

    def batch(self, positions: Int[np.ndarray, " B"], share: slice = slice(None)) -> Batch:
        """The rows at a share of these positions of the split, their images on the devices.

        Where the devices are several processes' the images are those of all positions, for all
        take part in gathering them.
        """
        wanted = positions[share] if self._sharding.is_fully_addressable else positions
        return {
            **_rows(self._table, positions[share]),
            "image": _gather(self._canvases, wanted.astype(np.int32), self._sharding),
        }

    def _store(self, canvases: UInt8[np.ndarray, "b S S 3"], start: int) -> None:
        """Writes canvases to the parts that hold the rows from `start` on."""
        stop = start + len(canvases)
        for i, device in self._ours:
            first = i * self._held
            low, high = max(start, first), min(stop, first + self._held)
            if low < high:
                moved = jax.device_put(canvases[low - start : high - start], device)
                self._parts[i] = _write(self._parts[i], moved, np.int32(low - first))


@functools.partial(jax.jit, donate_argnums=0)
def _write(
    part: UInt8[jax.Array, "R S S 3"], canvases: UInt8[jax.Array, "b S S 3"], row: Int[Any, ""]
) -> UInt8[jax.Array, "R S S 3"]:
    """The part with canvases written in place from `row` on."""
    return jax.lax.dynamic_update_slice_in_dim(part, canvases, row, axis=0)


@functools.partial(jax.jit, static_argnames="sharding")
def _gather(
    canvases: UInt8[jax.Array, "R S S 3"], positions: Int[Any, " B"], sharding: NamedSharding
) -> UInt8[jax.Array, "B S S 3"]:
    """The canvases at `positions`, sharded by rows as the whole is."""
    axis = sharding.spec[0]

    def from_each_device(
        part: UInt8[jax.Array, "r S S 3"], positions: Int[jax.Array, " B"]
    ) -> UInt8[jax.Array, "b S S 3"]:
        held = positions - jax.lax.axis_index(axis) * part.shape[0]
        is_here = (held >= 0) & (held < part.shape[0])
        here = jnp.where(is_here[:, None, None, None], part[jnp.clip(held, 0, len(part) - 1)], 0)
        # Every row is on one device and zero on all others: their sum is the row.
        return jax.lax.psum_scatter(here, axis, scatter_dimension=0, tiled=True)

    return jax.shard_map(
        from_each_device,
        mesh=sharding.mesh,
        in_specs=(PartitionSpec(axis), PartitionSpec()),
        out_specs=PartitionSpec(axis),
    )(canvases, positions)


def _copy(batch: Batch, table: Batch, start: int) -> None:
    """Writes a batch to a table's rows from `start` on, all but the names."""
    rows = slice(start, start + len(batch["index"]))
    for name, values in batch.items():
        if name != "name":
            cast(Any, table)[name][rows] = values


def _rows(table: Batch, positions: Int[np.ndarray, " B"]) -> Batch:
    batch = {name: cast(Any, values)[positions] for name, values in table.items()}
    batch["name"] = np.array(batch["name"].tolist())  # no wider than these names need
    return cast(Batch, batch)


def _free_bytes(device: jax.Device) -> int:
    """Bytes that a device has free; one without memory of its own shares the host's."""
    statistics = device.memory_stats()
    if statistics is None:
        return free_bytes() // jax.local_device_count() // processes.on_this_host()
    return statistics["bytes_limit"] - statistics["bytes_in_use"]


def _check_room(cache: str, needed: int, free: int, what: str) -> None:
    """Logs what a cache needs; raises a MemoryError if it is more than there is."""
    need = f"data.cache={cache} keeps {what}: {needed / _GB:.2f} GB, {free / _GB:.2f} GB are free"
    if needed > free:
        other = "data.cache=host or none" if cache == "device" else "data.cache=none"
        raise MemoryError(f"{need}: use {other}, or a smaller data.canvas")
    logger.info(need)
