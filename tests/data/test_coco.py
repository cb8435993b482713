import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssd_jax.data.coco import CocoJson, find_split
from tests.data import make


def content() -> dict[str, Any]:
    return {
        "images": [
            {"id": 42, "file_name": "b.jpg", "height": 60, "width": 80},
            {"id": 7, "file_name": "a.jpg", "height": 60, "width": 80},
            {"id": 9, "file_name": "c.jpg"},
        ],
        "categories": [{"id": 90, "name": "brush"}, {"id": 3, "name": "car"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "bbox": [8, 6, 32, 24], "area": 100.5},
            {"id": 2, "image_id": 7, "category_id": 3, "bbox": [0, 0, 80, 60], "iscrowd": 1},
            {"id": 3, "image_id": 42, "category_id": 3, "bbox": [40, 30, 40, 30]},
            {"id": 4, "image_id": 9, "category_id": 3, "bbox": [0, 0, 40, 30]},
            {"id": 5, "image_id": 7, "category_id": 3, "bbox": [0.0, 0.0, 40.0, 30.0]},
        ],
    }


def write(root: Path, annotations: Any) -> tuple[Path, Path]:
    (root / "annotations").mkdir(parents=True)
    (root / "val").mkdir()
    for seed, name in enumerate("abc"):
        (root / "val" / f"{name}.jpg").write_bytes(make.encode(make.picture(60, 80, seed)))
    path = root / "annotations" / "instances_val.json"
    path.write_text(annotations if isinstance(annotations, str) else json.dumps(annotations))
    return path, root / "val"


def test_labels_are_contiguous_and_crowds_marked(tmp_path: Path):
    source = CocoJson(*write(tmp_path, content()))
    assert source.class_names == ("car", "brush") and source.category_ids == (3, 90)
    assert [source[row]["image_id"] for row in range(3)] == [42, 7, 9]
    assert [source[row]["name"] for row in range(3)] == ["b.jpg", "a.jpg", "c.jpg"]
    np.testing.assert_array_equal(make.object_counts(source), [1, 2, 1])
    np.testing.assert_array_equal(source[0]["boxes"], [[0.5, 0.5, 1, 1]])
    np.testing.assert_array_equal(
        source[1]["boxes"], np.float32([[0.1, 0.1, 0.5, 0.5], [0, 0, 1, 1], [0, 0, 0.5, 0.5]])
    )
    np.testing.assert_array_equal(source[1]["labels"], [2, 1, 1])
    np.testing.assert_array_equal(source[1]["crowd"], [False, True, False])
    # The annotation's area; else the box's, in pixels.
    np.testing.assert_allclose(source[1]["area"], [100.5, 80 * 60, 40 * 30], rtol=1e-6)
    assert not source[1]["difficult"].any()
    # The third image's size is not in the file: it is read from the image.
    np.testing.assert_array_equal(source[2]["boxes"], [[0, 0, 0.5, 0.5]])


def test_images_of_two_folders_may_be_called_alike(tmp_path: Path):
    changed = content()
    changed["images"][0]["file_name"] = "left/a.jpg"
    path, folder = write(tmp_path, changed)
    (folder / "left").mkdir()
    (folder / "left/a.jpg").write_bytes(make.encode(make.picture(60, 80)))
    source = CocoJson(path, folder)
    assert [source.name(row) for row in range(3)] == ["left/a.jpg", "a.jpg", "c.jpg"]
    assert source[0]["name"] == "left/a.jpg"


def test_a_size_that_is_no_number_is_read_from_the_image(tmp_path: Path):
    changed = content()
    changed["images"][1]["height"] = "60 pixels"
    source = CocoJson(*write(tmp_path, changed))
    np.testing.assert_array_equal(source[1]["boxes"][0], np.float32([0.1, 0.1, 0.5, 0.5]))


def test_images_without_objects_stay(tmp_path: Path):
    empty = content() | {"annotations": []}
    source = CocoJson(*write(tmp_path, empty))
    np.testing.assert_array_equal(make.object_counts(source), [0, 0, 0])
    assert source[2]["boxes"].shape == (0, 4)


