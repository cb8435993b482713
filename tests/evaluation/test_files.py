"""Anybody's files: what is read is what was written, and bad files are told apart."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ssd_jax.evaluation.coco import to_instances, to_results
from ssd_jax.evaluation.detection_files import devkit_files, read_detections
from ssd_jax.evaluation.report import write_files
from ssd_jax.evaluation.truth_files import read_ground_truth
from tests.data.make import voc_folder, xml_object
from tests.evaluation.make import random_results


@pytest.fixture
def results():
    return random_results(np.random.default_rng(0), images=8, difficult=0.2, crowds=0.2)


@pytest.fixture
def written(results, tmp_path):
    write_files(
        tmp_path,
        {
            "truth.json": json.dumps(to_instances(results)),
            "found.json": json.dumps(to_results(results)),
            **{f"comp4/{name}": text for name, text in devkit_files(results).items()},
        },
    )
    assert not list(tmp_path.rglob("*.part"))
    return tmp_path


def test_coco_files_come_back(results, written):
    truth = read_ground_truth(written / "truth.json", "")
    for field in ("image_ids", "image_names", "image_sizes", "class_names", "category_ids"):
        assert getattr(truth, field) == getattr(results, field)
    for ours, there in zip(truth.ground_truth, results.ground_truth, strict=True):
        np.testing.assert_allclose(ours.boxes, there.boxes, atol=1e-5)
        np.testing.assert_allclose(ours.area, there.area, atol=1e-5)
        np.testing.assert_array_equal(ours.labels, there.labels)
        np.testing.assert_array_equal(ours.difficult, there.difficult)
        np.testing.assert_array_equal(ours.ignored, there.ignored)
    found = read_detections(written / "found.json", truth)
    for ours, there in zip(found, results.detections, strict=True):
        np.testing.assert_allclose(ours.boxes, there.boxes, atol=1e-5)
        np.testing.assert_array_equal(ours.scores, there.scores)
        np.testing.assert_array_equal(ours.labels, there.labels)


def test_images_of_two_folders_stay_apart(results, tmp_path):
    names = [f"{'left' if i % 2 else 'right'}/{i // 2:03}.jpg" for i in range(len(results))]
    renamed = dataclasses.replace(results, image_names=names)
    for name, text in devkit_files(renamed).items():
        (tmp_path / name).write_text(text)
    found = read_detections(tmp_path, renamed)
    assert [len(ours.scores) for ours in found] == [len(d.scores) for d in results.detections]


def test_classes_that_files_would_call_alike_stay_apart(results, tmp_path):
    renamed = dataclasses.replace(results, class_names=("a/b", "a_b", *results.class_names[2:]))
    write_files(tmp_path, devkit_files(renamed))
    found = read_detections(tmp_path, renamed)
    for ours, there in zip(found, results.detections, strict=True):
        np.testing.assert_array_equal(np.sort(ours.labels), np.sort(there.labels))


def test_images_that_differ_by_suffix_or_are_no_utf_8_stay_apart(results, tmp_path):
    names = [*("a.jpg", "a.png", "b.jpg"), os.fsdecode(b"caf\xe9.jpg"), *results.image_names[4:]]
    renamed = dataclasses.replace(results, image_names=names)
    write_files(tmp_path, devkit_files(renamed))
    found = read_detections(tmp_path, renamed)
    assert [len(ours.scores) for ours in found] == [len(d.scores) for d in results.detections]
    (tmp_path / "comp4_det_test_class 1.txt").write_text("b 0.5 1 2 3 4\na 0.5 1 2 3 4\n")
    with pytest.raises(ValueError, match=r"line 2: image 'a' is not in .*: a\.jpg, a\.png, b, "):
        read_detections(tmp_path, renamed)
    same = dataclasses.replace(results, image_names=["a.jpg", "a.jpg", *names[2:]])
    with pytest.raises(ValueError, match=r"several images of the ground truth are called a\.jpg"):
        read_detections(tmp_path, same)


def test_blank_lines_are_passed_over(results, tmp_path):
    path = tmp_path / "comp4_det_test_class 1.txt"
    path.write_text("000 0.5 1 2 3 4\n\n001 0.5 1 2 3 4\n \n")
    assert sum(len(found.scores) for found in read_detections(path, results)) == 2


def test_an_area_of_null_is_that_of_the_box(results, tmp_path):
    content = to_instances(results)
    for entry in content["annotations"]:
        entry["area"] = None
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    for truth in read_ground_truth(path, "").ground_truth:
        np.testing.assert_allclose(truth.area, np.prod(truth.boxes[:, 2:] - truth.boxes[:, :2], 1))
    content["annotations"][0]["area"] = "large"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"truth\.json: annotation 1 has the area 'large'"):
        read_ground_truth(path, "")


def test_categories_of_one_name_are_refused(results, tmp_path):
    content = to_instances(results)
    content["categories"][2]["name"] = content["categories"][0]["name"]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    message = r"truth\.json: the categories 2, 8 are all called 'class 1'"
    with pytest.raises(ValueError, match=message):
        read_ground_truth(path, "")


@pytest.mark.parametrize(("section", "what"), [("images", "image"), ("categories", "category")])
def test_ids_that_come_twice_are_refused(results, tmp_path, section, what):
    content = to_instances(results)
    content[section][1]["id"] = content[section][0]["id"]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"truth\.json: {what} id \d+ is there twice"):
        read_ground_truth(path, "")


def test_sizes_that_are_no_numbers_do_not_matter(results, tmp_path):
    content = to_instances(results)
    content["images"][0]["height"], content["images"][1]["width"] = "480.0", None
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    truth = read_ground_truth(path, "")
    assert truth.image_sizes == [(0, 0), (0, 0), *results.image_sizes[2:]]


def test_numbers_of_images_are_not_scored_against_a_folder_that_has_none(written, tmp_path):
    root = voc_folder(tmp_path / "own", {"a": [xml_object("dog", (1, 2, 30, 40))]}, {"test": ["a"]})
    done = subprocess.run(
        [sys.executable, "-m", "ssd_jax.evaluation", root, written / "found.json"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "tells images by numbers" in done.stderr and "ground_truth.json" in done.stderr


def test_devkit_files_come_back(results, written):
    found = read_detections(written / "comp4", results)
    for ours, there in zip(found, results.detections, strict=True):
        order = np.lexsort((np.arange(len(there.labels)), there.labels))
        np.testing.assert_allclose(ours.boxes, there.boxes[order], atol=6e-4)
        np.testing.assert_array_equal(ours.labels, there.labels[order])
    only = read_detections(written / "comp4/comp4_det_test_class 2.txt", results)
    assert {int(label) for image in only for label in image.labels} == {2}


def test_results_of_two_image_sets_are_not_joined(results, written):
    folder = written / "comp4"
    (folder / "comp4_det_val_class 2.txt").write_text("000 0.5 1 2 3 4\n")
    with pytest.raises(ValueError, match=r"has results of comp4_det_test, comp4_det_val: give"):
        read_detections(folder, results)
    (alone, *_) = read_detections(folder / "comp4_det_val_class 2.txt", results)
    np.testing.assert_array_equal(alone.boxes, [[1, 2, 3, 4]])


def test_a_voc_folder_needs_no_pictures(tmp_path):
    root = voc_folder(
        tmp_path / "own",
        {"a": [xml_object("dog", (1, 2, 30, 40))], "b": [xml_object("cat", (5, 5, 9, 9))], "c": []},
        {"test": ["c", "a"]},
    )
    for picture in (root / "JPEGImages").iterdir():
        picture.unlink()
    (root / "Annotations/._a.xml").write_bytes(b"no XML")
    truth = read_ground_truth(root, "test")
    assert truth.class_names == ("cat", "dog")
    assert truth.image_names == ["c.jpg", "a.jpg"]
    np.testing.assert_array_equal(truth.ground_truth[1].boxes, [[1, 2, 30, 40]])
    np.testing.assert_array_equal(truth.ground_truth[1].labels, [2])
    with pytest.raises(FileNotFoundError, match="no split 'val'"):
        read_ground_truth(root, "val")


def detection(**changes):
    return {"image_id": 10, "category_id": 2, "bbox": [0, 0, 5, 5], "score": 0.5, **changes}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([detection(), detection(image_id=99)], "detection 1: image_id 99 is not in the ground"),
        ([detection(category_id=1)], "category_id 1 is not in the ground truth, which has 3: 2, 5"),
        ([detection(score=math.nan)], r"score \[nan\] is not 1 finite"),
        ([detection(bbox=[0, 0, 5])], r"bbox \[0, 0, 5\] is not 4 finite"),
        ([{"image_id": 10}], "detection 0: lacks one of"),
        ({"images": []}, "not COCO's results"),
    ],
)
def test_broken_coco_results_are_told(results, tmp_path, content, message):
    path = tmp_path / "found.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_detections(path, results)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("comp4_det_test_class 1.txt", "000 0.5 1 2 3 4\n900 0.5 1 2 3 4\n", "line 2: image '900'"),
        ("comp4_det_test_class 1.txt", "000 nan 1 2 3 4\n", "line 1: score and box"),
        ("comp4_det_test_zebra.txt", "", "class 'zebra' is not in the ground truth"),
        ("results.txt", "", "is COCO's .json or comp4_det_test_CLASS.txt"),
    ],
)
def test_broken_devkit_files_are_told(results, tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_detections(tmp_path / name, results)


def test_no_images_and_no_files_are_told(results, tmp_path):
    empty = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "one"}]}
    (tmp_path / "empty.json").write_text(json.dumps(empty))
    with pytest.raises(ValueError, match=r"empty\.json has no images"):
        read_ground_truth(tmp_path / "empty.json", "")
    with pytest.raises(FileNotFoundError, match=r"no detections .*nothing/Main: give"):
        read_detections(tmp_path / "nothing" / "Main", results)
    with pytest.raises(FileNotFoundError, match=r"no ground truth .*nothing\.json"):
        read_ground_truth(tmp_path / "nothing.json", "")
    with pytest.raises(FileNotFoundError, match="no comp4_det_test_CLASS"):
        read_detections(tmp_path, results)


def test_an_interrupted_write_leaves_the_files_of_before(tmp_path):
    write_files(tmp_path, {"a.json": "1", "b.json": "2"})
    with pytest.raises(TypeError):
        write_files(tmp_path, {"a.json": "3", "b.json": None})
    assert (tmp_path / "a.json").read_text() == "1"
    assert (tmp_path / "b.json").read_text() == "2"
