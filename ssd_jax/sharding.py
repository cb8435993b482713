"""How arrays lie on devices: batches split by rows, everything else on each."""

from collections.abc import Sequence

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

ROWS = "data"


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with the one axis 'data' over these devices, or over all there are."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (ROWS,), axis_types=(AxisType.Auto,), devices=devices)


def shardings(mesh: Mesh) -> tuple[NamedSharding, NamedSharding]:
    """Two placements: (a copy on every device, split by rows over the devices)."""
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(ROWS))
