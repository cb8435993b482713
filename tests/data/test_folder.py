import logging
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssd_jax.data.example import Dataset
from ssd_jax.data.folder import VocFolder
from ssd_jax.data.loader import eval_batches
from ssd_jax.data.policies import Policies, check_readable
from tests.data import make

BCCD = Path(__file__).parents[2] / "../shared/data/bccd"
DOG = make.xml_object("dog", (8, 6, 40, 30))
CAT = make.xml_object("cat", (0, 0, 80, 60), difficult=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    objects = {
        "a": [DOG, CAT],
        "b": [],
        "c d": [CAT],
        "e.f": [make.xml_object("emu", (1, 1, 9, 9))],
    }
    splits = {"train": ["c d", "a"], "val": ["b.jpg"], "other": ["e.f"], "empty": []}
    return make.voc_folder(tmp_path / "set", objects, splits)


def test_examples_follow_the_list(root: Path):
    source = VocFolder(root, "train")
    assert source.class_names == ("cat", "dog", "emu")  # every split's classes, sorted
    assert [source.name(row) for row in range(2)] == ["c d.jpg", "a.jpg"]
    np.testing.assert_array_equal(make.object_counts(source), [1, 2])
    example = source[1]
    assert example["name"] == "a.jpg" and example["image_id"] == 1
    assert example["image"] == (root / "JPEGImages" / "a.jpg").read_bytes()
    np.testing.assert_array_equal(
        example["boxes"], np.float32([[0.1, 0.1, 0.5, 0.5], [0, 0, 1, 1]])
    )
    np.testing.assert_array_equal(example["labels"], [2, 1])
    np.testing.assert_array_equal(example["difficult"], [False, True])
    np.testing.assert_array_equal(example["crowd"], [False, False])
    np.testing.assert_allclose(example["area"], [32 * 24, 80 * 60], rtol=1e-6)


def test_given_classes_keep_their_order(root: Path):
    source = VocFolder(root, "train", ("dog", "cat"))
    assert source.class_names == ("dog", "cat")
    np.testing.assert_array_equal(source[1]["labels"], [1, 2])


def test_a_listed_name_means_one_image(root: Path):
    for name in ("a", "e.f"):
        (root / "JPEGImages" / f"{name}.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"two images of one name .*: a\.jpg and a\.png"):
        VocFolder(root, "train")
    assert len(VocFolder(root, "val")) == 1


def test_what_the_system_hides_is_passed_over(root: Path):
    (root / "Annotations/._a.xml").write_bytes(b"no XML")
    (root / "JPEGImages/._a.jpg").write_bytes(b"no picture")
    assert VocFolder(root, "train").class_names == ("cat", "dog", "emu")


def test_joined_splits_and_images_without_objects(root: Path):
    source = VocFolder(root, "train+val")
    assert [source.name(row) for row in range(len(source))] == ["c d.jpg", "a.jpg", "b.jpg"]
    assert source[2]["boxes"].shape == (0, 4)


def test_an_empty_list_is_an_empty_split(root: Path):
    assert len(VocFolder(root, "empty")) == 0


def test_survives_pickling(root: Path):
    source = VocFolder(root, "train")
    copy = pickle.loads(pickle.dumps(source))
    assert copy[1]["image"] == source[1]["image"]
    np.testing.assert_array_equal(copy[1]["boxes"], source[1]["boxes"])


def test_other_image_files(root: Path):
    (root / "JPEGImages" / "a.jpg").unlink()
    (root / "JPEGImages" / "a.PNG").write_bytes(make.encode(make.picture(60, 80), ".png"))
    (root / "JPEGImages" / "Thumbs.db").write_bytes(b"no image")
    assert VocFolder(root, "train")[1]["name"] == "a.PNG"


def test_a_missing_size_is_read_from_the_image(root: Path):
    (root / "Annotations" / "a.xml").write_text(make.xml(None, [DOG]))
    np.testing.assert_array_equal(
        VocFolder(root, "train")[1]["boxes"], np.float32([[0.1, 0.1, 0.5, 0.5]])
    )


def test_a_picture_of_no_known_size_is_left_to_the_policy(root: Path, caplog):
    (root / "Annotations" / "a.xml").write_text(make.xml(None, [DOG]))
    (root / "JPEGImages" / "a.jpg").write_bytes(b"no picture")
    with caplog.at_level(logging.WARNING):
        source = VocFolder(root, "train")
    assert "dropped 1 box (a.xml) of images that cannot be read" in caplog.text
    dataset = Dataset("x", "train", source, source.class_names)
    (batch,) = eval_batches(dataset, batch_size=2, canvas_size=100, slots=0, undecodable="skip")
    np.testing.assert_array_equal(batch["index"], [0, -1])
    with pytest.raises(ValueError, match=r"image 'a\.jpg of x, split train' cannot"):
        list(eval_batches(dataset, batch_size=2, canvas_size=100, slots=0))
    check_readable(dataset, Policies(undecodable="skip"))
    with pytest.raises(ValueError, match=r"image .*JPEGImages/a\.jpg cannot be read: replace"):
        check_readable(dataset, Policies())


def test_exif_is_followed_where_the_annotated_size_says_so(root: Path):
    upright = make.encode(make.picture(60, 80))
    (root / "JPEGImages" / "a.jpg").write_bytes(make.with_exif(upright, orientation=6))
    assert not VocFolder(root, "train")[1]["turned"]
    (root / "Annotations" / "a.xml").write_text(make.xml((80, 60), [DOG]))
    example = VocFolder(root, "train")[1]
    assert example["turned"]
    dataset = Dataset("x", "train", VocFolder(root, "train"), ("cat", "dog", "emu"))
    (batch,) = eval_batches(dataset, batch_size=2, canvas_size=100, slots=0)
    np.testing.assert_array_equal(batch["original_size"], [[60, 80], [80, 60]])
    turned = cv2.rotate(make.picture(60, 80), cv2.ROTATE_90_CLOCKWISE).astype(int)
    assert np.abs(batch["image"][1, :80, :60] - turned).mean() < 3


def test_unicode_paths(root: Path):
    moved = root.rename(root.parent / "Bäume 木 🌳")
    for path in (moved / "JPEGImages/a.jpg", moved / "Annotations/a.xml"):
        path.rename(path.with_stem("ä木🌳"))
    (moved / "ImageSets/Main/train.txt").write_text("ä木🌳\n", encoding="utf-8")
    dataset = Dataset("x", "train", VocFolder(moved, "train"), ("cat", "dog", "emu"))
    (batch,) = eval_batches(dataset, batch_size=1, canvas_size=80, slots=0)
    assert batch["name"][0] == "ä木🌳.jpg" and batch["image"].any()


def test_odd_boxes_are_mended_and_reported_once(root: Path, caplog):
    flat = make.xml_object("dog", (8, 6, 8, 30))
    outside = make.xml_object("cat", (40, -6, 120, 30))
    (root / "Annotations" / "a.xml").write_text(make.xml((60, 80), [flat, outside]))
    with caplog.at_level(logging.WARNING):
        source = VocFolder(root, "train")
    np.testing.assert_array_equal(source[1]["boxes"], np.float32([[0.5, 0, 1, 0.5]]))
    np.testing.assert_array_equal(source[1]["labels"], [1])
    (record,) = caplog.records
    assert "clipped 1 box (a.xml)" in record.getMessage()
    assert "dropped 1 box (a.xml)" in record.getMessage()


def broken(root: Path, what: str) -> None:
    if what == "image":
        (root / "JPEGImages" / "a.jpg").unlink()
    elif what == "twin":
        (root / "JPEGImages" / "a.png").write_bytes(b"")
    elif what == "annotation":
        (root / "Annotations" / "a.xml").unlink()
    elif what == "xml":
        (root / "Annotations" / "a.xml").write_text("<annotation>")
    elif what == "twice":
        (root / "ImageSets/Main/train.txt").write_text("a\na\n")


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("image", FileNotFoundError, r"no image 'a' in .*JPEGImages.*'train'"),
        ("twin", ValueError, r"a\.jpg and a\.png"),
        ("annotation", FileNotFoundError, r"no annotation .*a\.xml"),
        ("xml", ValueError, r"a\.xml: broken XML"),
        ("twice", ValueError, r"'a' is listed twice in split 'train'"),
    ],
)
def test_bad_folders_are_named(root: Path, what: str, error, message: str):
    broken(root, what)
    with pytest.raises(error, match=message) as caught:
        VocFolder(root, "train")
    assert "\n" not in str(caught.value)


