"""From a file of another program to detections on a picture, by the command line."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="compares with PyTorch, an optional extra")

from ssd_jax.class_names import PRESETS  # noqa: E402
from ssd_jax.detector import Detector  # noqa: E402
from tests.reference import peers_detection, peers_torch  # noqa: E402
from tests.weights.test_parity import STEPS, VOC300, picture, to_torch  # noqa: E402

ROOT = Path(__file__).parents[2]


def convert(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "ssd_jax.weights", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def network():
    images = to_torch(picture(300) - [123, 117, 104])
    return peers_torch.randomise(peers_torch.SsdPytorch(300, 21), images, background=0)


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "ssd300.pth"
    torch.save(network.state_dict(), path)
    return path


def test_detections_of_a_picture_are_the_programs_own(network, file, tmp_path):
    done = convert(file, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "ssd.pytorch SSD300, 20 classes, 8732 priors" in done.stdout

    image = np.rint(picture(300)[0]).astype(np.uint8)
    with torch.no_grad():
        loc, conf = network(to_torch(image[None].astype(np.float32) - [123, 117, 104]))
    priors = peers_detection.priors(300, STEPS[300], VOC300, clip="center")
    expected = peers_detection.ssd_pytorch(loc[0].numpy(), conf[0].numpy(), priors)

    result = Detector.from_checkpoint(tmp_path / "run", batch_size=1)(image, score_threshold=0.0)
    assert len(result.scores) == len(expected) > 50
    np.testing.assert_allclose(result.scores, [score for _, score, _ in expected], atol=1e-4)
    for ours, (label, _, box) in zip(range(20), expected, strict=False):
        assert result.labels[ours] == label
        np.testing.assert_allclose(result.boxes[ours], box * 300, atol=0.1)

    again = convert(file, "--out", tmp_path / "run")
    assert again.returncode == 1
    assert "holds checkpoints already" in again.stderr


def test_fewer_and_other_classes_are_taken_by_name_and_told(file, tmp_path):
    done = convert(file, "--out", tmp_path / "run", "--classes", "person,unicorn,car")
    assert done.returncode == 0, done.stderr
    assert "classes taken by name: 2 of 3: person, car" in done.stdout
    assert "classes that start fresh: 1: unicorn" in done.stdout
    detector = Detector.from_checkpoint(tmp_path / "run")
    assert detector.class_names == ("person", "unicorn", "car")
    assert detector.engine.config.priors.clip == "center_form"


def test_a_detector_of_coco_comes_with_its_classes_and_metric(tmp_path):
    path = tmp_path / "coco.pth"
    torch.save(peers_torch.SsdPytorch(300, 81).state_dict(), path)
    done = convert(path, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    detector = Detector.from_checkpoint(tmp_path / "run")
    assert detector.class_names == PRESETS["coco"]
    assert detector.engine.config.evaluate.best_metric == "coco"


def test_a_wrong_file_leaves_nothing_behind(tmp_path):
    path = tmp_path / "vgg.pth"
    torch.save({"vgg.0.weight": torch.zeros(64, 3, 3, 3)}, path)
    done = convert(path, "--out", tmp_path / "run")
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"error: {path}: not the weights of ssd.pytorch's SSD: it has 0 class")
    assert not (tmp_path / "run").exists()
