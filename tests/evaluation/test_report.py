"""The sheet of pictures that a run leaves."""

import dataclasses
import io

import numpy as np
from rich.console import Console

from ssd_jax.evaluation import report
from ssd_jax.evaluation.compare import Difference, difference_table
from ssd_jax.evaluation.evaluator import Evaluation
from ssd_jax.evaluation.scores import score
from tests.evaluation.make import TURNED_BOX, TURNED_SIZE, random_results, turned_split


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


def test_names_are_no_markup():
    names = ("[other]", "a[/b]", "[bold]c")
    results = random_results(np.random.default_rng(0), images=4)
    results = dataclasses.replace(results, class_names=names, dataset="data[/set]")
    scores = score(results, ["voc"], inclusive_pixels=False, threshold_inclusive=False)
    nothing = np.zeros((2, 4))
    for markup in (True, False):
        console = Console(file=io.StringIO(), width=100, markup=markup)
        console.print(report.table(results, scores))
        console.print(difference_table(names, Difference(nothing, nothing)))
        lines = console.file.getvalue()
        assert "data[/set] test: average precision" in lines
        for name in names:
            assert lines.count(f"│ {name} ") == 2
