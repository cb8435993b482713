"""examples/finetune.ipynb runs from top to bottom."""

import json
import sys
import types
from pathlib import Path

import jax
import pytest

from ssd_jax import Detector

NOTEBOOK = Path(__file__).parents[1] / "examples/finetune.ipynb"


@pytest.mark.usefixtures("compiled_in_haste", "loose_dtypes")
def test_the_notebook_runs(tmp_path, monkeypatch, shapes_folder):
    """Its cells, with fewer steps, and with the pictures that it shows counted."""
    monkeypatch.chdir(tmp_path)
    shown = []
    # Of Jupyter only what the cells use, so that the test needs no kernel.
    jupyter = types.ModuleType("IPython.display")
    monkeypatch.setattr(jupyter, "Image", lambda data: data, raising=False)
    monkeypatch.setattr(jupyter, "display", shown.append, raising=False)
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", jupyter)
    Path("runs/finetune").mkdir(parents=True)
    Path("runs/finetune/datasets").symlink_to(shapes_folder)

    names: dict = {"__name__": "notebook"}
    cells = [c for c in json.loads(NOTEBOOK.read_text())["cells"] if c["cell_type"] == "code"]
    assert all(cell["outputs"] == [] for cell in cells)
    with jax.default_prng_impl("rbg"):  # compiles in a fraction of the time
        for number, cell in enumerate(cells):
            source = "".join(cell["source"])
            source = source.replace("START_STEPS, STEPS = 200, 400", "START_STEPS, STEPS = 2, 2")
            exec(compile(source, f"cell {number}", "exec"), names)
    assert "START_STEPS, STEPS = 200, 400" in "".join(cells[0]["source"])
    assert [data[:4] for data in shown] == [b"\x89PNG"] * 2
    assert len(names["results"]) == 8
    assert Detector.from_checkpoint("runs/finetune/fine").class_names == ("plus", "ring")
