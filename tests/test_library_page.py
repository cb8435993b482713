"""docs/library.md does what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ssd_jax import config as config_lib
from ssd_jax.evaluation import ImageDetections, ImageGroundTruth, voc_ap
from ssd_jax.model import SSD
from ssd_jax.priors import PriorSpec
from ssd_jax.recipe import build_predict
from ssd_jax.training.state import init_state
from ssd_jax.training.step import build_train_step

ROOT = Path(__file__).parents[1]
BASE = config_lib.base


@pytest.mark.usefixtures("compiled_in_haste", "loose_dtypes")
def test_every_snippet_runs(monkeypatch, shapes_folder, capsys):
    def base():
        config = BASE()
        config.data.data_dir = shapes_folder
        return config

    monkeypatch.setattr(config_lib, "base", base)
    monkeypatch.syspath_prepend(str(ROOT))
    text = (ROOT / "docs/library.md").read_text()
    names: dict = {"__name__": "library"}
    monkeypatch.setitem(sys.modules, "library", type(sys)("library"))
    snippets = list(re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    assert len(snippets) >= 11
    for snippet in snippets:
        # As many empty lines before it, so that a traceback has the page's line numbers.
        above = "\n" * text[: snippet.start(1)].count("\n")
        with jax.numpy_rank_promotion("allow"), jax.default_prng_impl("rbg"):
            exec(compile(above + snippet[1], str(ROOT / "docs/library.md"), "exec"), names)

    # What is there, found with any scores, is all right, and in pixels.
    truth = names["ground_truth"]
    assert [image.labels.tolist() for image in truth] == [[1], [3, 2]]
    np.testing.assert_allclose(truth[0].boxes, [[9.6, 9.6, 57.6, 48]], rtol=1e-6)
    np.testing.assert_allclose(truth[0].area, [48 * 38.4], rtol=1e-6)
    found = [ImageDetections(one.boxes, np.ones(len(one.labels)), one.labels) for one in truth]
    assert voc_ap(found, truth, num_classes=4, inclusive_pixels=False).mean_ap == 1
    assert [len(image.scores) for image in names["detections"]] == [
        int(np.sum(labels > 0)) for labels in names["found"].labels
    ]

    assert len(names["devices"].devices) == 2
    assert names["state"].step == 20
    assert len(names["evaluation"].results) == 32
    assert list(names["evaluation"].scores.mean_ap) == ["voc07", "coco", "voc"]
    lines = re.findall(r"^mAP (\d\.\d+)", capsys.readouterr().out, re.MULTILINE)
    assert float(lines[1]) == round(names["evaluation"].mean, 4) < 1


def test_counting_the_last_pixel_makes_relative_boxes_overlap():
    """Two squares of side .5 that share a quarter have an IoU of 1 / 7, no hit."""
    one = np.ones(1, np.int64)
    there = ImageGroundTruth(
        np.array([[0, 0, 0.5, 0.5]]), one, one == 0, one == 0, area=np.array([0.25])
    )
    found = ImageDetections(np.array([[0.25, 0.25, 0.75, 0.75]]), np.ones(1), one)
    mean_ap = {
        inclusive: voc_ap([found], [there], num_classes=2, inclusive_pixels=inclusive).mean_ap
        for inclusive in (False, True)
    }
    assert mean_ap == {False: 0, True: 1}


@pytest.mark.usefixtures("compiled_in_haste", "loose_dtypes")
def test_an_input_of_other_sides_trains_and_detects():
    """(height, width) in Python; the field of a config is the side of a square."""
    config = config_lib.base()
    with pytest.raises(TypeError):
        config.model.size = (96, 160)
    model = SSD(4, PriorSpec.for_image_size((96, 160)), width=0.125)
    optimizer = optax.adam(1e-3)
    state = jax.eval_shape(lambda: init_state(model, optimizer, 0))
    batch = {
        "image": np.zeros((2, 128, 128, 3), np.uint8),
        "size": np.full((2, 2), 128, np.int32),
        "boxes": np.zeros((2, 3, 4), np.float32),
        "labels": np.zeros((2, 3), np.int32),
    }
    after, _ = jax.eval_shape(build_train_step(config, model, optimizer), state, batch)
    predict = build_predict(config, model)
    found = jax.eval_shape(predict, after.variables, batch["image"], batch["size"])
    assert found.boxes.shape == (2, config.detect.max_detections, 4)


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


@pytest.mark.usefixtures("loose_dtypes")
def test_the_small_resnet_computes_in_the_type_that_it_is_given():
    from examples.resnet import ssd_resnet

    images = np.zeros((1, 96, 96, 3), np.float32)

    def shapes_and_features(dtype):
        model = ssd_resnet(4, 96, dtype=dtype)
        variables = jax.eval_shape(model.init, jax.random.key(0), images)
        features = jax.eval_shape(
            lambda *inputs: model.apply(*inputs, method="features"), variables, images
        )
        return variables, {feature.dtype for feature in features}

    variables, types = shapes_and_features(jnp.bfloat16)
    assert types == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    assert shapes_and_features(jnp.float32) == (variables, {jnp.dtype(jnp.float32)})


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
