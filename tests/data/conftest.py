import pytest

from ssd_jax.data.example import Dataset


@pytest.fixture(scope="session")
def small_shapes(shapes_folder: str) -> dict[str, Dataset]:
    """Both splits of the embedded dataset's small config."""
    from ssd_jax.data.shapes import load_shapes

    return {s: load_shapes(s, data_dir=shapes_folder, config="small") for s in ("train", "test")}
