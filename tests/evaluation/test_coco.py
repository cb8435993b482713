"""COCO's figures against pycocotools."""

import contextlib
import copy
import dataclasses
import io
import json
import math

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ssd_jax.evaluation.coco import FIGURES, coco_ap, to_instances, to_results
from tests.evaluation.make import detected, objects, random_results, split_results


def pycocotools_figures(instances, found):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(instances)
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(copy.deepcopy(found)), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run


@pytest.mark.parametrize("seed", range(6))
def test_the_twelve_figures_are_those_of_pycocotools(seed):
    rng = np.random.default_rng(seed)
    results = random_results(rng, images=40, classes=4, crowds=0.15, difficult=0.1)
    ours = coco_ap(results)
    run = pycocotools_figures(to_instances(results), to_results(results))
    np.testing.assert_allclose([ours.figures[name] for name in FIGURES], run.stats, atol=1e-9)
    assert len(set(np.round(run.stats, 6))) > 8  # crowds and sizes make them all differ
    precision = run.eval["precision"][..., -1]  # [IoU, recall, class, area]
    for k in range(4):
        assert ours.ap[k] == pytest.approx(precision[:, :, k, 0].mean(), abs=1e-9)
        for area, size in enumerate(("small", "medium", "large"), start=1):
            of_class = precision[:, :, k, area]
            expected = of_class[of_class > -1].mean() if (of_class > -1).any() else math.nan
            np.testing.assert_allclose(ours.ap_by_size[size][k], expected, atol=1e-9)


def test_area_is_the_annotations_and_not_the_boxs():
    # A box of 40 x 40 pixels whose object covers 400 of them is small.
    truth = objects(([0, 0, 40, 40], 1))
    truth = type(truth)(**{**vars(truth), "area": np.array([400.0])})
    result = coco_ap(split_results([detected(([0, 0, 40, 40], 0.9, 1))], [truth], ["one"]))
    assert result.figures["AP_small"] == pytest.approx(1)
    assert math.isnan(result.figures["AP_medium"])


def test_what_is_found_in_a_crowd_or_on_a_difficult_object_counts_for_nothing():
    truth = objects(
        ([0, 0, 50, 50], 1), ([60, 0, 90, 30], 1, True), ([0, 60, 90, 90], 1), crowd=[2]
    )
    found = detected(
        ([0, 0, 50, 50], 0.5, 1),
        ([60, 0, 90, 30], 0.9, 1),
        ([0, 60, 20, 80], 0.8, 1),
        ([30, 60, 50, 80], 0.7, 1),
    )
    assert coco_ap(split_results([found], [truth], ["one"])).figures["AP"] == pytest.approx(1)


def test_category_ids_in_any_order_keep_their_classes():
    truth = [objects(([0, 0, 50, 50], 1), ([60, 60, 90, 90], 2))]
    found = [detected(([0, 0, 50, 50], 0.9, 1))]
    result = coco_ap(split_results(found, truth, ["one", "two"], category_ids=(90, 5)))
    np.testing.assert_allclose(result.ap, [1, 0])


def test_ids_that_doubles_do_not_tell_apart():
    results = random_results(np.random.default_rng(0), images=40, classes=4)
    large = dataclasses.replace(
        results,
        image_ids=[2**53 + number for number in results.image_ids],
        category_ids=tuple(2**62 + number for number in results.category_ids),
    )
    expected = pycocotools_figures(to_instances(large), to_results(large))
    ours = coco_ap(large)
    np.testing.assert_allclose([ours.figures[name] for name in FIGURES], expected.stats, atol=1e-9)


def test_nothing_found_is_zero_and_nothing_there_is_unknown():
    nothing = coco_ap(split_results([detected()], [objects(([0, 0, 9, 9], 1))], ["one"]))
    assert nothing.figures["AP"] == 0
    empty = coco_ap(split_results([detected(([0, 0, 9, 9], 0.5, 1))], [objects()], ["one"]))
    assert all(math.isnan(value) for value in empty.figures.values())


def test_the_formats_are_cocos():
    results = split_results(
        [detected(([1.5, 2, 4, 8], 0.25, 2))],
        [objects(([0, 0, 10.25, 20], 1), ([5, 5, 6, 6], 2, True))],
        ["one", "two"],
        category_ids=(7, 9),
    )
    assert json.loads(json.dumps(to_results(results))) == [
        {"image_id": 10, "category_id": 9, "bbox": [1.5, 2, 2.5, 6], "score": 0.25}
    ]
    instances = json.loads(json.dumps(to_instances(results)))
    assert instances["categories"] == [{"id": 7, "name": "one"}, {"id": 9, "name": "two"}]
    assert instances["images"] == [{"id": 10, "file_name": "000.jpg", "height": 100, "width": 100}]
    first, second = instances["annotations"]
    assert first["bbox"] == [0, 0, 10.25, 20]
    assert (first["area"], first["iscrowd"], first["difficult"]) == (205, 0, 0)
    assert (second["iscrowd"], second["difficult"]) == (1, 1)