def test_odd_boxes_are_mended_and_reported_once(tmp_path: Path, caplog):
    odd = content()
    odd["annotations"][0]["bbox"] = [60, 30, 40, 30]
    odd["annotations"][2]["bbox"] = [40, 30, 0, 30]
    with caplog.at_level(logging.WARNING):
        source = CocoJson(*write(tmp_path, odd))
    np.testing.assert_array_equal(make.object_counts(source), [0, 2, 1])
    np.testing.assert_array_equal(source[1]["boxes"][0], [0.75, 0.5, 1, 1])
    (record,) = caplog.records
    assert "clipped 1 box (a.jpg)" in record.getMessage()
    assert "dropped 1 box (b.jpg)" in record.getMessage()


def change(**fields: Any) -> dict[str, Any]:
    changed = content()
    for entries, values in fields.items():
        changed[entries][0] = changed[entries][0] | values
    return changed


def lacking(entries: str, field: str) -> dict[str, Any]:
    changed = content()
    del changed[entries][1][field]
    return changed


@pytest.mark.parametrize(
    ("annotations", "error", "message"),
    [
        ("{", ValueError, "broken JSON"),
        ("[]", ValueError, "lacks one of images"),
        ({"images": [], "categories": []}, ValueError, "lacks one of images"),
        (lacking("images", "file_name"), ValueError, "entry 1 of images has no 'file_name'"),
        (change(images={"file_name": 5}), ValueError, "entry 0 of images has 'file_name' 5, no te"),
        (change(images={"id": 2**63}), ValueError, f"'id' {2**63}, more than 64 bits"),
        ({**content(), "annotations": None}, ValueError, "'annotations' is NoneType, no list"),
        (lacking("annotations", "bbox"), ValueError, "entry 1 of annotations has no 'bbox'"),
        (change(annotations={"image_id": 8}), ValueError, "annotation 1 has image_id 8"),
        (change(annotations={"category_id": 1}), ValueError, "annotation 1 has category_id 1"),
        (change(annotations={"bbox": [1, 2, 3]}), ValueError, "annotation 1 has the box"),
        (change(annotations={"bbox": [1, 2, 3, None]}), ValueError, "annotation 1 has the box"),
        (change(annotations={"bbox": [1, 2, 3, float("nan")]}), ValueError, "annotation 1 has the"),
        (change(annotations={"area": "1"}), ValueError, "annotation 1 has the area '1'"),
        (
            change(images={"id": "0042"}),
            ValueError,
            "entry 0 of images has 'id' '0042', no integer",
        ),
        (change(annotations={"image_id": 7.5}), ValueError, "'image_id' 7.5, no integer"),
        (change(images={"id": 7}), ValueError, "image id 7 is there twice"),
        (change(categories={"id": 3}), ValueError, "category id 3 is there twice"),
        (
            change(categories={"name": "car"}),
            ValueError,
            "the categories 3, 90 are all called 'car': rename or merge them",
        ),
        (change(images={"file_name": "z.jpg"}), FileNotFoundError, r"no image .*z\.jpg.*id 42"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, annotations: Any, error, message: str):
    with pytest.raises(error, match=message) as caught:
        CocoJson(*write(tmp_path, annotations))
    assert "instances_val.json" in str(caught.value) and "\n" not in str(caught.value)


def test_missing_places_are_named(tmp_path: Path):
    annotation_file, images = write(tmp_path, content())
    with pytest.raises(FileNotFoundError, match=r"no annotation file .*x\.json"):
        CocoJson(tmp_path / "x.json", images)
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        CocoJson(annotation_file, tmp_path / "nowhere")


def test_layouts(tmp_path: Path):
    coco, plain, export = tmp_path / "coco", tmp_path / "plain", tmp_path / "export"
    write(coco, content())
    assert find_split(coco, "val") == (coco / "annotations/instances_val.json", coco / "val")
    (plain / "annotations").mkdir(parents=True)
    (plain / "images").mkdir()
    (plain / "annotations/val.json").touch()
    assert find_split(plain, "val") == (plain / "annotations/val.json", plain / "images")
    (export / "valid").mkdir(parents=True)
    (export / "valid/_annotations.coco.json").touch()
    found = (export / "valid/_annotations.coco.json", export / "valid")
    assert find_split(export, "valid") == found
    with pytest.raises(FileNotFoundError, match=r"no annotations of split 'test'.*instances_test"):
        find_split(coco, "test")
    with pytest.raises(FileNotFoundError, match=r"set data\.root"):
        find_split(tmp_path / "nowhere", "val")
