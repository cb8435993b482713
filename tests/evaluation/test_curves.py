"""Curves, best F1, calibration and confusion, by hand."""

import numpy as np
import pytest

from ssd_jax.evaluation.confusion import confusion_matrix
from ssd_jax.evaluation.curves import best_f1, calibration, precision_recall
from ssd_jax.evaluation.scores import check_metrics
from ssd_jax.evaluation.voc import rank_detections
from tests.evaluation.make import detected, objects, split_results


def box(n):
    return [20 * n, 0, 20 * n + 10, 10]


def ranked(found, truth, num_classes=2):
    return rank_detections([found], [truth], num_classes=num_classes, inclusive_pixels=False)


def test_precision_and_recall_by_hand():
    # Hit at .9; a hit and a miss at .5, which no threshold tells apart; a miss at .3.
    found = detected((box(0), 0.9, 1), (box(1), 0.5, 1), (box(7), 0.5, 1), (box(8), 0.3, 1))
    judged = ranked(found, objects((box(0), 1), (box(1), 1), (box(2), 1), (box(3), 1)))
    curve = precision_recall(judged, 1)
    np.testing.assert_allclose(curve.scores, [0.9, 0.5, 0.3])
    np.testing.assert_allclose(curve.recall, [1 / 4, 2 / 4, 2 / 4])
    np.testing.assert_allclose(curve.precision, [1, 2 / 3, 2 / 4])
    best = best_f1(judged)
    assert best.f1[0] == pytest.approx(2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))
    assert best.threshold[0] == 0.5


def test_f1_without_hits_or_objects():
    best = best_f1(ranked(detected((box(5), 0.9, 1)), objects((box(0), 1)), num_classes=3))
    np.testing.assert_array_equal(best.f1, [0, np.nan])
    np.testing.assert_array_equal(best.threshold, [np.nan, np.nan])
    np.testing.assert_array_equal(best.operating_threshold, [0.5, 0.5])


def test_calibration_by_hand():
    # Scores .95 and .91: one of two hits. Score 1 belongs to the last bin, too. Score .15: no hit.
    found = detected((box(0), 0.95, 1), (box(6), 0.91, 1), (box(1), 1.0, 1), (box(7), 0.15, 1))
    bins = calibration(ranked(found, objects((box(0), 1), (box(1), 1))))
    np.testing.assert_array_equal(bins.count, [0, 1, 0, 0, 0, 0, 0, 0, 0, 3])
    assert bins.precision[1] == 0
    assert bins.precision[9] == pytest.approx(2 / 3)
    assert bins.score[9] == pytest.approx((0.95 + 0.91 + 1) / 3)
    expected = (0.15 + 3 * abs(2 / 3 - 2.86 / 3)) / 4
    assert bins.error == pytest.approx(expected)


def confusion(results, threshold_inclusive=True):
    return confusion_matrix(
        results,
        np.array([0.5, 0.5]),
        inclusive_pixels=False,
        threshold_inclusive=threshold_inclusive,
    )


def test_confusion_by_hand():
    truth = objects((box(0), 1), (box(1), 1), (box(2), 2), (box(3), 2, True), (box(4), 2))
    found = detected(
        (box(0), 0.9, 1),  # right
        (box(1), 0.8, 2),  # the wrong class
        (box(3), 0.7, 1),  # on a difficult object: counts for nothing
        (box(8), 0.6, 1),  # on nothing
        (box(4), 0.2, 2),  # below the threshold: the object is not found
    )
    results = split_results([found], [truth], ["one", "two"])
    matrix = confusion(results)
    np.testing.assert_array_equal(matrix, [[0, 1, 0], [0, 1, 1], [2, 0, 0]])


@pytest.mark.parametrize("ignored", [False, True])
def test_an_iou_of_a_half_pairs_where_it_is_a_hit(ignored):
    results = split_results(
        [detected(([0, 0, 10, 5], 0.9, 1))], [objects(([0, 0, 10, 10], 1, ignored))], ["one", "two"]
    )
    apart = [0, 1, 0], [0 if ignored else 1, 0, 0], [0, 0, 0]
    together = [0, 0, 0], [0, 0 if ignored else 1, 0], [0, 0, 0]
    np.testing.assert_array_equal(confusion(results, threshold_inclusive=False), apart)
    np.testing.assert_array_equal(confusion(results, threshold_inclusive=True), together)


def test_the_nearest_pair_first_each_only_once():
    truth = objects(([0, 0, 10, 10], 1))
    found = detected(([0, 0, 10, 8], 0.9, 2), ([0, 0, 10, 10], 0.6, 1))
    results = split_results([found], [truth], ["one", "two"])
    matrix = confusion(results)
    np.testing.assert_array_equal(matrix, [[0, 0, 1], [0, 1, 0], [0, 0, 0]])


def test_unknown_metrics_are_told():
    check_metrics(["voc07", "coco"])
    with pytest.raises(ValueError, match="no metric f1: there are voc07, voc, coco"):
        check_metrics(["voc", "f1"])
    with pytest.raises(ValueError, match="no metric given"):
        check_metrics([])
