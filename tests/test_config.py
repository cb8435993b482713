import json

import pytest

from ssd_jax import config as config_lib


def test_json_and_back_is_the_same():
    config = config_lib.base()
    config.augment.contrast_range = (0.25, 1.75)
    config.data.class_names = ("cat", "dog")
    assert config_lib.from_json(config_lib.to_json(config)).to_dict() == config.to_dict()


def test_unknown_fields_are_named():
    text = config_lib.to_json(config_lib.base()).replace('"momentum"', '"inertia"')
    with pytest.raises(ValueError, match=r"unknown \['optimizer\.inertia'\]"):
        config_lib.from_json(text)


def test_a_recipe_cannot_set_what_is_no_field():
    config = config_lib.base()
    with pytest.raises(AttributeError, match="bach_size"):
        config.train.bach_size = 16


def test_fields_that_an_older_version_lacked_get_their_defaults():
    config = config_lib.base()
    config.train.steps = 7
    written = json.loads(config_lib.to_json(config))
    del written["optimizer"]["momentum"], written["matching"]
    read = config_lib.from_json(json.dumps(written))
    assert read.to_dict() == config.to_dict()


def test_lists_and_tuples_are_alike():
    ours, theirs = config_lib.base(), config_lib.base()
    ours.priors.aspect_ratios = ([2.0], [2.0, 3.0])
    theirs.priors.aspect_ratios = ((2.0,), (2.0, 3.0))
    assert config_lib.differences(ours, theirs) == {}
    theirs.priors.aspect_ratios = ((2.0,), (2.0, 4.0))
    assert [*config_lib.differences(ours, theirs)] == ["priors.aspect_ratios"]


def test_differences_are_named_with_both_values():
    old, new = config_lib.base(), config_lib.base()
    new.train.steps = 10
    new.model.size = 512
    assert config_lib.differences(old, new) == {
        "model.size": (300, 512),
        "train.steps": (120_000, 10),
    }
