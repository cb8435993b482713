import pytest

from ssd_jax.class_names import PRESETS, parse_names


def test_names_come_from_a_preset_a_list_or_a_file(tmp_path):
    (tmp_path / "names.txt").write_text("Hund\n\nKätzchen \n", encoding="utf-8")
    assert parse_names(None) is None
    assert parse_names("coco") == PRESETS["coco"]
    assert parse_names("cat, dog") == ("cat", "dog")
    assert parse_names(str(tmp_path / "names.txt")) == ("Hund", "Kätzchen")


def test_names_may_be_longer_than_a_file_name():
    names = tuple(f"class number {i}" for i in range(40))
    assert parse_names(",".join(names)) == names


@pytest.mark.parametrize("text", ["cat,dog,cat", ",", ""])
def test_names_that_are_none_or_come_twice_are_refused(text):
    with pytest.raises(ValueError, match="class names must be some and differ"):
        parse_names(text)
