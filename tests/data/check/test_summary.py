import numpy as np

from ssd_jax.data.check.summary import (
    bucket_counts,
    bucket_names,
    class_counts,
    fit_priors,
    forebodings,
)
from ssd_jax.data.objects import Objects
from ssd_jax.priors import VOC300


def squares(sides, labels, crowd=None) -> Objects:
    """One image with squares in its middle, sides relative to it."""
    sides = np.array(sides, np.float32)
    low, high = 0.5 - sides / 2, 0.5 + sides / 2
    return Objects(
        starts=np.array([0, len(sides)]),
        boxes=np.stack([low, low, high, high], axis=1),
        labels=np.array(labels, np.int32),
        difficult=np.zeros(len(sides), np.bool_),
        crowd=np.zeros(len(sides), np.bool_) if crowd is None else np.array(crowd, np.bool_),
        area=(100 * sides) ** 2,
    )


def test_counts_leave_crowds_out():
    objects = squares([0.04, 0.06, 0.3, 0.9, 0.9], [1, 3, 3, 1, 1], [0, 0, 0, 0, 1])
    assert class_counts(objects, 3).tolist() == [2, 0, 2]
    assert bucket_counts(objects).tolist() == [1, 1, 0, 1, 1]
    assert objects.count(~objects.crowd).tolist() == [4]


def test_buckets_are_in_pixels_of_the_input():
    assert bucket_names(VOC300) == ["<15", "15-30", "30-60", "60-120", ">120"]


def test_recall_by_class_and_bucket():
    # Of 300 pixels: 12 in the smallest prior, 30, is IoU .16; 99 and 270 have priors near by.
    fit = fit_priors(squares([0.04, 0.33, 0.33, 0.9], [1, 1, 2, 2]), 3, VOC300)
    np.testing.assert_array_equal(
        fit.counts,
        [[1, 0, 0, 1, 0, 2], [0, 0, 0, 1, 1, 2], [0, 0, 0, 0, 0, 0], [1, 0, 0, 2, 1, 4]],
    )
    nan = np.nan
    np.testing.assert_array_equal(
        fit.recall,
        [
            [0, nan, nan, 1, nan, 0.5],
            [nan, nan, nan, 1, 1, 1],
            [nan, nan, nan, nan, nan, nan],
            [0, nan, nan, 1, 1, 0.75],
        ],
    )
    assert fit.overall == 0.75 and fit.is_poor


def test_a_class_without_reach_makes_a_fit_poor():
    good, bad = [0.33] * 300, [0.04] * 20
    assert fit_priors(squares(good + bad, [1] * 300 + [2] * 20), 2, VOC300).is_poor
    assert not fit_priors(squares(good + bad[:19], [1] * 300 + [2] * 19), 2, VOC300).is_poor


def test_what_bodes_ill_is_said():
    train, evaluated = squares([0.33] * 30, [1] * 30), squares([0.33], [2])
    assert forebodings(train, evaluated, ("cat", "Cat "), VOC300) == [
        "no object to train on of Cat ",
        "no object to evaluate of cat",
        "classes that may be one: 'cat', 'Cat '",
    ]
    (line,) = forebodings(squares([0.04] * 30, [1] * 30), train, ("cat",), VOC300)
    assert line.startswith("the priors fit poorly, an IoU of .5 with 0% of the objects, 0% of cat")
    assert "python -m ssd_jax.data.check" in line
    assert forebodings(train, train, ("cat",), VOC300) == []
