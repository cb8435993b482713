import json
from pathlib import Path

import pytest

from ssd_jax.data.coco import hold_out
from ssd_jax.data.custom_coco import load_custom_coco
from tests.data import make


def write(file: Path, images: Path, count: int = 10, first: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    images.mkdir(parents=True, exist_ok=True)
    numbers = range(first, first + count)
    for n in numbers:
        (images / f"{n}.png").write_bytes(make.encode(make.picture(6, 8, n), ".png"))
    content = {
        "images": [
            {"id": 100 + n, "file_name": f"{n}.png", "height": 6, "width": 8} for n in numbers
        ],
        "categories": [{"id": 7, "name": "cat"}],
        "annotations": [
            {"id": n, "image_id": 100 + n, "category_id": 7, "bbox": [0, 0, 4, 3]} for n in numbers
        ],
    }
    file.write_text(json.dumps(content))


def names(**settings) -> dict[str, set[str]]:
    loaded = {split: load_custom_coco(split, **settings) for split in ("train", "test")}
    return {
        split: {dataset.source.name(row) for row in range(len(dataset))}
        for split, dataset in loaded.items()
    }


def test_one_file_and_a_fraction(tmp_path: Path):
    write(tmp_path / "all.json", tmp_path / "images")
    parts = names(annotations=str(tmp_path / "all.json"), fraction=0.3)
    assert len(parts["test"]) == 3 and len(parts["train"]) == 7
    assert not parts["test"] & parts["train"]
    assert parts == names(annotations=str(tmp_path / "all.json"), fraction=0.3)
    dataset = load_custom_coco("test", annotations=str(tmp_path / "all.json"), fraction=0.3)
    assert dataset.class_names == ("cat",) and dataset.category_ids == (7,)
    for row in range(3):
        example = dataset.source[row]
        assert example["name"] == f"{example['image_id'] - 100}.png"
        assert example["labels"].tolist() == [1]


def test_what_is_held_out_depends_on_the_names_alone():
    files = [f"{n}.jpg" for n in range(200)]
    held = hold_out(files, 0.25)
    assert len(held) == 50 and held == hold_out(files[::-1], 0.25)
    assert held < hold_out(files, 0.5)
    numbers = sorted(int(name[:-4]) for name in held)
    assert numbers[:50] != list(range(50))  # not the first ones
    # Of those held out before, few change sides when images are added.
    more = hold_out([*files, *(f"{n}.jpg" for n in range(200, 240))], 0.25)
    assert len(held - more) <= 10


@pytest.mark.parametrize(("count", "fraction", "held"), [(2, 0.01, 1), (2, 0.99, 1), (10, 0.25, 2)])
def test_both_parts_have_an_image(count: int, fraction: float, held: int):
    assert len(hold_out([str(n) for n in range(count)], fraction)) == held


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 20.0, float("nan")])
def test_a_fraction_that_is_none_is_named(tmp_path: Path, fraction: float):
    write(tmp_path / "all.json", tmp_path)
    with pytest.raises(ValueError, match=r"data\.fraction is"):
        names(annotations=str(tmp_path / "all.json"), fraction=fraction)


@pytest.mark.parametrize(
    ("file", "images"),
    [("a.json", "."), ("a.json", "images"), ("ann/a.json", "images"), ("ann/a.json", ".")],
)
def test_the_images_are_found(tmp_path: Path, file: str, images: str):
    write(tmp_path / file, tmp_path / images)
    assert len(names(root=str(tmp_path), annotations=file, fraction=0.5)["train"]) == 5


def test_the_images_are_where_it_is_told(tmp_path: Path):
    write(tmp_path / "a.json", tmp_path / "somewhere")
    settings = dict(root=str(tmp_path), annotations="a.json", fraction=0.5)
    with pytest.raises(FileNotFoundError, match=r"no image .*\.png"):
        names(**settings)
    assert len(names(images="somewhere", **settings)["test"]) == 5


def test_a_file_a_split(tmp_path: Path):
    write(tmp_path / "annotations/train.json", tmp_path / "images", 4)
    write(tmp_path / "annotations/test.json", tmp_path / "images", 3, first=4)
    parts = names(root=str(tmp_path))
    assert parts == {
        "train": {"0.png", "1.png", "2.png", "3.png"},
        "test": {"4.png", "5.png", "6.png"},
    }


def test_wrong_settings_are_named(tmp_path: Path):
    write(tmp_path / "a.json", tmp_path)
    with pytest.raises(ValueError, match=r"no split 'val' of data\.annotations"):
        load_custom_coco("val", annotations=str(tmp_path / "a.json"), fraction=0.5)
    with pytest.raises(FileNotFoundError, match=r"set data\.root .*or data\.annotations"):
        load_custom_coco("train")
    with pytest.raises(FileNotFoundError, match=r"no annotation file .*b\.json"):
        load_custom_coco("train", annotations=str(tmp_path / "b.json"), fraction=0.5)
