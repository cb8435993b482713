import math

import numpy as np
import pytest

from ssd_jax.evaluation.results import ImageDetections, ImageGroundTruth
from ssd_jax.evaluation.voc import voc_ap
from tests.evaluation.make import detected, objects
from tests.reference import voc as reference


def box(n):
    """Boxes that do not touch each other."""
    return [20 * n, 0, 20 * n + 9, 9]


def both_averages(detections, ground_truth, num_classes=2):
    return tuple(
        voc_ap(detections, ground_truth, num_classes=num_classes, eleven_point=eleven_point).ap
        for eleven_point in (False, True)
    )


def test_average_precision_by_hand():
    # Three objects; ranked: hit, miss, hit. Recall 1/3, 1/3, 2/3 with precision 1, 1/2, 2/3.
    # Area 1/3 * 1 + 1/3 * 2/3. Eleven points: recall 0, .1, .2, .3 -> 1; .4, .5, .6 -> 2/3; then 0.
    ground_truth = [objects((box(0), 1), (box(1), 1)), objects((box(0), 1))]
    detections = [
        detected((box(0), 0.9, 1), (box(5), 0.8, 1)),
        detected((box(0), 0.7, 1)),
    ]
    area, eleven_point = both_averages(detections, ground_truth)
    np.testing.assert_allclose(area, [5 / 9], rtol=1e-12)
    np.testing.assert_allclose(eleven_point, [6 / 11], rtol=1e-12)


def test_perfect_detections_have_average_precision_one():
    ground_truth = [objects((box(0), 1), (box(1), 2)), objects((box(3), 2))]
    detections = [detected((box(1), 0.2, 2), (box(0), 0.3, 1)), detected((box(3), 0.1, 2))]
    area, eleven_point = both_averages(detections, ground_truth, num_classes=3)
    np.testing.assert_allclose(area, [1, 1])
    np.testing.assert_allclose(eleven_point, [1, 1])


def test_a_precision_that_rises_later_is_carried_back():
    # Miss, hit, hit of two objects: precision 0, 1/2, 2/3, so 2/3 everywhere under the envelope.
    ground_truth = [objects((box(0), 1), (box(1), 1))]
    detections = [detected((box(5), 0.9, 1), (box(0), 0.8, 1), (box(1), 0.7, 1))]
    area, eleven_point = both_averages(detections, ground_truth)
    np.testing.assert_allclose([area, eleven_point], [[2 / 3], [2 / 3]], rtol=1e-12)


def test_three_of_ten_objects_reach_a_recall_of_three_tenths():
    ground_truth = [objects(*((box(n), 1) for n in range(10)))]
    detections = [detected(*((box(n), 0.9, 1) for n in range(3)))]
    area, eleven_point = both_averages(detections, ground_truth)
    np.testing.assert_allclose(area, [0.3], rtol=1e-12)
    np.testing.assert_allclose(eleven_point, [4 / 11], rtol=1e-12)


def test_a_second_hit_on_an_object_is_a_false_positive():
    # Hit, duplicate, hit of two objects: 1/2 * 1 + 1/2 * 2/3.
    ground_truth = [objects((box(0), 1), (box(1), 1))]
    detections = [detected((box(0), 0.9, 1), (box(0), 0.8, 1), (box(1), 0.7, 1))]
    area, _ = both_averages(detections, ground_truth)
    np.testing.assert_allclose(area, [5 / 6], rtol=1e-12)


def test_the_nearest_object_is_asked_even_if_another_is_free():
    # Both detections lie nearest to the first object and overlap the second, too, by more than
    # half: the second detection is a false positive all the same.
    ground_truth = [objects(([0, 0, 9, 9], 1), ([2, 0, 11, 9], 1))]
    detections = [detected(([0, 0, 9, 9], 0.9, 1), ([0, 0, 9, 8], 0.8, 1))]
    area, _ = both_averages(detections, ground_truth)
    np.testing.assert_allclose(area, [1 / 2], rtol=1e-12)


