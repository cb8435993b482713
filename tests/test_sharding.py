import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from ssd_jax.sharding import make_mesh, place, rows_here, shardings, state_shardings


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((3, 3, 64, 128), PartitionSpec(None, None, None, "fsdp")),
        ((3, 3, 512, 24), PartitionSpec(None, None, "fsdp")),
        ((6, 4), PartitionSpec(None, "fsdp")),  # the longest that four devices divide
        ((6,), PartitionSpec()),
        ((), PartitionSpec()),
    ],
)
def test_the_longest_divisible_dimension_is_split(shape, spec):
    leaf = jnp.zeros(shape)
    (placement,) = jax.tree.leaves(state_shardings(make_mesh(fsdp=4), {"a": leaf}))
    assert placement.spec == spec
    (whole,) = jax.tree.leaves(state_shardings(make_mesh(), {"a": leaf}))
    assert whole.spec == PartitionSpec()


def test_rows_are_split_over_both_axes_in_the_order_of_the_devices():
    mesh = make_mesh(fsdp=2)
    assert dict(mesh.shape) == {"data": 4, "fsdp": 2}
    placed = place(np.arange(16), shardings(mesh)[1])
    for shard in placed.addressable_shards:
        np.testing.assert_array_equal(shard.data, 2 * shard.device.id + np.arange(2))


@pytest.mark.parametrize("fsdp", [0, 3])
def test_a_number_that_does_not_divide_the_devices_is_refused(fsdp):
    with pytest.raises(ValueError, match=rf"config\.mesh\.fsdp is {fsdp}: .* devices, 8"):
        make_mesh(fsdp=fsdp)


def test_the_rows_here_come_in_order_and_once():
    values = np.arange(48).reshape(16, 3)
    replicated, rows = shardings(make_mesh(jax.devices()[:4], fsdp=2))
    for placement in (rows, replicated):
        np.testing.assert_array_equal(rows_here(place(values, placement)), values)
    np.testing.assert_array_equal(rows_here(values), values)
