import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ssd_jax.data import coco_2017
from ssd_jax.data.coco_2017 import ARCHIVES, load_coco
from ssd_jax.data.loader import eval_batches, train_batches
from ssd_jax.download import RemoteFile
from tests.data import make
from tests.serve import served

# As in the official file: 80 categories whose ids leave gaps up to 90.
IDS = [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]


def unpacked(root: Path) -> Path:
    """COCO's layout: two images to train on, one to test."""
    (root / "annotations").mkdir(parents=True)
    for split, numbers in (("train2017", (9, 25)), ("val2017", (139,))):
        (root / split).mkdir()
        for n in numbers:
            data = make.encode(make.picture(60, 80, n))
            (root / split / f"{n:012d}.jpg").write_bytes(data)
        first = {"image_id": numbers[0], "bbox": [8, 6, 32, 24]}
        content = {
            "images": [
                {"id": n, "file_name": f"{n:012d}.jpg", "height": 60, "width": 80} for n in numbers
            ],
            "categories": [{"id": i, "name": f"class {i}"} for i in IDS],
            "annotations": [
                {**first, "id": 1, "category_id": 90, "area": 301.5, "iscrowd": 0},
                {**first, "id": 2, "category_id": 13, "area": 700.0, "iscrowd": 1},
            ],
        }
        (root / f"annotations/instances_{split}.json").write_text(json.dumps(content))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return unpacked(tmp_path / "coco")


@pytest.fixture
def zips(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The three official zips, and their sizes and hashes taken for the official ones."""
    (tmp_path / "zips").mkdir()
    for key, archive in ARCHIVES.items():
        path = tmp_path / "zips" / archive.name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for member in sorted((root / key).iterdir()):
                file.write(member, f"{key}/{member.name}")
        data = path.read_bytes()
        small = RemoteFile(archive.name, len(data), hashlib.sha256(data).hexdigest(), ())
        monkeypatch.setitem(coco_2017.ARCHIVES, key, small)
    return tmp_path / "zips"


def test_the_official_archives_are_those_of_tfds():
    import tensorflow_datasets as tfds

    listed = Path(tfds.__file__).parent / "url_checksums/coco.txt"
    known = dict(line.split("\t", 1) for line in listed.read_text().splitlines())
    for archive in ARCHIVES.values():
        assert known[archive.urls[0]] == f"{archive.size}\t{archive.digest}\t{archive.name}"


def test_zips_and_folders_hold_the_same(root: Path, zips: Path):
    for split, ids in (("train2017", [9, 25]), ("val2017", [139])):
        packed = load_coco(split, archives=str(zips))
        plain = load_coco(split, root=str(root))
        assert packed.category_ids == plain.category_ids == tuple(IDS)
        assert len(packed.class_names) == 80
        assert [packed.source[row]["image_id"] for row in range(len(packed))] == ids
        for row in range(len(packed)):
            a, b = packed.source[row], plain.source[row]
            assert a.keys() == b.keys()
            for key in a:
                np.testing.assert_array_equal(a[key], b[key])
    example = packed.source[0]
    assert example["name"] == "000000000139.jpg"
    np.testing.assert_array_equal(example["labels"], [80, IDS.index(13) + 1])
    np.testing.assert_array_equal(example["crowd"], [False, True])
    np.testing.assert_array_equal(example["area"], np.float32([301.5, 700]))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_from_zips_and_without_crowds(zips: Path, workers: int):
    dataset = load_coco("train2017", archives=str(zips))
    options = dict(batch_size=2, canvas_size=80, slots=0, workers=workers)
    for batch in [
        *train_batches(dataset, seed=0, stop_step=3, **options),
        *eval_batches(dataset, **options),
    ]:
        assert sorted(batch["image_id"]) == [9, 25]
        assert batch["image"].any() and batch["labels"].shape == (2, 1)
        np.testing.assert_array_equal(np.sort(batch["labels"][:, 0]), [0, 80])


def test_what_is_missing_is_downloaded(zips: Path, tmp_path: Path, monkeypatch):
    with served(zips) as address:
        for key, archive in coco_2017.ARCHIVES.items():
            urls = ("http://127.0.0.1:9/x", f"{address}{archive.name}")
            here = dataclasses.replace(archive, urls=urls)
            monkeypatch.setitem(coco_2017.ARCHIVES, key, here)
        assert len(load_coco("val2017", data_dir=str(tmp_path / "tfds"))) == 1
    there = sorted(p.name for p in (tmp_path / "tfds/downloads/coco").iterdir())
    assert there == ["annotations_trainval2017.zip", "val2017.zip"]
    assert len(load_coco("val2017", data_dir=str(tmp_path / "tfds"))) == 1


def test_without_a_network_it_says_what_to_put_where(tmp_path: Path, monkeypatch):
    for key, archive in ARCHIVES.items():
        nobody = dataclasses.replace(archive, urls=("http://127.0.0.1:9/x",))
        monkeypatch.setitem(coco_2017.ARCHIVES, key, nobody)
    with pytest.raises(OSError, match="no connection") as error:
        load_coco("train2017", data_dir=str(tmp_path))
    assert str(error.value).endswith(
        f"put annotations_trainval2017.zip and train2017.zip into {tmp_path}/downloads/coco, or "
        "set data.archives to a folder of annotations_trainval2017.zip, train2017.zip, "
        "val2017.zip, or data.root to an unpacked COCO"
    )


def test_wrong_places_are_named(root: Path, zips: Path):
    with pytest.raises(ValueError, match=r"no split 'test2017' of coco"):
        load_coco("test2017", archives=str(zips))
    (zips / "val2017.zip").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks val2017\.zip: set data\.archives"):
        load_coco("val2017", archives=str(zips))
    (zips / "val2017.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"val2017\.zip \(2 bytes\) is not the official"):
        load_coco("val2017", archives=str(zips))
