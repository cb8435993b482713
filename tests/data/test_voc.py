import dataclasses
import functools
import hashlib
import json
import logging
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.object_detection import voc as stock_voc

from ssd_jax.data import devkit, voc
from ssd_jax.data.example import Dataset, Example
from ssd_jax.data.loader import eval_batches
from ssd_jax.data.voc import load_voc
from ssd_jax.download import RemoteFile
from tests.data import make
from tests.serve import served

SAMPLE = Path(__file__).parents[2] / "../shared/data/voc2007_sample/VOCdevkit"
DOG = make.xml_object("dog", (8, 6, 40, 30), pose="Frontal", truncated=True)
CAT = make.xml_object("cat", (1, 1, 80, 60), difficult=True, pose="")
OBJECTS = {"000001": [DOG, CAT], "000002": [], "000003": [CAT], "000004": [DOG]}
SPLITS = {"train": ["000001"], "val": ["000002", "000003"], "test": ["000004"]}
TAR = "VOCtrainval_06-Nov-2007.tar"


@pytest.fixture(autouse=True)
def no_progress_bars():
    tfds.disable_progress_bar()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make.voc_folder(tmp_path / "VOCdevkit" / "VOC2007", OBJECTS, SPLITS)
    return tmp_path / "VOCdevkit"


@pytest.fixture
def data_dir(tmp_path: Path) -> str:
    return str(tmp_path / "tfds")


def by_name(dataset: Dataset) -> dict[str, Example]:
    return {dataset.source[row]["name"]: dataset.source[row] for row in range(len(dataset))}


def test_prepares_from_a_devkit(root: Path, data_dir: str):
    dataset = load_voc("2007_trainval", data_dir=data_dir, voc_root=str(root))
    assert (dataset.name, dataset.split) == ("voc", "2007_trainval")
    assert len(dataset.class_names) == 20
    examples = by_name(dataset)
    assert examples.keys() == {"000001.jpg", "000002.jpg", "000003.jpg"}
    first = examples["000001.jpg"]
    assert first["image"] == (root / "VOC2007/JPEGImages/000001.jpg").read_bytes()
    expected = np.float32([[0.1, 0.1, 0.5, 0.5], [1 / 80, 1 / 60, 1, 1]])
    np.testing.assert_array_equal(first["boxes"], expected)  # unshifted, as TFDS
    np.testing.assert_array_equal(first["labels"], [12, 8])
    np.testing.assert_array_equal(first["difficult"], [False, True])
    np.testing.assert_array_equal(first["crowd"], [False, False])
    np.testing.assert_allclose(first["area"], [32 * 24, 79 * 59], rtol=1e-5)
    assert examples["000002.jpg"]["boxes"].shape == (0, 4)
    assert sorted(make.object_counts(dataset.source)) == [0, 1, 2]


def test_splits_join_in_their_order(root: Path, data_dir: str):
    dataset = load_voc("2007_test+2007_train", data_dir=data_dir, voc_root=str(root))
    names = [dataset.source.name(row) for row in range(len(dataset))]
    assert names == ["000004.jpg", "000001.jpg"]


@pytest.mark.parametrize("year", ["2007", "2012"])
def test_the_features_are_those_of_tfds(year: str, tmp_path: Path):
    ours = voc.Voc(data_dir=tmp_path, config=year)
    theirs = stock_voc.Voc(data_dir=tmp_path, config=year)
    assert ours.data_path == theirs.data_path
    assert ours.info.features.to_json() == theirs.info.features.to_json()


def test_tfds_reads_what_is_prepared_here(root: Path, data_dir: str):
    load_voc("2007_test", data_dir=data_dir, voc_root=str(root))
    (own_dir,) = (Path(data_dir) / "voc_local").iterdir()
    (record,) = stock_voc.Voc(data_dir=own_dir, config="2007").as_data_source("test")
    assert record["image"].shape == (60, 80, 3)
    np.testing.assert_array_equal(record["objects"]["bbox"], np.float32([[0.1, 0.1, 0.5, 0.5]]))
    assert record["objects"]["label"] == [11] and record["objects"]["pose"] == [0]
    assert record["objects"]["is_truncated"] == [True]
    assert record["labels"] == record["labels_no_difficult"] == [11]


