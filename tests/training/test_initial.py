import dataclasses
import io
import shlex
import shutil

import jax
import numpy as np
import pytest
from rich.console import Console

from ssd_jax import cli
from ssd_jax import config as config_lib
from ssd_jax.detector import load_checkpoint
from ssd_jax.recipe import build_model, build_priors, prior_flags
from ssd_jax.training import initial
from ssd_jax.training.checkpoints import Checkpoints, Meta
from ssd_jax.training.loop import train
from ssd_jax.training.optimizer import build_optimizer
from ssd_jax.training.state import init_state
from ssd_jax.weights import download
from tests.small import small_config

pytestmark = pytest.mark.usefixtures("compiled_in_haste", "loose_dtypes")

CLASSES = ("dog", "circle")
MEAN, STD = (100.0, 110.0, 120.0), (50.0, 51.0, 52.0)


@pytest.fixture
def run(tmp_path):
    """(folder, state) of a run with two classes, one of which `shapes` has, and its own mean."""
    config = small_config("")
    config.model.mean, config.model.std = MEAN, STD
    config.priors.clip = "size"
    state = init_state(build_model(config, CLASSES), build_optimizer(config), seed=9)
    checkpoints = Checkpoints(tmp_path / "old", keep=1)
    checkpoints.save(state, Meta(config, CLASSES))
    checkpoints.close()
    return tmp_path / "old", state


def test_fine_tuning_keeps_what_fits_and_goes_on_without_the_source(run, tmp_path, shapes_folder):
    folder, old = run
    config = small_config(shapes_folder)
    config.init = str(folder)
    config.optimizer.rate = 0.0
    config.train.steps = 1
    config.data.train = config.data.eval = "train[:8]"
    console = Console(file=io.StringIO(), width=300)
    train(config, tmp_path / "new", console=console, devices=jax.devices()[:1])
    printed = console.file.getvalue()
    assert f"step 0 of {folder}: classes taken by name: 1 of" in printed
    assert '--config.priors.clip="size"' in printed
    assert f"config.model.mean is {MEAN}, as it expects, not (123.0, 117.0, 104.0)" in printed

    variables, meta, _ = load_checkpoint(tmp_path / "new")
    assert meta.config.model.mean == MEAN
    assert meta.config.model.std == STD
    np.testing.assert_array_equal(
        variables["params"]["extras"]["conv6_2"]["conv"]["kernel"],
        old.params["extras"]["conv6_2"]["conv"]["kernel"],
    )
    label = meta.class_names.index("circle") + 1
    ours = np.asarray(variables["params"]["heads"]["conf_1"]["kernel"])
    theirs = np.asarray(old.params["heads"]["conf_1"]["kernel"])
    ours = ours.reshape(*ours.shape[:3], 6, -1)[..., (0, label)]
    np.testing.assert_array_equal(ours, theirs.reshape(*theirs.shape[:3], 6, -1)[..., (0, 2)])

    shutil.rmtree(folder)
    config.train.steps = 2
    console = Console(file=io.StringIO(), width=300)
    train(config, tmp_path / "new", console=console, devices=jax.devices()[:1])
    assert "going on from step 1 of 2" in console.file.getvalue()


def test_another_kind_of_network_is_named(run, shapes_folder, tmp_path):
    folder, _ = run
    config = small_config(shapes_folder)
    config.init = str(folder)
    config.model.batch_norm = False
    with pytest.raises(ValueError, match=r"config\.init, step 0 of .*batch_norm=True"):
        train(config, tmp_path / "new", console=Console(file=io.StringIO()))


def test_a_fault_before_the_first_step_leaves_the_old_run_alone(run, shapes_folder):
    folder, old = run
    config = small_config(shapes_folder)
    config.init = str(folder / "nothing.pth")
    with pytest.raises(FileNotFoundError, match=r"nothing\.pth"):
        train(config, folder, overwrite=True, console=Console(file=io.StringIO()))
    variables, _, _ = load_checkpoint(folder)
    jax.tree.map(np.testing.assert_array_equal, variables["params"], old.params)


def test_a_wrong_name_is_told(tmp_path):
    config = config_lib.base()
    config.init = str(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"config\.init is .*nothing.*: neither 'scratch'"):
        initial.load_initial(config)


def test_offline_says_how_to_do_without(tmp_path, monkeypatch):
    monkeypatch.setenv("SSD_JAX_CACHE", str(tmp_path))
    nowhere = dataclasses.replace(download.VGG16, urls=("http://127.0.0.1:9/vgg16.h5",))
    monkeypatch.setattr(download, "VGG16", nowhere)
    config = config_lib.base()
    config.init = "imagenet"
    with pytest.raises(OSError, match=r"cannot download vgg16.*--config\.init=scratch"):
        initial.load_initial(config)


def test_published_recipes_start_from_imagenet_and_the_others_from_scratch():
    from configs import coco300, coco512, custom_voc, shapes, voc300, voc512

    for recipe in (voc300, voc512, coco300, coco512):
        assert recipe.get_config().init == "imagenet"
    for recipe in (shapes, custom_voc):
        assert recipe.get_config().init == "scratch"


def test_the_flags_printed_give_the_priors_of_the_source(run, tmp_path):
    """All that a recipe says of priors differs, and reading the flags brings it back."""
    config = small_config("")
    config.priors.aspect_ratios = ((3.0,), *((2.0, 3.0),) * 2, (2.0,))
    config.priors.variances = (0.2, 0.3)
    config.priors.clip = "center_form"
    spec = dataclasses.replace(
        build_priors(config), min_sizes=(9.5, 30.0, 50.0, 80.0), max_sizes=(30.0, 50.0, 80.0, 99.0)
    )
    arguments = shlex.split(prior_flags(spec))
    there = build_priors(cli.changed(small_config(""), arguments, ["priors.*"]))
    assert there == spec
