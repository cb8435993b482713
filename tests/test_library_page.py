"""docs/library.md does what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from ssd_jax.model import SSD
from ssd_jax.priors import PriorSpec

ROOT = Path(__file__).parents[1]


@pytest.mark.usefixtures("loose_dtypes")
def test_every_snippet_runs(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    text = (ROOT / "docs/library.md").read_text()
    names: dict = {"__name__": "library"}
    monkeypatch.setitem(sys.modules, "library", type(sys)("library"))
    snippets = list(re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    assert len(snippets) >= 9
    for snippet in snippets:
        # As many empty lines before it, so that a traceback has the page's line numbers.
        above = "\n" * text[: snippet.start(1)].count("\n")
        with jax.numpy_rank_promotion("allow"), jax.default_prng_impl("rbg"):
            exec(compile(above + snippet[1], str(ROOT / "docs/library.md"), "exec"), names)


def test_links_are_to_files_and_headings():
    text = (ROOT / "docs/library.md").read_text()
    headings = {
        re.sub(r"[^\w -]", "", line[3:]).strip().lower().replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("## ")
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in headings
        else:
            assert (ROOT / "docs" / target).is_file(), target


def test_a_backbone_of_other_sizes_is_named():
    from examples.resnet import SmallResNet, feature_maps, ssd_resnet

    images = np.zeros((1, 96, 96, 3), np.float32)
    model = SSD(4, PriorSpec.for_image_size(96), backbone=SmallResNet((8, 8)))
    with pytest.raises(ValueError, match=r"gives feature maps .*\(\(12, 12\), \(6, 6\)\), the"):
        jax.eval_shape(model.init, jax.random.key(0), images)
    assert feature_maps(100, 3) == ((13, 13), (7, 7), (4, 4))
    loc, _ = jax.eval_shape(
        lambda x: ssd_resnet(3, 100).init_with_output(jax.random.key(0), x)[0],
        np.zeros((1, 100, 100, 3), np.float32),
    )
    assert loc.shape == (1, (169 + 49 + 16) * 4, 4)


def test_images_that_are_no_floats_are_refused():
    """In a process of its own, for there the shapes and types of arguments are not checked."""
    program = """
import jax, numpy
from ssd_jax.model import SSD
from ssd_jax.priors import PriorSpec
model = SSD(4, PriorSpec.for_image_size(96), width=0.125)
for dtype in (numpy.uint8, numpy.int32, numpy.bool_):
    try:
        jax.eval_shape(model.init, jax.random.key(0), numpy.zeros((1, 96, 96, 3), dtype))
    except ValueError as fault:
        print(fault)
"""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert [line.split("got ")[1].split(":")[0] for line in lines] == ["uint8", "int32", "bool"]
    assert all("takes floats, RGB minus the mean" in line for line in lines)