@pytest.mark.parametrize("place", [".", "VOCdevkit", "VOCdevkit/VOC2007"])
def test_finds_the_devkit_in_and_as_a_folder(root: Path, place: str):
    folder = devkit.FolderDevkit(root.parent / place, "2007").folder
    assert folder == root / "VOC2007"


def test_a_local_devkit_keeps_to_its_own_place(root: Path, data_dir: str):
    load_voc("2007_test", data_dir=data_dir, voc_root=str(root))
    assert not (Path(data_dir) / "voc" / "2007" / "5.0.0").exists()
    (root / "VOC2007/ImageSets/Main/test.txt").write_text("000003\n000004\n")
    assert len(load_voc("2007_test", data_dir=data_dir, voc_root=str(root))) == 2


def test_a_mended_annotation_is_read(root: Path, data_dir: str):
    path = root / "VOC2007/Annotations/000004.xml"
    load = functools.partial(load_voc, "2007_test", data_dir=data_dir, voc_root=str(root))
    before = load().source[0]["labels"]
    mended = path.read_text().replace("<name>dog</name>", "<name>cow</name>")
    assert mended != path.read_text()
    path.write_text(mended)
    after = load().source[0]["labels"]
    assert [*before, *after] == [12, 10]


def test_what_the_devkit_lacks_is_named(root: Path, data_dir: str):
    (root / "VOC2007/ImageSets/Main/test.txt").unlink()
    load = functools.partial(load_voc, data_dir=data_dir, voc_root=str(root))
    assert len(load("2007_trainval")) == 3
    with pytest.raises(
        ValueError, match=r"no split '2007_test'.* has train, validation of VOC2007"
    ):
        load("2007_test")
    with pytest.raises(FileNotFoundError, match=r"no VOC2012 .*data\.voc_root"):
        load("2012_train")
    for wrong in ("2007_all", "2008_train", "train", ""):
        with pytest.raises(ValueError, match=f"no split '{wrong}' of voc"):
            load(wrong)


@pytest.mark.parametrize(
    ("file", "text", "error", "message"),
    [
        ("Annotations/000001.xml", "<annotation>", ValueError, r"000001\.xml: broken XML"),
        (
            "Annotations/000001.xml",
            make.xml((60, 80), [make.xml_object("emu", (1, 1, 9, 9))]),
            ValueError,
            r"000001\.xml: 'emu' is no class of VOC",
        ),
        ("ImageSets/Main/train.txt", "9", FileNotFoundError, r"no file .*JPEGImages/9\.jpg"),
        (
            "ImageSets/Main/train.txt",
            "9\n9",
            ValueError,
            r"image '9' is listed twice in .*train\.tx",
        ),
    ],
)
def test_bad_files_are_named_and_nothing_is_left(
    root: Path, data_dir: str, file: str, text: str, error, message: str
):
    (root / "VOC2007" / file).write_text(text)
    with pytest.raises(error, match=message) as caught:
        load_voc("2007_train", data_dir=data_dir, voc_root=str(root))
    assert "\n" not in str(caught.value)
    assert not list(Path(data_dir).glob("**/*.array_record*"))


def test_no_list_at_all(tmp_path: Path, data_dir: str):
    make.voc_folder(tmp_path / "VOC2007", OBJECTS, {})
    with pytest.raises(ValueError, match="no list of images"):
        load_voc("2007_train", data_dir=data_dir, voc_root=str(tmp_path))