def test_unknown_class_is_named(root: Path):
    with pytest.raises(ValueError, match=r"a\.xml: unknown class 'dog'; known are cat"):
        VocFolder(root, "train", ("cat",))


def test_missing_split_lists_those_there_are(root: Path):
    with pytest.raises(FileNotFoundError, match=r"no split 'test'.*empty, other, train, val"):
        VocFolder(root, "train+test")


def test_missing_root_names_the_setting(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: set data\.root"):
        VocFolder(tmp_path / "nowhere", "train")


def test_no_annotated_object_at_all(tmp_path: Path):
    root = make.voc_folder(tmp_path / "set", {"a": []}, {"train": ["a"]})
    with pytest.raises(ValueError, match="no object in any annotation"):
        VocFolder(root, "train")


@pytest.mark.skipif(not BCCD.is_dir(), reason="shared/data/bccd is not beside the project")
def test_bccd(caplog):
    with caplog.at_level(logging.WARNING):
        source = VocFolder(BCCD, "train+val+test")
    assert source.class_names == ("Platelets", "RBC", "WBC")
    assert len(source) == 364
    assert make.object_counts(source).sum() == 4888 - 2
    (record,) = caplog.records
    assert "dropped 2 boxes" in record.getMessage()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_lists_as_windows_saves_them(root: Path, encoding: str):
    path = root / "ImageSets/Main/train.txt"
    path.write_bytes("c d\r\n\r\na \r\n".encode(encoding))
    source = VocFolder(root, "train")
    assert [source.name(row) for row in range(2)] == ["c d.jpg", "a.jpg"]


@pytest.mark.parametrize("text", ["a".encode("utf-16"), "ä".encode("latin-1")])
def test_a_list_of_another_encoding_is_named(root: Path, text: bytes):
    (root / "ImageSets/Main/train.txt").write_bytes(text)
    with pytest.raises(ValueError, match=r"list .*train\.txt is no UTF-8 .*save it as UTF-8"):
        VocFolder(root, "train")
