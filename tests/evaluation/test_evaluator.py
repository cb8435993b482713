"""A split is seen once, image by image, and what is shown of it are the right pictures."""

import cv2
import jax
import numpy as np
import pytest

from ssd_jax.data import Dataset
from ssd_jax.data.folder import VocFolder
from ssd_jax.evaluation import report
from ssd_jax.evaluation.errors import classify_errors
from ssd_jax.evaluation.evaluator import Detected, detect, evaluate, predict_by
from ssd_jax.evaluation.gallery import choose_items, gallery_content
from ssd_jax.sharding import make_mesh
from tests.colors import CLASS_NAMES, ColorEngine
from tests.data import make
from tests.data.test_loader import file_dataset
from tests.evaluation.make import detected, objects, split_results
from tests.small import small_config

SIZE = 60


@pytest.fixture
def evaluation(tmp_path):
    """Of three pictures with a red square each, the second of which cannot be decoded."""
    names, lefts = ("a", "b", "c"), (5, 15, 25)
    objects = {
        name: [make.xml_object("red", (left, 10, left + 20, 30))]
        for name, left in zip(names, lefts, strict=True)
    }
    root = make.voc_folder(tmp_path, objects, {"test": names}, size=(SIZE, SIZE))
    for name, left in zip(names, lefts, strict=True):
        picture = np.zeros((SIZE, SIZE, 3), np.uint8)
        picture[9:30, left - 1 : left + 20] = (0, 0, 255)  # VOC's pixels count from 1
        cv2.imwrite(str(root / f"JPEGImages/{name}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 100])
    (root / "JPEGImages/b.jpg").write_bytes(b"no picture")
    dataset = Dataset("folder", "test", VocFolder(root, "test", CLASS_NAMES), CLASS_NAMES)
    config = small_config("")
    config.data.canvas, config.data.undecodable = 64, "skip"
    mesh = make_mesh(jax.devices()[:1])
    return evaluate(config, detect(config, predict_by(ColorEngine()), None, dataset, mesh))


def test_an_image_that_cannot_be_decoded_moves_no_other(evaluation):
    assert evaluation.rows == [0, 2]
    assert evaluation.results.image_names == ["a.jpg", "c.jpg"]
    assert evaluation.mean > 0.99
    for image, left in enumerate((5, 25)):
        red = np.flatnonzero(evaluation.picture(image)[20, :, 0] > 150)
        np.testing.assert_allclose([red[0], red[-1]], [left - 1, left + 19], atol=1)


def test_images_of_one_id_stay_apart(tmp_path, caplog):
    dataset = file_dataset(tmp_path)
    dataset.source._image_ids[2] = 1
    config = small_config("")
    config.data.canvas = 64
    mesh = make_mesh(jax.devices()[:1])
    results = detect(config, predict_by(ColorEngine()), None, dataset, mesh).results
    assert results.image_ids == [*range(7)]
    assert "have one id: they are numbered by row" in caplog.text


def test_scores_are_by_the_rules_of_the_config(evaluation):
    """A detection of half an object has an IoU of .5, with the last pixels counted of more."""
    results = split_results([detected(([0, 0, 1, 1], 0.9, 1))], [objects(([0, 0, 1, 2], 1))], ["a"])
    there = Detected(evaluation.dataset, results, [0], None)
    config = small_config("")
    for inclusive_pixels, threshold_inclusive, mean in (
        (True, False, 1.0),
        (False, False, 0.0),
        (False, True, 1.0),
    ):
        config.evaluate.inclusive_pixels = inclusive_pixels
        config.evaluate.threshold_inclusive = threshold_inclusive
        assert evaluate(config, there).mean == mean


def test_the_sheet_and_the_report_show_the_others(evaluation):
    results, ranked = evaluation.results, evaluation.scores.ranked
    sheet = report.picture_sheet(evaluation, count=3, columns=3)
    red = (sheet[..., 0] > 150) & (sheet[..., 1:].max(axis=-1) < 100)
    assert red[:, :300].any()
    assert red[:, 300:].any()
    errors = classify_errors(results, ranked, inclusive_pixels=False, threshold_inclusive=False)
    items, pictures = gallery_content(
        results, choose_items(results, ranked, errors), evaluation.picture
    )
    assert [(item["image"], item["name"]) for item in items] == [(0, "a.jpg"), (1, "c.jpg")]
    assert pictures["0"] != pictures["1"]
