import pytest

from configs import coco300, voc300, voc300_plus
from ssd_jax import config as config_lib
from ssd_jax.schedules import FAST, with_schedule


def test_the_full_schedule_is_the_recipes_own():
    config = voc300.get_config()
    assert with_schedule(config).to_dict() == config.to_dict()


def test_fast_sets_its_fields_and_no_other():
    config = voc300.get_config()
    config.schedule = "fast"
    changed = config_lib.differences(config, with_schedule(config))
    assert {name: new for name, (_, new) in changed.items()} == {**FAST, "schedule": "full"}
    assert config.train.steps == 120_000


def test_what_was_given_besides_stays():
    config = voc300.get_config()
    config.schedule = "fast"
    config.train.steps = 7
    fast = with_schedule(config, ["train.steps", "model.dtype"])
    assert (fast.train.steps, fast.train.batch_size) == (7, 128)
    assert fast.model.dtype == "float32"  # also where it is the original's value


def test_a_schedule_for_another_recipe_is_refused():
    config = voc300_plus.get_config()
    config.schedule = "fast"
    with pytest.raises(ValueError, match=r"made for configs/voc300\.py.*dtype to 'bfloat16'"):
        with_schedule(config)


def test_a_schedule_for_other_data_is_refused():
    config = coco300.get_config()
    config.schedule = "fast"
    with pytest.raises(ValueError, match=r"made for VOC07\+12.*data\.kind is 'coco'"):
        with_schedule(config)
    config = voc300.get_config()
    config.schedule = "short"
    with pytest.raises(ValueError, match=r"config\.schedule is 'short'.*'full' or 'fast'"):
        with_schedule(config)
