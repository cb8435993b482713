"""The paired bootstrap against AP over images that are really there several times."""

import dataclasses
import json

import numpy as np
import pytest

from ssd_jax.evaluation.compare import (
    _objects,
    _weighted_ap,
    check_same_split,
    compare,
    read_run,
)
from ssd_jax.evaluation.evaluator import Evaluation
from ssd_jax.evaluation.report import metrics, result_files, write_files
from ssd_jax.evaluation.scores import score
from ssd_jax.evaluation.voc import rank_detections, voc_ap
from tests.evaluation.make import detected, objects, random_results, split_results, turned_split


def test_images_that_count_twice_are_images_that_are_there_twice():
    rng = np.random.default_rng(1)
    results = random_results(rng, images=20, classes=3, difficult=0.2)
    results = dataclasses.replace(  # no ties, whose order the copies would change
        results,
        detections=[
            dataclasses.replace(found, scores=rng.random(len(found.scores)))
            for found in results.detections
        ],
    )
    options = {"num_classes": 4, "inclusive_pixels": False}
    ranked = rank_detections(results.detections, results.ground_truth, **options)
    for _ in range(5):
        times = rng.integers(0, 4, 20)
        copies = np.repeat(np.arange(20), times)
        expected = voc_ap(
            [results.detections[i] for i in copies],
            [results.ground_truth[i] for i in copies],
            **options,
        )
        ours = _weighted_ap(ranked, _objects(results), times.astype(float))
        np.testing.assert_allclose(ours, [*expected.ap, expected.mean_ap], rtol=1e-12)


def test_a_run_against_itself_and_against_a_worse_one():
    rng = np.random.default_rng(2)
    results = random_results(rng, images=40, classes=2)
    settings = {"inclusive_pixels": False, "threshold_inclusive": False, "samples": 100, "seed": 0}
    same = compare(results, results, **settings)
    np.testing.assert_array_equal(same.interval, 0)
    nothing = [
        dataclasses.replace(
            found, boxes=found.boxes[:0], scores=found.scores[:0], labels=found.labels[:0]
        )
        for found in results.detections
    ]
    worse = compare(results, dataclasses.replace(results, detections=nothing), **settings)
    np.testing.assert_array_equal(worse.ap[1], 0)
    assert np.all(worse.interval[0] < -worse.ap[0] + 0.2)
    assert np.all(worse.interval[1] < 0)


def test_hits_are_decided_as_in_the_evaluation(tmp_path):
    half = split_results([detected(((0, 0, 10, 5), 0.9, 1))], [objects(((0, 0, 10, 10), 1))], "a")
    scores = score(half, ["voc"], inclusive_pixels=False, threshold_inclusive=True)
    dataset, _ = turned_split(tmp_path / "data")
    evaluation = Evaluation(dataset, half, [0], None, scores, "voc")
    decided = {"inclusive_pixels": False, "threshold_inclusive": True}
    figures = metrics(evaluation, 0, **decided, changes={})
    write_files(tmp_path, {**result_files(half), "metrics.json": json.dumps(figures)})
    run, settings = read_run(tmp_path)
    assert settings == decided
    difference = compare(run, run, **settings, samples=2, seed=0)
    np.testing.assert_array_equal(difference.ap, 1)  # an IoU of just .5 was a hit


def test_runs_on_other_splits_are_refused():
    first = random_results(np.random.default_rng(0), images=4)
    with pytest.raises(ValueError, match="other images: 4 and 5"):
        check_same_split(first, random_results(np.random.default_rng(0), images=5))
    easy = [dataclasses.replace(t, difficult=~t.difficult) for t in first.ground_truth]
    with pytest.raises(ValueError, match=r"other objects, as in image 00\d\.jpg"):
        check_same_split(first, dataclasses.replace(first, ground_truth=easy))
    with pytest.raises(ValueError, match=r"other objects, as in image 00\d\.jpg"):
        check_same_split(first, random_results(np.random.default_rng(1), images=4))
