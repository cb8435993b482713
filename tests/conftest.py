"""Tests run with shapes checked, strict dtypes, no implicit broadcasting, eight CPU devices."""

from collections.abc import Iterator

import jax
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

install_import_hook("ssd_jax", "beartype.beartype")


@pytest.fixture
def loose_dtypes() -> Iterator[None]:
    """For tests of training: optax relies on JAX's usual promotion."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="session")
def shapes_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the small config of the embedded dataset is prepared, once for all tests."""
    from ssd_jax.data.shapes import load_shapes

    folder = str(tmp_path_factory.mktemp("tfds"))
    load_shapes("train", data_dir=folder, config="small")
    return folder