def test_difficult_objects_count_for_nothing_either_way():
    # Found twice, the difficult one is neither hit nor miss nor an object to find.
    ground_truth = [objects((box(0), 1, True), (box(1), 1), (box(2), 1, True))]
    detections = [detected((box(0), 0.9, 1), (box(0), 0.8, 1), (box(1), 0.7, 1))]
    result = voc_ap(detections, ground_truth, num_classes=2)
    np.testing.assert_allclose(result.ap, [1])
    np.testing.assert_array_equal(result.num_ground_truth, [1])
    np.testing.assert_array_equal(result.num_detections, [3])


def test_classes_without_objects_are_nan_and_left_out_of_the_mean():
    # Class 1 is found, class 2 missed, class 3 only difficult, class 4 absent but detected.
    ground_truth = [objects((box(0), 1), (box(1), 2), (box(2), 3, True))]
    detections = [detected((box(0), 0.9, 1), (box(2), 0.5, 3), (box(4), 0.5, 4))]
    result = voc_ap(detections, ground_truth, num_classes=5)
    np.testing.assert_array_equal(result.ap, [1, 0, math.nan, math.nan])
    assert result.mean_ap == 0.5
    np.testing.assert_array_equal(result.num_ground_truth, [1, 1, 0, 0])
    np.testing.assert_array_equal(result.num_detections, [1, 0, 1, 1])


def test_objects_of_another_class_or_image_are_no_hits():
    ground_truth = [objects((box(0), 1)), objects((box(1), 2))]
    detections = [detected((box(0), 0.9, 2)), detected((box(0), 0.8, 1))]
    np.testing.assert_array_equal(voc_ap(detections, ground_truth, num_classes=3).ap, [0, 0])


def test_score_ties_rank_by_image_and_then_by_detection():
    # One object, in the second image. Its hit ranks second or third of the equal scores.
    ground_truth = [objects(), objects((box(0), 1))]
    first = detected((box(1), 0.5, 1))
    hit, miss = (box(0), 0.5, 1), (box(1), 0.5, 1)
    ap = [
        voc_ap([first, detected(*second)], ground_truth, num_classes=2).ap[0]
        for second in ((hit, miss), (miss, hit))
    ]
    np.testing.assert_allclose(ap, [1 / 2, 1 / 3], rtol=1e-12)


@pytest.mark.parametrize("eleven_point", [False, True])
def test_nothing_detected_and_nothing_there(eleven_point):
    nothing = voc_ap(
        [detected(), detected()],
        [objects((box(0), 1)), objects()],
        num_classes=3,
        eleven_point=eleven_point,
    )
    np.testing.assert_array_equal(nothing.ap, [0, math.nan])
    assert nothing.mean_ap == 0
    for images in (0, 2):
        empty = voc_ap(
            [detected()] * images, [objects()] * images, num_classes=3, eleven_point=eleven_point
        )
        np.testing.assert_array_equal(empty.ap, [math.nan, math.nan])
        assert math.isnan(empty.mean_ap)
        np.testing.assert_array_equal(empty.num_ground_truth, [0, 0])


def test_inclusive_pixels_are_one_wider():
    # 2 x 2 of 2 x 3 pixels: IoU 2/3. Without the last pixel 1 x 1 of 1 x 2: IoU 1/2.
    ground_truth = [objects(([0, 0, 1, 2], 1))]
    detections = [detected(([0, 0, 1, 1], 0.9, 1))]
    assert voc_ap(detections, ground_truth, num_classes=2).mean_ap == 1
    continuous = {"num_classes": 2, "inclusive_pixels": False}
    assert voc_ap(detections, ground_truth, **continuous, threshold_inclusive=False).mean_ap == 0
    assert voc_ap(detections, ground_truth, **continuous).mean_ap == 1  # .5 reaches .5
    assert voc_ap(detections, ground_truth, **continuous, iou_threshold=0.49).mean_ap == 1


NUM_SETS = 250
NUM_IMAGES = 4


