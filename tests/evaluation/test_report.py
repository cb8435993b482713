"""The sheet of pictures that a run leaves."""

import numpy as np

from ssd_jax.evaluation import report
from ssd_jax.evaluation.evaluator import Evaluation
from ssd_jax.evaluation.scores import score
from tests.evaluation.make import TURNED_BOX, TURNED_SIZE, turned_split


def test_a_picture_that_exif_turns_is_drawn_as_it_was_annotated(tmp_path):
    dataset, results = turned_split(tmp_path)
    scores = score(results, ["voc"], inclusive_pixels=False, threshold_inclusive=False)
    sheet = report.picture_sheet(Evaluation(dataset, results, [0], None, scores, "voc"))
    assert sheet.shape == (300, 300, 3)
    scale = 296 / TURNED_SIZE[0]  # it fills the cell's height but for two pixels at each end
    rows, columns = np.where(sheet.min(axis=-1) > 250)  # the object, but for the line round it
    corners = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    left = 150 - scale * TURNED_SIZE[1] / 2
    np.testing.assert_allclose(corners, np.array(TURNED_BOX) * scale + [left, 2, left, 2], atol=5)
