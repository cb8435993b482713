"""Times VOC's and COCO's averages on a data set of the size of VOC2007's test split, on one core.

    python benchmarks/voc_metrics.py [--quick]

20 classes, 5000 images, 200 detections each, 2.5 objects each.
"""

import os
import time
from collections.abc import Callable

import numpy as np
from common import Report, main
from workload import CLASS_NAMES

from ssd_jax.evaluation.coco import coco_ap
from ssd_jax.evaluation.results import ImageDetections, ImageGroundTruth, SplitResults
from ssd_jax.evaluation.voc import voc_ap

CLASSES, IMAGES, DETECTIONS = 20, 5000, 200
VOC_BAR = 2.0  # seconds


def make_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Boxes of 10 to 200 pixels in an image of 500."""
    low = rng.uniform(0, 300, (count, 2))
    return np.concatenate([low, low + rng.uniform(10, 200, (count, 2))], axis=1).astype(np.float32)


def make_results(images: int) -> SplitResults:
    """Objects and detections at random."""
    rng = np.random.default_rng(0)
    detections, ground_truth = [], []
    for _ in range(images):
        objects = int(rng.integers(1, 5))
        boxes = make_boxes(rng, objects)
        ground_truth.append(
            ImageGroundTruth(
                boxes=boxes,
                labels=rng.integers(1, CLASSES + 1, objects),
                difficult=rng.random(objects) < 0.1,
                crowd=np.zeros(objects, bool),
                area=np.prod(boxes[:, 2:] - boxes[:, :2], axis=1),
            )
        )
        detections.append(
            ImageDetections(
                boxes=make_boxes(rng, DETECTIONS),
                scores=rng.random(DETECTIONS).astype(np.float32),
                labels=rng.integers(1, CLASSES + 1, DETECTIONS),
            )
        )
    return SplitResults(
        dataset="random",
        split="test",
        class_names=CLASS_NAMES,
        category_ids=tuple(range(1, CLASSES + 1)),
        image_ids=list(range(1, images + 1)),
        image_names=[f"{number}.jpg" for number in range(1, images + 1)],
        image_sizes=[(500, 500)] * images,
        detections=detections,
        ground_truth=ground_truth,
    )


def fastest(call: Callable[[], object], times: int) -> float:
    """Seconds of the quickest of some calls."""
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def measure(report: Report, quick: bool) -> None:
    """Both averages of VOC, and COCO's."""
    images, times = (500, 2) if quick else (IMAGES, 5)
    results = make_results(images)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for name, eleven_point in (("VOC, 11 points", True), ("VOC, area", False)):
        seconds = fastest(
            lambda: voc_ap(
                results.detections,
                results.ground_truth,
                num_classes=CLASSES + 1,
                eleven_point=eleven_point,  # noqa: B023 (called at once)
            ),
            times,
        )
        report.add(f"{name}, {images} images", seconds, "s", at_most=None if quick else VOC_BAR)
    report.add(f"COCO, {images} images", fastest(lambda: coco_ap(results), 1), "s")


if __name__ == "__main__":
    main(__doc__, measure)
