import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ssd_jax import config as config_lib
from ssd_jax.class_names import VOC
from ssd_jax.data import KINDS, load_dataset
from tests.data import make

DOG = make.xml_object("dog", (8, 6, 40, 30))


def settings(kind: str, **fields) -> SimpleNamespace:
    defaults = config_lib.base().data.to_dict()
    return SimpleNamespace(**(defaults | dict(kind=kind) | fields))


def test_shapes(small_shapes, tmp_path: Path):
    folder = Path(small_shapes["train"].source.__getstate__()["_folder"]).parents[2]
    dataset = load_dataset(settings("shapes/small", data_dir=str(folder)), "test[:5]")
    assert (dataset.name, dataset.split, len(dataset)) == ("shapes", "test[:5]", 5)


def test_voc(tmp_path: Path):
    make.voc_folder(tmp_path / "VOC2007", {"000001": [DOG]}, {"test": ["000001"]})
    fields = dict(data_dir=str(tmp_path / "tfds"), voc_root=str(tmp_path))
    dataset = load_dataset(settings("voc", **fields), "2007_test")
    assert dataset.source[0]["labels"].tolist() == [12]


def test_voc_folder(tmp_path: Path):
    make.voc_folder(tmp_path / "set", {"a": [DOG]}, {"train": ["a"]})
    root = str(tmp_path / "set")
    assert load_dataset(settings("voc_folder", root=root), "train").class_names == ("dog",)
    given = settings("voc_folder", root=root, class_names=("cat", "dog"))
    dataset = load_dataset(given, "train")
    assert dataset.class_names == ("cat", "dog") and dataset.category_ids == (1, 2)
    assert (dataset.name, dataset.split) == (root, "train")
    assert dataset.source[0]["labels"].tolist() == [2]


def test_coco(tmp_path: Path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").mkdir()
    (tmp_path / "val2017" / "a.jpg").write_bytes(make.encode(make.picture(60, 80)))
    content = {
        "images": [{"id": 3, "file_name": "a.jpg"}],
        "annotations": [{"id": 1, "image_id": 3, "category_id": 5, "bbox": [0, 0, 8, 6]}],
        "categories": [{"id": 5, "name": "dog"}],
    }
    (tmp_path / "annotations/instances_val2017.json").write_text(json.dumps(content))
    dataset = load_dataset(settings("coco", root=str(tmp_path)), "val2017")
    assert dataset.class_names == ("dog",) and dataset.source[0]["image_id"] == 3
    assert dataset.category_ids == (5,)


@pytest.mark.parametrize("kind", ["voc", "voc_folder"])
def test_a_voc_split_without_annotations(kind: str, tmp_path: Path):
    root = make.voc_folder(tmp_path / "VOC2012", {"b": [DOG], "a": [DOG]}, {"test": ["b", "a"]})
    shutil.rmtree(root / "Annotations")
    fields = dict(voc_root=str(tmp_path), root=str(root), class_names=("cat", "dog"))
    split = {"voc": "2012_test", "voc_folder": "test"}[kind]
    dataset = load_dataset(settings(kind, **fields), split, annotated=False)
    assert [dataset.source.name(row) for row in range(len(dataset))] == ["b.jpg", "a.jpg"]
    assert dataset.source[1]["labels"].shape == (0,) and dataset.source[1]["boxes"].shape == (0, 4)
    assert dataset.class_names == (VOC if kind == "voc" else ("cat", "dog"))
    with pytest.raises((FileNotFoundError, ValueError)):
        load_dataset(settings(kind, **fields), split)


@pytest.mark.parametrize("kind", ["coco", "coco_json"])
def test_a_coco_split_without_annotations(kind: str, tmp_path: Path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "test2017").mkdir()
    (tmp_path / "test2017" / "a.jpg").write_bytes(make.encode(make.picture(60, 80)))
    images = [{"id": 3, "file_name": "a.jpg", "height": 60, "width": 80}]
    content = {"images": images, "categories": [{"id": 5, "name": "dog"}]}
    (tmp_path / "annotations/image_info_test-dev2017.json").write_text(json.dumps(content))
    given = settings(kind, root=str(tmp_path))
    dataset = load_dataset(given, "test-dev2017", annotated=False)
    assert (dataset.class_names, dataset.category_ids, len(dataset)) == (("dog",), (5,), 1)
    example = dataset.source[0]
    assert example["image_id"] == 3 and len(example["labels"]) == 0
    with pytest.raises(FileNotFoundError, match="instances_test-dev2017"):
        load_dataset(given, "test-dev2017")


def test_splits_that_cannot_lack_annotations(tmp_path: Path):
    with pytest.raises(ValueError, match="'shapes', whose splits all have annotations"):
        load_dataset(settings("shapes"), "test", annotated=False)
    with pytest.raises(FileNotFoundError, match=r"set data\.voc_root to .* VOC2012 test"):
        load_dataset(settings("voc"), "2012_test", annotated=False)
    with pytest.raises(ValueError, match=r"no split 'test' .*it is like 2012_test"):
        load_dataset(settings("voc", voc_root=str(tmp_path)), "test", annotated=False)
    with pytest.raises(FileNotFoundError, match=r"set data\.root .*image_info_test-dev2017.json"):
        load_dataset(settings("coco"), "test-dev2017", annotated=False)


@pytest.mark.parametrize("kind", ["voc_folder", "coco_json"])
def test_a_kind_without_its_folder_says_what_to_set(kind: str, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"set data\.root to the dataset's folder"):
        load_dataset(settings(kind), "train")
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere: set data\.root"):
        load_dataset(settings(kind, root=str(tmp_path / "nowhere")), "train")


def test_a_path_may_begin_with_the_home_folder(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    make.voc_folder(tmp_path / "sets/VOC2007", {"a": [DOG]}, {"test": ["a"]})
    folder = dict(root="~/sets/VOC2007")
    assert len(load_dataset(settings("voc_folder", **folder), "test")) == 1
    devkit = dict(voc_root="~/sets", data_dir="~/tfds")
    assert len(load_dataset(settings("voc", **devkit), "2007_test")) == 1
    assert (tmp_path / "tfds/voc_local").is_dir()
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": 6, "width": 8} for i in (1, 2)],
        "annotations": [],
        "categories": [{"id": 5, "name": "dog"}],
    }
    (tmp_path / "all.json").write_text(json.dumps(content))
    for i in (1, 2):
        (tmp_path / f"sets/{i}.jpg").write_bytes(b"")
    one_file = dict(annotations="~/all.json", images="~/sets", fraction=0.5)
    assert len(load_dataset(settings("coco_json", **one_file), "test")) == 1
    (tmp_path / "zips").mkdir()
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/zips lacks"):
        load_dataset(settings("coco", archives="~/zips"), "val2017")


def test_an_unknown_kind_lists_those_there_are():
    with pytest.raises(ValueError, match=rf"data\.kind is 'mnist'.*{', '.join(KINDS)}"):
        load_dataset(settings("mnist"), "train")


def test_importing_is_cheap():
    code = "import sys, ssd_jax.data; print('tensorflow_datasets' in sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
