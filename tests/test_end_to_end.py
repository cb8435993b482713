"""From a recipe to pictures with boxes, through the very code that users run."""

import json
import shutil
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest

from ssd_jax.detector import Detector
from ssd_jax.training.loop import train
from tests.data import make
from tests.programs import quiet, run
from tests.small import small_config, untrained_detector

pytestmark = pytest.mark.usefixtures("loose_dtypes")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, shapes_folder):
    """(workdir, evaluation, what was printed) of a run that learns 32 pictures by heart."""
    workdir = tmp_path_factory.mktemp("run")
    console = quiet()
    with jax.numpy_dtype_promotion("standard"):
        evaluation = train(
            small_config(shapes_folder), workdir, console=console, devices=jax.devices()[:1]
        )
    return workdir, evaluation, console.file.getvalue()


def test_training_learns(trained):
    workdir, evaluation, printed = trained
    assert evaluation.mean > 0.8
    assert len(evaluation.results.image_ids) == 32
    assert "step 200/200" in printed
    assert "images/s" in printed
    assert "left" in printed
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [*range(1, 201)]
    assert [line["step"] for line in lines if "mAP" in line] == [200]
    assert lines[0]["first_step_seconds"] > 0
    assert lines[-1]["mAP"] == evaluation.mean
    assert cv2.imread(str(workdir / "detections.png")).shape[0] > 300
    assert any((workdir / "tensorboard").iterdir())


def test_evaluate_prints_the_same_map_and_writes_it(trained):
    workdir, evaluation, _ = trained
    done = run("evaluate.py", "--ckpt", str(workdir))
    assert f"mAP {evaluation.mean:.4f}" in done.stdout
    for name in evaluation.dataset.class_names:
        assert name in done.stdout
    metrics_file = workdir / "evaluation" / evaluation.dataset.split / "metrics.json"
    metrics = json.loads(metrics_file.read_text())
    assert metrics["mAP"] == evaluation.mean
    assert metrics["changes"] == {}
    assert metrics["step"] == 200
    detections = json.loads((metrics_file.parent / "detections.json").read_text())
    assert len(detections) == sum(len(found.scores) for found in evaluation.results.detections)
    first = evaluation.results.detections[0]
    x, y, width, height = detections[0]["bbox"]
    np.testing.assert_allclose([x, y, x + width, y + height], first.boxes[0], atol=0.011)
    assert detections[0]["category_id"] == first.labels[0]
    assert detections[0]["image_id"] == evaluation.results.image_ids[0]


def test_evaluate_detects_by_other_settings(trained):
    workdir, evaluation, _ = trained
    run("evaluate.py", "--ckpt", str(workdir), "--config.detect.score_threshold=0.5")
    split = evaluation.dataset.split
    folder = workdir / "evaluation" / f"{split}-score_threshold=0.5"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["changes"] == {"detect.score_threshold": 0.5}
    assert "detect.score_threshold" in (folder / "report.html").read_text()
    # NMS takes the highest scores first, so a higher threshold leaves out the others alone.
    wanted = sum(int(np.sum(each.scores > 0.5)) for each in evaluation.results.detections)
    detections = json.loads((folder / "detections.json").read_text())
    assert 0 < len(detections) == wanted < sum(len(e.scores) for e in evaluation.results.detections)
    for fields, message in (
        ("--config.train.steps=3", "--config.train.steps is as it was in training"),
        ("--config.detect.iou=3", "iou"),
        ("--config.detect.iou_threshold=a", "iou_threshold"),
        ("--bset", "bset"),
    ):
        done = run("evaluate.py", "--ckpt", str(workdir), fields, check=False)
        (line,) = done.stderr.strip().splitlines()
        assert done.returncode == 1
        assert message in line


def test_evaluate_takes_a_folder_that_lacks_a_class(tmp_path):
    config = small_config("")
    config.data.kind, config.data.eval = "voc_folder", "test"
    config.data.root = "the one of training"
    untrained_detector(config, ("circle", "square")).save(tmp_path / "run")
    square = [make.xml_object("square", (8, 6, 40, 30))]
    root = make.voc_folder(tmp_path / "other", {"a": square}, {"test": ["a"]})
    done = run("evaluate.py", f"--ckpt={tmp_path / 'run'}", f"--root={root}", "--metrics=voc")
    assert "not in the means, for want of objects: circle" in done.stdout
    (folder,) = (tmp_path / "run/evaluation").iterdir()  # not that of the data of training
    assert folder.name == f"test-root={root}".replace("/", "_")
    assert (folder / "metrics.json").is_file()


