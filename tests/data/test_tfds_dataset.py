import functools
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.object_detection import kitti, voc, wider_face

from ssd_jax.data.loader import eval_batches
from ssd_jax.data.tfds_dataset import find_fields, load_tfds
from ssd_jax.data.tfds_source import VOC_FIELDS
from tests.data import make

BOX = tfds.features.BBox(ymin=0.1, xmin=0.2, ymax=0.5, xmax=0.6)
FLAT = tfds.features.BBox(ymin=0.1, xmin=0.2, ymax=0.5, xmax=0.2)


class Zoo(tfds.core.GeneratorBasedBuilder):
    """Someone else's dataset, with names of its own."""

    VERSION = tfds.core.Version("1.2.3")

    def _info(self):
        animals = {
            "where": tfds.features.BBoxFeature(),
            "kind": tfds.features.ClassLabel(names=["ape", "bear"]),
            "is_crowd": np.bool_,
            "area": np.int64,
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "photo": tfds.features.Image(encoding_format="png"),
                    "image/id": np.int64,
                    "animals": tfds.features.Sequence(animals),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(4), "test": self._generate_examples(2)}

    def _generate_examples(self, count):
        for n in range(count):
            animals = [
                {"where": BOX, "kind": "bear", "is_crowd": False, "area": 50},
                {"where": FLAT, "kind": "ape", "is_crowd": False, "area": 60},
                {"where": BOX, "kind": "ape", "is_crowd": True, "area": 70},
            ]
            photo = make.encode(make.picture(20, 30, n), ".png")
            yield n, {"photo": photo, "image/id": 500 + n, "animals": animals[: 3 if n else 0]}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    tfds.disable_progress_bar()
    folder = tmp_path_factory.mktemp("tfds")
    Zoo(data_dir=folder).download_and_prepare(file_format="array_record")
    return str(folder)


def test_a_prepared_dataset_is_read_by_its_name(data_dir: str):
    dataset = load_tfds("zoo", "train", data_dir=data_dir)
    assert (dataset.name, dataset.class_names, len(dataset)) == ("zoo", ("ape", "bear"), 4)
    np.testing.assert_array_equal(make.object_counts(dataset.source), [0, 1, 1, 1])
    example = dataset.source[1]
    assert (example["image_id"], example["name"]) == (501, "train_1")
    np.testing.assert_array_equal(example["boxes"], np.float32([[0.2, 0.1, 0.6, 0.5]] * 2))
    np.testing.assert_array_equal(example["labels"], [2, 1])  # the flat box is left out
    np.testing.assert_array_equal(example["crowd"], [False, True])
    np.testing.assert_array_equal(example["area"], [50, 70])
    assert dataset.source[0]["boxes"].shape == (0, 4)
    (batch,) = eval_batches(dataset, batch_size=4, canvas_size=30, slots=0, workers=1)
    for n in range(4):
        np.testing.assert_array_equal(batch["image"][n, :20], make.picture(20, 30, n))


def test_objects_without_a_class_are_left_out(tmp_path: Path):
    class Unlabelled(Zoo):
        name = "unlabelled"

        def _generate_examples(self, count):
            for n, example in super()._generate_examples(count):
                for animal in example["animals"][:1]:
                    animal["kind"] = -1
                yield n, example

    Unlabelled(data_dir=tmp_path).download_and_prepare(file_format="array_record")
    source = load_tfds("unlabelled", "train", data_dir=str(tmp_path)).source
    np.testing.assert_array_equal(source[1]["labels"], [1])
    np.testing.assert_array_equal(source[1]["area"], [70])


def test_names_that_are_others_than_the_datasets_are_told(data_dir: str):
    message = r"have names, ape, bear, not bear, ape: take the data that has these"
    with pytest.raises(ValueError, match=message):
        load_tfds("zoo", "train", data_dir=data_dir, class_names=("bear", "ape"))


def test_versions_and_parts_of_splits(data_dir: str):
    assert len(load_tfds("zoo:1.2.3", "train[:50%]+test", data_dir=data_dir)) == 4
    with pytest.raises(ValueError, match=r"no split 'val' of zoo: there are test, train") as error:
        load_tfds("zoo", "val", data_dir=data_dir)
    assert "\n" not in str(error.value)


