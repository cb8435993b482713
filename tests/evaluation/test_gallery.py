"""The pictures of the report lie under their boxes."""

import base64

import cv2
import numpy as np
import pytest

from ssd_jax.evaluation.errors import classify_errors
from ssd_jax.evaluation.evaluator import Evaluation
from ssd_jax.evaluation.gallery import Item, choose_items, gallery_content
from ssd_jax.evaluation.results import ImageDetections, ImageGroundTruth, SplitResults
from ssd_jax.evaluation.scores import score
from tests.evaluation.make import TURNED_BOX, TURNED_SIZE, turned_split


def test_a_picture_that_exif_turns_is_shown_as_it_was_annotated(tmp_path):
    dataset, results = turned_split(tmp_path)
    scores = score(results, ["voc"], inclusive_pixels=False, threshold_inclusive=False)
    evaluation = Evaluation(dataset, results, [0], None, scores, "voc")
    ranked = scores.ranked
    errors = classify_errors(results, ranked, inclusive_pixels=False, threshold_inclusive=False)
    items, pictures = gallery_content(
        results, choose_items(results, ranked, errors), evaluation.picture
    )
    (item,) = items
    assert (item["height"], item["width"]) == TURNED_SIZE
    assert item["objects"] == [[*TURNED_BOX, 1]]
    encoded = base64.b64decode(pictures["0"].removeprefix("data:image/jpeg;base64,"))
    shown = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert shown.shape == TURNED_SIZE
    rows, columns = np.where(shown > 127)
    corners = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    np.testing.assert_allclose(corners, TURNED_BOX, atol=1)


@pytest.mark.parametrize("shape", [(1, 4000), (4000, 1)])
def test_a_picture_as_thin_as_a_line_is_shown(shape):
    truth = ImageGroundTruth(
        np.array([[0.0, 0, 1, 1]]),
        *(np.array([1]), np.array([False]), np.array([False]), np.array([1.0])),
    )
    found = ImageDetections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    results = SplitResults("d", "s", ("a",), (1,), [0], ["a.png"], [shape], [found], [truth])
    items = [Item("missed", 1, 0, [], [0], "")]
    _, pictures = gallery_content(results, items, lambda _: np.zeros((*shape, 3), np.uint8))
    encoded = base64.b64decode(pictures["0"].removeprefix("data:image/jpeg;base64,"))
    shown = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert sorted(shown.shape) == [1, 400]