def test_evaluate_takes_data_of_another_kind(tmp_path):
    config = small_config("")
    config.data.kind, config.data.eval = "voc_folder", "test"
    untrained_detector(config, ("circle", "square")).save(tmp_path / "run")
    root = tmp_path / "coco"
    (root / "images").mkdir(parents=True)
    (root / "images/a.jpg").write_bytes(make.encode(make.picture(48, 64)))
    annotation = {"id": 1, "image_id": 1, "category_id": 2, "bbox": [8, 6, 32, 24], "area": 768}
    (root / "annotations").mkdir()
    (root / "annotations/val.json").write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}],
                "categories": [{"id": 1, "name": "circle"}, {"id": 2, "name": "square"}],
                "annotations": [annotation],
            }
        )
    )
    flags = (f"--ckpt={tmp_path / 'run'}", f"--root={root}", "--split=val", "--metrics=coco")
    run("evaluate.py", *flags, "--config.data.kind=coco_json", "--config.data.name=a/b")
    name = f"val-root={root}-kind=coco_json-name=a_b".replace("/", "_")
    folder = tmp_path / "run/evaluation" / name
    assert "coco" in json.loads((folder / "metrics.json").read_text())


def test_a_split_without_annotations_is_detected_as_one_with_them(tmp_path):
    config = small_config("")
    config.data.kind, config.data.eval = "voc_folder", "test"
    untrained_detector(config, ("circle", "square")).save(tmp_path / "run")
    objects = {name: [make.xml_object("square", (8, 6, 40, 30))] for name in ("a", "b")}
    root = make.voc_folder(tmp_path / "data", objects, {"test": ["b", "a"]})
    flags = f"--ckpt={tmp_path / 'run'}", f"--root={root}"
    run("evaluate.py", *flags, f"--out={tmp_path / 'scored'}", "--metrics=voc")
    shutil.rmtree(root / "Annotations")
    for name in ("metrics.json", "report.html", "ground_truth.json"):  # of other detections
        (tmp_path / "found").mkdir(exist_ok=True)
        (tmp_path / "found" / name).write_text("old")
    done = run("evaluate.py", *flags, f"--out={tmp_path / 'found'}", "--unannotated")
    assert "detections.json and comp4/ are in" in done.stdout
    found = {p.relative_to(tmp_path / "found") for p in (tmp_path / "found").rglob("*.*")}
    assert sorted(map(str, found)) == [
        *("comp4/comp4_det_test_circle.txt", "comp4/comp4_det_test_square.txt"),
        "detections.json",
    ]
    for path in found:
        content = (tmp_path / "found" / path).read_text()
        assert content and content == (tmp_path / "scored" / path).read_text()
    done = run("evaluate.py", *flags, "--unannotated", "--metrics=voc", check=False)
    assert "leave out --metrics" in done.stderr and done.returncode == 1


def test_detect_draws_and_writes_boxes_in_pixels_of_the_original(trained, tmp_path):
    workdir, evaluation, _ = trained
    pictures = tmp_path / "pictures"
    (pictures / "deeper").mkdir(parents=True)
    for row, name in enumerate(("a.jpg", "deeper/b.jpg")):
        (pictures / name).write_bytes(evaluation.dataset.source[row]["image"])
    (pictures / "broken.jpg").write_bytes(b"no picture")
    out = tmp_path / "out"
    done = run("detect.py", "--ckpt", str(workdir), str(pictures), "--out", str(out), check=False)
    assert done.returncode == 1
    assert "1 of 3 files left out" in done.stderr
    assert "broken.jpg" in done.stderr
    written = json.loads((out / "detections.json").read_text())["images"]
    assert [Path(image["file"]).name for image in written] == ["a.jpg", "b.jpg"]
    for row, image in enumerate(written):
        found = evaluation.results.detections[row]
        sure = found.scores >= 0.5
        np.testing.assert_allclose(
            np.reshape([d["box"] for d in image["detections"]], (-1, 4)),
            found.boxes[sure],
            atol=0.02,
        )
        assert [d["class"] for d in image["detections"]] == [
            evaluation.dataset.class_names[label - 1] for label in found.labels[sure]
        ]
    flags = ("--ckpt", str(workdir), str(pictures), "--out", str(out))
    done = run("detect.py", *flags, "--class_threshold=circel=0.3", check=False)
    assert "a threshold for circel: the classes are circle, " in done.stderr
    assert json.loads((out / "detections.json").read_text())["images"] == written
    plain = cv2.imread(str(pictures / "a.jpg"))
    drawn = cv2.imread(str(out / "a.jpg"))
    assert drawn.shape == plain.shape
    assert np.abs(drawn.astype(int) - plain).max() > 60