def test_a_dataset_that_is_nowhere_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"data\.name is 'no_such_zoo'") as error:
        load_tfds("no_such_zoo", "train", data_dir=str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_builder_that_needs_tensorflow_says_what_to_do(tmp_path: Path):
    with pytest.raises(ValueError, match=r"`tfds build coco/2017 --file_format=array_rec") as error:
        load_tfds("coco/2017", "train", data_dir=str(tmp_path))
    assert "\n" not in str(error.value)


def test_features_of_tfds_own_datasets(tmp_path: Path):
    fields, names = find_fields(voc.Voc(data_dir=tmp_path, config="2007").info.features)
    assert fields == VOC_FIELDS and len(names) == 20
    fields, names = find_fields(kitti.Kitti(data_dir=tmp_path).info.features)
    assert (fields.boxes, fields.labels) == (("objects", "bbox"), ("objects", "type"))
    assert fields.name == ("image/file_name",) and names[0] == "Car"
    fields, names = find_fields(wider_face.WiderFace(data_dir=tmp_path).info.features)
    assert (fields.boxes, fields.labels, names) == (("faces", "bbox"), (), ())


def ambiguous() -> tfds.features.FeaturesDict:
    boxes = tfds.features.Sequence(tfds.features.BBoxFeature())
    kinds = tfds.features.Sequence(tfds.features.ClassLabel(names=["a"]))
    return tfds.features.FeaturesDict(
        {
            "left": tfds.features.Image(),
            "right": tfds.features.Image(),
            "one/boxes": boxes,
            "two/boxes": boxes,
            "x": kinds,
            "y": kinds,
        }
    )


@pytest.mark.parametrize(
    ("kind", "given", "names"),
    [
        (tfds.features.Scalar(np.int64), ("ape", "bear"), ("ape", "bear")),
        (tfds.features.ClassLabel(num_classes=2), ("ape", "bear"), ("ape", "bear")),
        (tfds.features.ClassLabel(num_classes=2), (), ("0", "1")),
        (tfds.features.ClassLabel(names=["ape", "bear"]), ("ape", "bear"), ("ape", "bear")),
        (tfds.features.Scalar(np.int64), (), "have no names: set data.class_names"),
        (tfds.features.Scalar(np.int64), ("ape",), "has objects of class 2, counted from 1"),
        (tfds.features.ClassLabel(num_classes=2), ("ape",), "are 2, and data.class_names has 1"),
        (tfds.features.ClassLabel(names=["a", "b"]), ("b", "a"), "have names, a, b, not "),
        (tfds.features.Text(), ("ape", "bear"), "set data.labels_feature"),
    ],
)
def test_names_are_given_where_there_are_none(tmp_path: Path, kind, given, names):
    class Own(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            objects = {"bbox": tfds.features.BBoxFeature(), "label": kind}
            features = {"image": tfds.features.Image(), "objects": tfds.features.Sequence(objects)}
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            label = "bear" if isinstance(kind, tfds.features.Text) else 1
            photo = make.encode(make.picture(20, 30))
            yield 0, {"image": photo, "objects": [{"bbox": BOX, "label": label}]}

    Own(data_dir=tmp_path).download_and_prepare(file_format="array_record")
    load = functools.partial(load_tfds, "own", "train", data_dir=str(tmp_path), class_names=given)
    if isinstance(names, str):
        with pytest.raises(ValueError, match=names):
            load()
    else:
        dataset = load()
        assert dataset.class_names == names
        np.testing.assert_array_equal(dataset.source[0]["labels"], [2])


def test_what_cannot_be_told_is_asked_for():
    with pytest.raises(ValueError, match=r"of the image \(left, right\): set data\.image_feature"):
        find_fields(ambiguous())
    with pytest.raises(ValueError, match=r"of the boxes \(one/boxes, two/boxes\): set data\.boxes"):
        find_fields(ambiguous(), image="left")
    with pytest.raises(ValueError, match=r"labels \(x, y\): set data\.labels_feature"):
        find_fields(ambiguous(), image="left", boxes="two/boxes")
    fields, names = find_fields(ambiguous(), "left", "two/boxes", "y")
    assert (fields.image, fields.boxes, fields.labels) == (("left",), ("two/boxes",), ("y",))
    assert names == ("a",)
    with pytest.raises(
        ValueError, match=r"data\.image_feature is 'up': the dataset has left, right"
    ):
        find_fields(ambiguous(), "up")


def test_features_without_boxes_are_named():
    features = tfds.features.FeaturesDict({"image": tfds.features.Image()})
    with pytest.raises(ValueError, match=r"of the boxes \(none\)"):
        find_fields(features)
