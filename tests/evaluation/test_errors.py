"""TIDE's kinds of errors and their costs, by hand and against the literal definitions."""

import numpy as np
import pytest

from ssd_jax.evaluation.errors import KINDS, NO_ERROR, classify_errors
from ssd_jax.evaluation.voc import rank_detections
from tests.evaluation.make import detected, objects, random_results, split_results
from tests.reference import tide


def errors_of(results, threshold_inclusive=False):
    ranked = rank_detections(
        results.detections,
        results.ground_truth,
        num_classes=results.num_classes,
        inclusive_pixels=False,
        threshold_inclusive=threshold_inclusive,
    )
    errors = classify_errors(
        results, ranked, inclusive_pixels=False, threshold_inclusive=threshold_inclusive
    )
    return ranked, errors


def of_one(found, truth, **verdict):
    """The kind of the worst scored detection, what is missed, and the costs by name."""
    results = split_results([detected(*found)], [objects(*truth)], ["one", "two"])
    ranked, errors = errors_of(results, **verdict)
    kind = errors.kind[np.argmin(ranked.scores)]
    name = "hit" if kind == NO_ERROR else KINDS[kind]
    return name, errors.missed[0].tolist(), dict(zip(KINDS, errors.cost, strict=True))


THERE = [0, 0, 10, 10]


@pytest.mark.parametrize(
    ("box", "label", "kind", "missed"),
    [
        (THERE, 1, "hit", False),
        (THERE, 2, "class", False),
        ([0, 0, 10, 4], 1, "box", False),  # IoU .4
        ([0, 0, 10, 5], 1, "box", False),  # IoU .5 is no hit
        ([0, 0, 10, 4], 2, "both", True),
        ([0, 0, 10, 1], 1, "box", False),  # IoU .1
        ([0, 0, 10, 1], 2, "background", True),
        ([50, 50, 60, 60], 1, "background", True),
    ],
)
def test_each_kind_by_hand(box, label, kind, missed):
    assert of_one([(box, 0.9, label)], [(THERE, 1)])[:2] == (kind, [missed])


def test_an_iou_of_a_half_is_what_the_verdict_says():
    half = [0, 0, 10, 5]
    for found, inclusive, exclusive in (
        ([(half, 0.9, 1)], "hit", "box"),
        ([(THERE, 0.9, 1), (half, 0.5, 1)], "duplicate", "box"),
        ([(half, 0.9, 2)], "class", "class"),
    ):
        assert of_one(found, [(THERE, 1)], threshold_inclusive=True)[0] == inclusive
        assert of_one(found, [(THERE, 1)], threshold_inclusive=False)[0] == exclusive


def test_a_second_hit_is_a_duplicate():
    kind, missed, cost = of_one([(THERE, 0.9, 1), (THERE, 0.5, 1)], [(THERE, 1)])
    assert (kind, missed) == ("duplicate", [False])
    assert max(cost.values()) == 0  # it ranks below the hit


def test_costs_by_hand():
    far = [50, 50, 60, 60]
    # A stray detection above the only hit: without it, AP is 1 and not 1/2.
    *_, cost = of_one([(far, 0.9, 1), (THERE, 0.5, 1)], [(THERE, 1)])
    assert cost["background"] == pytest.approx(1 / 2)
    # The only detection has the wrong class: with the right one AP of class 1 is 1.
    *_, cost = of_one([(THERE, 0.9, 2)], [(THERE, 1)])
    assert cost["class"] == pytest.approx(1)
    # One of two objects is missed.
    *_, cost = of_one([(THERE, 0.9, 1)], [(THERE, 1), (far, 1)])
    assert cost["missed"] == pytest.approx(1 / 2)
    # A poor box on an object that is found: mended it is a duplicate, so it is dropped.
    *_, cost = of_one([([0, 0, 10, 4], 0.9, 1), (THERE, 0.5, 1)], [(THERE, 1)])
    assert cost["box"] == pytest.approx(1 / 2)


@pytest.mark.parametrize("threshold_inclusive", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_random_sets_equal_the_literal_definitions(seed, threshold_inclusive):
    rng = np.random.default_rng(seed)
    results = random_results(rng, images=30, classes=3, difficult=0.15, crowds=0.05)
    ranked, errors = errors_of(results, threshold_inclusive)
    rows = [
        {
            "image": int(ranked.images[n]),
            "score": ranked.scores[n],
            "label": int(ranked.labels[n]),
            "box": results.detections[ranked.images[n]].boxes[ranked.rows[n]].tolist(),
        }
        for n in np.lexsort((ranked.rows, ranked.images))
    ]
    truth = [
        [
            {"label": int(label), "box": box, "ignored": bool(ignored)}
            for box, label, ignored in zip(
                image.boxes.tolist(), image.labels, image.ignored, strict=True
            )
        ]
        for image in results.ground_truth
    ]
    kinds, missed, costs = tide.analyse(rows, truth, (1, 2, 3), threshold_inclusive)
    ours = errors.kind[np.lexsort((ranked.rows, ranked.images))]
    expected = [KINDS.index(k) if k in KINDS else NO_ERROR for k in kinds]
    np.testing.assert_array_equal(ours, expected)
    assert set(ours) >= {0, 1, 4, NO_ERROR}
    assert {
        (image, int(j)) for image, m in enumerate(errors.missed) for j in np.flatnonzero(m)
    } == missed
    np.testing.assert_allclose(errors.cost, [costs[kind] for kind in KINDS], atol=1e-12)
    assert errors.count[:5].sum() == sum(k in KINDS for k in kinds)
    assert errors.count[5].sum() == len(missed)