def test_an_earlier_step_is_evaluated_and_detects_by_the_flags(trained, tmp_path):
    workdir, evaluation, _ = trained
    run("evaluate.py", f"--ckpt={workdir}", "--step=100", f"--out={tmp_path / 'evaluated'}")
    assert json.loads((tmp_path / "evaluated/metrics.json").read_text())["step"] == 100

    picture = tmp_path / "a.jpg"
    picture.write_bytes(evaluation.dataset.source[0]["image"])
    every = Detector.from_checkpoint(workdir, step=100)(picture, score_threshold=0.0)
    middle = float(np.median(every.scores))
    names = sorted(set(every.names))
    assert len(names) > 1
    minimum = {name: middle for name in names} | {names[0]: 0.0, names[1]: 0.99}
    run(
        *("detect.py", f"--ckpt={workdir}", "--step=100", str(picture), "--nodraw", "--crop"),
        *(f"--out={tmp_path / 'found'}", f"--threshold={middle}"),
        *(f"--class_threshold={names[0]}=0.5,{names[1]}=0.99", f"--class_threshold={names[0]}=0"),
    )
    (image,) = json.loads((tmp_path / "found/detections.json").read_text())["images"]
    expected = [
        (name, score)
        for name, score in zip(every.names, every.scores, strict=True)
        if score >= minimum[name]
    ]
    assert 0 < len(expected) < len(every.names)
    found = image["detections"]
    assert [row["class"] for row in found] == [name for name, _ in expected]
    np.testing.assert_allclose([r["score"] for r in found], [s for _, s in expected], atol=1e-4)
    assert not (tmp_path / "found/a.jpg").exists()
    crops = [path for path in (tmp_path / "found/crops").rglob("*") if path.is_file()]
    assert len(crops) == len(found)


def test_detector_takes_arrays_paths_and_lists(trained, tmp_path):
    workdir, evaluation, _ = trained
    detector = Detector.from_checkpoint(workdir, batch_size=2)
    path = tmp_path / "one.jpg"
    path.write_bytes(evaluation.dataset.source[0]["image"])
    picture = cv2.imread(str(path))[..., ::-1].copy()
    one = detector(picture)
    several = detector([path, picture, str(path)])
    assert len(several) == 3
    for result in several:
        np.testing.assert_array_equal(result.boxes, one.boxes)
        assert result.names == one.names
    with pytest.raises(ValueError, match=r"RGB uint8 \[H, W, 3\], got float64 \[4, 4, 3\]"):
        detector(np.zeros((4, 4, 3)))
    # Twice as large, the boxes are twice as large too.
    large = detector(cv2.resize(picture, None, fx=2, fy=2))
    sure = one.scores > 0.6  # what is near the threshold of .5 may fall below it
    assert sure.any()
    for name, box in zip(np.array(one.names)[sure], one.boxes[sure], strict=True):
        same = large.boxes[np.array(large.names) == name]
        assert np.abs(same - 2 * box).max(1).min() < 6


def test_going_on_after_the_end_evaluates_again(trained, shapes_folder):
    workdir, evaluation, _ = trained
    console = quiet()
    again = train(small_config(shapes_folder), workdir, console=console, devices=jax.devices()[:1])
    assert again.mean == evaluation.mean
    assert "going on from step 200 of 200" in console.file.getvalue()


def test_another_networks_run_is_not_gone_on_with(trained, shapes_folder):
    workdir, _, _ = trained
    config = small_config(shapes_folder)
    config.model.width = 0.25
    with pytest.raises(ValueError, match=r"config\.model\.width is 0\.25, but .* has 0\.125"):
        train(config, workdir, console=quiet(), devices=jax.devices()[:1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train.py"], "--config is missing"),
        (["train.py", "--config", "configs/nothing.py"], "configs/nothing.py"),
        (
            ["train.py", "--config", "configs/shapes.py", "--config.train.stepz=3"],
            "--config.train.stepz",
        ),
        (["train.py", "--config", "configs/shapes.py", "--config.train.steps=a"], "train.steps"),
        (["train.py", "--config", "configs/custom_voc.py"], "data.root"),
        (["evaluate.py", "--ckpt", "runs/nothing"], "no checkpoint in runs/nothing"),
        (["evaluate.py", "--ckpt=~/nothing"], f"no checkpoint in {Path.home()}/nothing"),
        (["evaluate.py"], "--ckpt is missing"),
        (["detect.py", "--ckpt", "runs/nothing", "nothing.jpg"], "nothing.jpg"),
        (["detect.py", "--model", "a.onnx", "--best", "a.jpg"], "leave them out with --model"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_that_names_it(arguments, message):
    done = run(*arguments, check=False)
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    assert message in line


def test_a_schedule_leaves_what_the_command_line_gives(tmp_path):
    done = run(
        *("train.py", "--config", "configs/voc300.py", "--config.schedule=fast"),
        *("--config.model.dtype=float32", f"--config.data.voc_root={tmp_path}"),
        check=False,
    )
    assert "schedule=fast sets config.train.batch_size to 128" in done.stdout
    assert "model.dtype" not in done.stdout  # float32 is the original's value, and was given
    assert "no VOC2007" in done.stderr


def test_help_lists_what_scripts_share():
    done = run("train.py", "--help", check=False)
    for flag in ("--config:", "--workdir:", "--coordinator:", "--compilation_cache:"):
        assert flag in done.stdout


def test_a_moved_run_is_all_that_detection_needs(trained, tmp_path):
    workdir, evaluation, _ = trained
    shutil.copytree(workdir, tmp_path / "moved")
    detector = Detector.from_checkpoint(tmp_path / "moved", best=True)
    assert detector.class_names == evaluation.dataset.class_names
