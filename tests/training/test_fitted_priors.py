import io

import numpy as np
import pytest
from rich.console import Console

from ssd_jax import config as config_lib
from ssd_jax.data.objects import Objects
from ssd_jax.prior_fit import best_overlaps
from ssd_jax.recipe import build_priors
from ssd_jax.training.checkpoints import Meta
from ssd_jax.training.fitted_priors import with_fitted_priors


def small_squares(count: int) -> Objects:
    """Of 9 to 18 pixels at 300: VOC's smallest prior, 30 pixels, has IoU .36 at most."""
    rng = np.random.default_rng(1)
    side = rng.uniform(9, 18, (count, 1)) / 300
    low = rng.uniform(0, 1 - side, (count, 2))
    marks = np.zeros(count, np.bool_)
    return Objects(
        starts=np.arange(count + 1),
        boxes=np.concatenate([low, low + side], axis=1).astype(np.float32),
        labels=np.ones(count, np.int32),
        difficult=marks,
        crowd=marks,
        area=(side[:, 0] * 300).astype(np.float32) ** 2,
    )


def fitted_config():
    config = config_lib.base()
    config.priors.preset = "fitted"
    return config


def recall(objects, config) -> float:
    return float(np.mean(best_overlaps(objects.boxes, build_priors(config)) >= 0.5))


def test_priors_fit_the_objects_and_are_in_the_config():
    objects, console = small_squares(400), Console(file=io.StringIO(), width=400)
    asked = fitted_config()
    config = with_fitted_priors(asked, objects, None, console)
    assert recall(objects, asked) == 0
    assert recall(objects, config) > 0.75
    assert asked.priors.sizes == ()
    assert f"an IoU of 0.5 with {recall(objects, config):.1%}" in console.file.getvalue()
    read = config_lib.from_json(config_lib.to_json(config))
    assert build_priors(read) == build_priors(config)


def test_a_run_that_goes_on_keeps_its_priors():
    objects, console = small_squares(400), Console(file=io.StringIO())
    first = with_fitted_priors(fitted_config(), objects, None, console)
    again = with_fitted_priors(fitted_config(), small_squares(3), Meta(first, ("cell",)), console)
    assert again.to_dict() == first.to_dict()


def test_other_presets_are_left_as_they_are():
    config = config_lib.base()
    assert with_fitted_priors(config, small_squares(3), None, Console()) is config


def test_sizes_that_are_given_are_kept_and_that_is_told():
    config, console = fitted_config(), Console(file=io.StringIO(), width=200)
    config.priors.sizes = (0.1, 0.2, 0.4, 0.6, 0.8, 0.9)
    assert with_fitted_priors(config, small_squares(400), None, console) is config
    assert "config.priors.sizes is given: no priors are fitted" in console.file.getvalue()


def test_without_objects_nothing_can_be_fitted():
    with pytest.raises(ValueError, match=r"no object to fit priors to: set it to 'voc'"):
        with_fitted_priors(fitted_config(), small_squares(0), None, Console())