def test_odd_boxes_are_mended_and_reported(root: Path, data_dir: str, caplog):
    flat = make.xml_object("dog", (8, 6, 8, 30))
    outside = make.xml_object("cat", (40, -6, 120, 30))
    (root / "VOC2007/Annotations/000001.xml").write_text(make.xml((60, 80), [flat, outside]))
    with caplog.at_level(logging.WARNING, logger="ssd_jax"):
        dataset = load_voc("2007_train", data_dir=data_dir, voc_root=str(root))
    np.testing.assert_array_equal(dataset.source[0]["boxes"], np.float32([[0.5, 0, 1, 0.5]]))
    (record,) = [r for r in caplog.records if r.name.startswith("ssd_jax")]
    assert "VOC2007 train: clipped 1 box" in record.getMessage()
    assert "dropped 1 box" in record.getMessage()


def pack(root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packs a devkit into the tar that VOC2007 is taken to consist of."""
    folder.mkdir()
    with tarfile.open(folder / TAR, "w") as tar:
        tar.add(root, "VOCdevkit")
    data = (folder / TAR).read_bytes()
    archive = RemoteFile(TAR, len(data), hashlib.sha256(data).hexdigest(), ())
    monkeypatch.setitem(devkit.ARCHIVES, "2007", (archive,))
    return folder / TAR


def test_prepares_from_the_tars_and_then_needs_them_no_more(
    root: Path, tmp_path: Path, data_dir: str, monkeypatch
):
    tar = pack(root, tmp_path / "tars", monkeypatch)
    packed = by_name(load_voc("2007_trainval", data_dir=data_dir, archives=str(tar.parent)))
    unpacked = by_name(load_voc("2007_trainval", data_dir=data_dir, voc_root=str(root)))
    assert packed.keys() == unpacked.keys()
    for name, example in packed.items():
        assert example["image"] == unpacked[name]["image"]
        for key in ("boxes", "labels", "difficult"):
            np.testing.assert_array_equal(example[key], unpacked[name][key])
    tar.unlink()
    assert len(load_voc("2007_test", data_dir=data_dir, archives=str(tar.parent))) == 1
    assert len(load_voc("2007_test", data_dir=data_dir)) == 1


def test_wrong_tars_are_named(root: Path, tmp_path: Path, data_dir: str, monkeypatch):
    load = functools.partial(load_voc, "2007_train", data_dir=data_dir)
    with pytest.raises(FileNotFoundError, match=r"set data\.archives"):
        load(archives=str(tmp_path / "nowhere"))
    with pytest.raises(
        FileNotFoundError, match=r"lacks VOCtrainval.* and VOCtest.*: set data\.archives"
    ):
        load(archives=str(tmp_path))
    tar = pack(root, tmp_path / "tars", monkeypatch)
    data = tar.read_bytes()
    for wrong in (data[:-512], data[:-1] + b"x"):
        tar.write_bytes(wrong)
        with pytest.raises(ValueError, match=rf"{TAR} .*is not the official"):
            load(archives=str(tar.parent))


def test_a_file_that_is_no_tar(tmp_path: Path):
    (tmp_path / "a.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(ValueError, match=r"a\.tar is no tar"):
        devkit.TarDevkit([tmp_path / "a.tar"], "2007")


def test_links_in_a_tar_lead_nowhere(tmp_path: Path):
    (tmp_path / "secret").write_text("secret")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            link = tarfile.TarInfo(f"VOCdevkit/VOC2007/{kind.decode()}.txt")
            link.type, link.linkname = kind, str(tmp_path / "secret")
            tar.addfile(link)
    files = devkit.TarDevkit([tmp_path / "a.tar"], "2007")
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        assert not files.has(f"{kind.decode()}.txt")
        with pytest.raises(FileNotFoundError, match="no file VOCdevkit/VOC2007/"):
            files.read(f"{kind.decode()}.txt")


def test_without_a_network_it_says_what_to_put_where(data_dir: str, monkeypatch):
    nobody = {
        year: tuple(dataclasses.replace(a, urls=("http://127.0.0.1:9/a.tar",)) for a in archives)
        for year, archives in devkit.ARCHIVES.items()
    }
    monkeypatch.setattr(devkit, "ARCHIVES", nobody)
    with pytest.raises(OSError, match=r"127\.0\.0\.1:9/a\.tar: no connection") as error:
        load_voc("2007_trainval+2012_trainval", data_dir=data_dir)
    message = str(error.value)
    assert "\n" not in message
    assert message.endswith(
        "or put VOCtrainval_06-Nov-2007.tar, VOCtest_06-Nov-2007.tar and "
        f"VOCtrainval_11-May-2012.tar into {data_dir}/downloads/voc, or set data.voc_root to an "
        "unpacked VOCdevkit"
    )


def test_downloads_what_is_not_there_and_prepares_it(
    root: Path, tmp_path: Path, data_dir: str, monkeypatch
):
    tar = pack(root, tmp_path / "tars", monkeypatch)
    with served(tar.parent) as address:
        (archive,) = devkit.ARCHIVES["2007"]
        urls = (f"{address}gone/{TAR}", f"{address}{TAR}")
        here = {"2007": (dataclasses.replace(archive, urls=urls),)}
        monkeypatch.setattr(devkit, "ARCHIVES", here)
        assert len(load_voc("2007_trainval", data_dir=data_dir)) == 3
    tar.rename(tar.with_suffix(".moved"))
    assert len(load_voc("2007_test", data_dir=data_dir)) == 1  # prepared: no tar, no network


@pytest.mark.parametrize("file_format", ["array_record", "parquet"])
def test_what_tfds_prepared_is_read_as_it_is(root: Path, data_dir: str, file_format: str):
    """Written by TFDS under the stock builder's name and features."""
    builder = voc.Voc(data_dir=data_dir, config="2007", files=devkit.FolderDevkit(root, "2007"))
    builder.download_and_prepare(file_format=file_format)
    dataset = load_voc("2007_trainval", data_dir=data_dir)
    by_id = by_name(dataset)
    assert by_id.keys() == {"000001.jpg", "000002.jpg", "000003.jpg"}
    np.testing.assert_array_equal(by_id["000001.jpg"]["labels"], [12, 8])
    assert by_id["000002.jpg"]["boxes"].shape == (0, 4)
    (batch,) = eval_batches(dataset, batch_size=3, canvas_size=100, slots=0, workers=1)
    assert sorted(batch["name"]) == ["000001.jpg", "000002.jpg", "000003.jpg"]


def test_it_reads_what_builder_from_directory_reads(root: Path, data_dir: str):
    dataset = load_voc("2007_test", data_dir=data_dir, voc_root=str(root))
    (folder,) = Path(data_dir).glob("voc_local/*/voc/2007/5.0.0")
    (record,) = tfds.builder_from_directory(folder).as_data_source("test")
    assert record["image"].shape == (60, 80, 3)
    assert [label + 1 for label in record["objects"]["label"]] == list(dataset.source[0]["labels"])


def test_other_file_formats_are_refused(root: Path, data_dir: str):
    load_voc("2007_test", data_dir=data_dir, voc_root=str(root))
    (info,) = Path(data_dir).glob("voc_local/*/voc/2007/5.0.0/dataset_info.json")
    info.write_text(json.dumps(json.loads(info.read_text()) | {"fileFormat": "tfrecord"}))
    with pytest.raises(ValueError, match=r"was prepared as tfrecord.*data\.data_dir"):
        load_voc("2007_test", data_dir=data_dir, voc_root=str(root))


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="shared/data/voc2007_sample is not there")
def test_the_voc2007_sample(data_dir: str):
    trainval = load_voc("2007_trainval", data_dir=data_dir, voc_root=str(SAMPLE))
    test = load_voc("2007_test", data_dir=data_dir, voc_root=str(SAMPLE))
    assert len(trainval) == len(test) == 100
    boxes = np.concatenate([test.source[row]["boxes"] for row in range(100)])
    assert boxes.min() > 0 and boxes.max() == 1  # 1-based pixels, unshifted
