import pytest

from ssd_jax import config as config_lib


def test_json_and_back_is_the_same():
    config = config_lib.base()
    config.augment.contrast_range = (0.25, 1.75)
    config.data.class_names = ("cat", "dog")
    assert config_lib.from_json(config_lib.to_json(config)).to_dict() == config.to_dict()


def test_fields_of_another_version_are_named():
    config = config_lib.base()
    text = config_lib.to_json(config).replace('"momentum"', '"inertia"')
    with pytest.raises(ValueError, match=r"lacks \['optimizer\.momentum'\].*optimizer\.inertia"):
        config_lib.from_json(text)


def test_differences_are_named_with_both_values():
    old, new = config_lib.base(), config_lib.base()
    new.train.steps = 10
    new.model.size = 512
    assert config_lib.differences(old, new) == {
        "model.size": (300, 512),
        "train.steps": (120_000, 10),
    }
