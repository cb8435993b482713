"""Where what XLA compiles is kept."""

import jax
import pytest

from ssd_jax import compilation, processes

FOLDER = "jax_compilation_cache_dir"


@pytest.fixture(autouse=True)
def configured():
    """Puts JAX's settings back."""
    names = (FOLDER, "jax_persistent_cache_enable_xla_caches")
    before = {name: jax.config.values[name] for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_folder_is_the_one_given_or_the_usual_one(tmp_path, monkeypatch):
    monkeypatch.setenv("SSD_JAX_CACHE", str(tmp_path))
    jax.config.update(FOLDER, None)
    compilation.enable_cache(None)
    assert jax.config.values[FOLDER] == str(tmp_path / "compiled")
    compilation.enable_cache(str(tmp_path / "mine"))
    assert jax.config.values[FOLDER] == str(tmp_path / "mine")
    compilation.enable_cache("")
    assert jax.config.values[FOLDER] is None


@pytest.mark.parametrize("shared", [True, False])
def test_several_processes_keep_it_only_where_all_of_them_see_it(
    tmp_path, monkeypatch, caplog, shared
):
    def check(folder):
        if not shared:
            raise OSError(f"{folder} is not the same folder for all processes")

    monkeypatch.setattr(processes, "are_several", lambda: True)
    monkeypatch.setattr(processes, "check_shared", check)
    compilation.enable_cache(str(tmp_path))
    assert jax.config.values[FOLDER] == (str(tmp_path) if shared else None)
    assert ("what is compiled is not kept" in caplog.text) is not shared
