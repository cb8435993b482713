"""Tests run with shapes checked, strict dtypes, no implicit broadcasting, eight CPU devices."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator

# What one test has compiled, others and the programs that they run need not compile again. Set by
# the first process, before its workers start; a new folder each time, so that nothing is stale.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="ssd_jax_tests_")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

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


@pytest.fixture(scope="module")
def compiled_in_haste() -> Iterator[None]:
    """XLA compiles a training step in half the time, which then is four times as slow.

    For tests that take few steps and ask what is computed, not what rounding makes of it; for the
    programs that they run too.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        jax.config.update("jax_disable_most_optimizations", True)
        yield
        jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def shapes_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the small config of the embedded dataset is prepared, once for all tests."""
    from ssd_jax.data.shapes import load_shapes

    folder = str(tmp_path_factory.mktemp("tfds"))
    load_shapes("train", data_dir=folder, config="small")
    return folder
