"""How arrays lie on devices: batches split by rows, the state on each device or split over some."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

ROWS = "data"
FSDP = "fsdp"


def make_mesh(devices: Sequence[jax.Device] | None = None, fsdp: int = 1) -> Mesh:
    """A mesh with the axes 'data' and 'fsdp' over these devices, or over all of all processes.

    The devices of a process lie side by side: a process has an unbroken part of a batch's rows, and
    the parts of a parameter lie close together.

    Args:
      devices: which; all there are if None.
      fsdp: devices that share one copy of the state.

    Raises:
      ValueError: the devices cannot be shared out so.
    """
    devices = jax.devices() if devices is None else devices
    if fsdp < 1 or len(devices) % fsdp:
        raise ValueError(
            f"config.mesh.fsdp is {fsdp}: it must divide the number of devices, {len(devices)}"
        )
    in_order = sorted(devices, key=lambda device: (device.process_index, device.id))
    grid = np.array(in_order, dtype=object).reshape(-1, fsdp)
    return Mesh(grid, (ROWS, FSDP), axis_types=(AxisType.Auto, AxisType.Auto))


def shardings(mesh: Mesh) -> tuple[NamedSharding, NamedSharding]:
    """Two placements: (a copy on every device, split by rows over all devices)."""
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec((ROWS, FSDP)))


def state_shardings(mesh: Mesh, state: Any) -> Any:
    """A tree like `state` with the placement of each array, by a rule that knows no names.

    An array is split over the axis 'fsdp' along the longest dimension that this divides; one
    without such a dimension, and every one where 'fsdp' is 1, is on each device whole.
    """
    parts = mesh.shape[FSDP]

    def placement(leaf: Any) -> NamedSharding:
        divisible = [axis for axis in range(leaf.ndim) if leaf.shape[axis] % parts == 0]
        if parts == 1 or not divisible:
            return NamedSharding(mesh, PartitionSpec())
        longest = max(divisible, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * longest, FSDP))

    return jax.tree.map(placement, state)


def place(tree: Any, placements: Any) -> Any:
    """Arrays that every process has whole, put where `placements` says.

    Args:
      tree: of arrays of this process.
      placements: one for all, or a tree of them like `tree`.
    """

    def put(leaf: Any, placement: Sharding) -> jax.Array:
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, placement, lambda index: whole[index])

    if isinstance(placements, Sharding):
        return jax.tree.map(lambda leaf: put(leaf, placements), tree)
    return jax.tree.map(put, tree, placements)


def place_rows(batch: Mapping[str, Any], rows: Sharding) -> dict[str, jax.Array]:
    """The global batch of which every process has its rows; what is on the devices stays there."""
    return {
        name: value
        if isinstance(value, jax.Array)
        else jax.make_array_from_process_local_data(rows, value)
        for name, value in batch.items()
    }


def rows_here(values: jax.Array | np.ndarray) -> np.ndarray:
    """Of a batch that is split by rows the rows on this process's devices, in order.

    No other process takes part. What a process has in NumPy is its own.
    """
    if isinstance(values, np.ndarray):
        return values
    # By their first row: where devices hold copies, one of them.
    parts = {shard.index[0].start or 0: shard.data for shard in values.addressable_shards}
    return np.concatenate([np.asarray(parts[start]) for start in sorted(parts)])
