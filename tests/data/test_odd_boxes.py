import logging

import hypothesis
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from ssd_jax.data.odd_boxes import OddBoxes

coordinates = st_np.arrays(np.float64, (5, 4), elements=st.integers(-20, 120).map(float))


@hypothesis.given(coordinates)
@hypothesis.settings(deadline=None, max_examples=60)
def test_boxes_are_cut_to_the_image_and_lose_those_of_no_area(boxes):
    height, width = 50, 100
    relative, kept = OddBoxes().relative(boxes, (height, width), "a.xml")
    for box, mended, is_kept in zip(boxes, relative, kept, strict=True):
        xmin, xmax = (min(max(x, 0), width) for x in (box[0], box[2]))
        ymin, ymax = (min(max(y, 0), height) for y in (box[1], box[3]))
        assert is_kept == (xmax > xmin and ymax > ymin)
        expected = [xmin / width, ymin / height, xmax / width, ymax / height]
        np.testing.assert_allclose(mended, expected, atol=1e-7)
        assert mended.dtype == np.float32 and 0 <= mended.min() and mended.max() <= 1


def report(caplog, odd: OddBoxes) -> list[str]:
    with caplog.at_level(logging.WARNING):
        odd.report("set")
    return [record.getMessage() for record in caplog.records]


def test_one_warning_counts_and_names(caplog):
    odd = OddBoxes()
    good, outside, flat = [1, 1, 5, 5], [-1, 0, 5, 5], [3, 1, 3, 5]
    for name, boxes in (("a", [good]), ("b", [outside, flat, outside]), ("c", [flat])):
        odd.relative(np.array(boxes, np.float64), (10, 10), name)
    assert report(caplog, odd) == [
        "set: clipped 2 boxes (b) outside of the image; dropped 2 boxes (b, c) of no size"
    ]


def test_a_box_wholly_outside_is_dropped_not_clipped(caplog):
    odd = OddBoxes()
    _, kept = odd.relative(np.array([[12.0, 2, 15, 5]]), (10, 10), "a")
    assert not kept.any()
    assert report(caplog, odd) == ["set: dropped 1 box (a) of no size"]


def test_few_of_many_files_are_named(caplog):
    odd = OddBoxes()
    for name in "abcde":
        odd.relative(np.array([[3.0, 1, 3, 5]]), (10, 10), name)
    assert report(caplog, odd) == ["set: dropped 5 boxes (a, b, c, ...) of no size"]


def test_nothing_odd_says_nothing(caplog):
    odd = OddBoxes()
    odd.relative(np.array([[0.0, 0, 10, 10]]), (10, 10), "a")
    odd.relative(np.zeros((0, 4)), (10, 10), "b")
    assert report(caplog, odd) == []
