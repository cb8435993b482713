"""What may change when a run goes on, and what may not."""

import io

import pytest
from rich.console import Console

from ssd_jax import config as config_lib
from ssd_jax.training.checkpoints import Meta
from ssd_jax.training.inputs import load_splits
from ssd_jax.training.setup import check_goes_on, set_up
from tests.data import make

NAMES = ("cat", "dog")


def going_on(class_names=NAMES, images=(None, None), start=0, **fields) -> str:
    """What is printed of a run that goes on with other fields than it began with."""
    old, new = config_lib.base(), config_lib.base()
    new.update_from_flattened_dict(fields)
    printed = io.StringIO()
    before = Meta(old, NAMES, train_images=images[0])
    after = Meta(new, class_names, train_images=images[1])
    check_goes_on(before, after, start, Console(file=printed, width=200))
    return printed.getvalue()


def test_the_same_config_says_nothing():
    assert going_on() == going_on(images=(5, 5)) == going_on(images=(None, 5)) == ""


@pytest.mark.parametrize(
    "change", [{"optimizer.rate": 0.5}, {"train.steps": 50}, {"train.batch_size": 8}], ids=str
)
def test_a_run_that_is_done_is_not_shown_as_one_of_other_settings(change):
    last = config_lib.base().train.steps
    assert "config." in going_on(start=10, **change)
    with pytest.raises(ValueError, match=rf"is done, at step {last}: use --overwrite or another"):
        going_on(start=last, **change)


def test_a_run_may_end_where_it_is_and_not_before():
    assert "config.train.steps is now 7000" in going_on(start=7000, **{"train.steps": 7000})
    with pytest.raises(ValueError, match="is at step 7000 already: give 7000 to evaluate that"):
        going_on(start=7000, **{"train.steps": 5000})


def test_what_cannot_be_decoded_may_be_left_out_from_here_on():
    assert "config.data.undecodable is now 'skip'" in going_on(**{"data.undecodable": "skip"})


def test_a_run_that_is_done_may_be_evaluated_otherwise():
    assert "evaluate.batch_size is now 3" in going_on(start=10**9, **{"evaluate.batch_size": 3})


def test_other_numbers_of_images_are_told():
    assert going_on(images=(5, 6)).startswith(
        "warning: the data has 6 images to train on, it had 5: from here on"
    )


def test_what_changes_neither_network_nor_data_is_told():
    printed = going_on(**{"train.steps": 7, "optimizer.rate": 0.5})
    assert "config.train.steps is now 7, it was " in printed
    assert "config.optimizer.rate is now 0.5, it was 0.001" in printed
    # A dataset may be moved.
    assert "config.data.root is now 'there'" in going_on(**{"data.root": "there"})


@pytest.mark.parametrize(
    "field, value",
    [
        ("model.width", 0.5),
        ("augment.hue_delta", 1.0),
        ("seed", 3),
        ("ema.decay", 0.9),  # the checkpoints have no average
        ("optimizer.kind", "adamw"),  # they have SGD's momentum
    ],
)
def test_what_makes_it_another_run_is_an_error(field: str, value: object):
    with pytest.raises(ValueError, match=f"config.{field} is {value!r}, but the run in this"):
        going_on(**{field: value})


def test_other_classes_are_an_error():
    with pytest.raises(ValueError, match=r"has classes \('cat', 'dog'\), the data has \('emu',\)"):
        going_on(class_names=("emu",))


def test_keeping_no_checkpoint_is_refused(tmp_path):
    config = config_lib.base()
    config.train.keep = 0
    with pytest.raises(ValueError, match=r"config\.train\.keep is 0: at least the newest"):
        set_up(config, tmp_path, False, None, Console(quiet=True))


def test_parts_of_a_batch_that_do_not_divide_over_the_devices_are_refused(tmp_path):
    config = config_lib.base()
    config.train.batch_size, config.train.accumulate = 16, 4
    with pytest.raises(ValueError, match=r"accumulate is 4: the parts of a batch of 16 have to be"):
        set_up(config, tmp_path, False, None, Console(quiet=True))


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_images_is_refused(tmp_path, split):
    lists = {"train": ["a"], "test": ["a"], split: []}
    folder = make.voc_folder(tmp_path, {"a": [make.xml_object("cat", (1, 2, 30, 40))]}, lists)
    config = config_lib.base()
    config.data.update(
        {"kind": "voc_folder", "root": str(folder), "train": "train", "eval": "test"}
    )
    with pytest.raises(ValueError, match=f"split '{split}' of .* is empty: choose another split"):
        load_splits(config)