def random_sets(rng):
    """Many single-class data sets at once: each of the NUM_SETS classes is one.

    Whole coordinates on a small grid and few scores, so that IoUs and scores tie, thresholds are
    met exactly, and objects are found twice.
    """

    def boxes(count):
        corners = rng.integers(0, 6, (count, 2))
        return np.concatenate([corners, corners + rng.integers(0, 5, (count, 2))], axis=-1)

    detections, ground_truth = [], []
    for _ in range(NUM_IMAGES):
        labels = np.repeat(np.arange(1, NUM_SETS + 1), rng.integers(0, 5, NUM_SETS))
        rng.shuffle(labels)
        ground_truth.append(
            ImageGroundTruth(
                boxes=boxes(len(labels)).astype(np.float32),
                labels=labels,
                difficult=rng.random(len(labels)) < 0.25,
                crowd=np.zeros(len(labels), bool),
                area=np.zeros(len(labels)),
            )
        )
        labels = np.repeat(np.arange(1, NUM_SETS + 1), rng.integers(0, 7, NUM_SETS))
        rng.shuffle(labels)
        scores = rng.choice([0.1, 0.3, 0.5, 0.7, 0.9], len(labels))
        detections.append(
            ImageDetections(
                boxes(len(labels)).astype(np.float32), scores.astype(np.float32), labels
            )
        )
    return detections, ground_truth


@pytest.mark.parametrize("threshold_inclusive", [False, True])
@pytest.mark.parametrize("inclusive_pixels", [False, True])
@pytest.mark.parametrize("eleven_point", [False, True])
def test_random_sets_equal_the_devkits_rules(eleven_point, inclusive_pixels, threshold_inclusive):
    rng = np.random.default_rng(0)
    for iou_threshold in (0.5, 0.25):
        options = {
            "eleven_point": eleven_point,
            "inclusive_pixels": inclusive_pixels,
            "threshold_inclusive": threshold_inclusive,
        }
        detections, ground_truth = random_sets(rng)
        result = voc_ap(
            detections,
            ground_truth,
            num_classes=NUM_SETS + 1,
            iou_threshold=iou_threshold,
            **options,
        )
        expected = [
            reference.evaluate_class(
                *of_class(detections, ground_truth, label), threshold=iou_threshold, **options
            )
            for label in range(1, NUM_SETS + 1)
        ]
        np.testing.assert_allclose(result.ap, expected, rtol=1e-12, atol=1e-15)
        assert 0 < np.isnan(expected).sum() < NUM_SETS
        assert result.mean_ap == pytest.approx(np.nanmean(expected))


def of_class(detections, ground_truth, label):
    """The data set of one class in the form of the reference."""
    return (
        [
            (image, found.scores[i], found.boxes[i].astype(float).tolist())
            for image, found in enumerate(detections)
            for i in np.flatnonzero(found.labels == label)
        ],
        [
            [
                (there.boxes[i].astype(float).tolist(), bool(there.difficult[i]))
                for i in np.flatnonzero(there.labels == label)
            ]
            for there in ground_truth
        ],
    )


def test_input_that_does_not_fit_is_an_error():
    with pytest.raises(ValueError, match="2 images with detections, 1 with ground truth"):
        voc_ap([detected(), detected()], [objects()], num_classes=2)
    with pytest.raises(ValueError, match=r"detections of image 1: label 2 is outside 1\.\.1"):
        voc_ap([detected(), detected((box(0), 0.5, 2))], [objects()] * 2, num_classes=2)
    with pytest.raises(ValueError, match="ground truth of image 0: label 0 is outside"):
        voc_ap([detected()], [objects((box(0), 0))], num_classes=2)
    with pytest.raises(ValueError, match="a score in image 1 is NaN"):
        voc_ap([detected(), detected((box(0), math.nan, 1))], [objects()] * 2, num_classes=2)


def test_rows_that_do_not_go_together_are_an_error():
    # The type checker of the tests is the first to notice.
    boxes = np.zeros((2, 4), np.float32)
    with pytest.raises((ValueError, TypeError), match="scores"):
        ImageDetections(boxes, np.zeros(3, np.float32), np.ones(2, np.int32))
    with pytest.raises((ValueError, TypeError), match="difficult"):
        ImageGroundTruth(
            boxes, np.ones(2, np.int32), np.zeros(1, bool), np.zeros(2, bool), np.zeros(2)
        )
