"""Times VOC AP on a data set of the size of VOC2007's test split, on one core.

    python benchmarks/voc_metrics.py

20 classes, 5000 images, 200 detections each, 2.5 objects each. The target is 2 seconds.
"""

import os
import time

import numpy as np

from ssd_jax.evaluation.results import ImageDetections, ImageGroundTruth
from ssd_jax.evaluation.voc import voc_ap

CLASSES, IMAGES, DETECTIONS = 20, 5000, 200


def make_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Boxes of 10 to 200 pixels in an image of 500."""
    low = rng.uniform(0, 300, (count, 2))
    return np.concatenate([low, low + rng.uniform(10, 200, (count, 2))], axis=1).astype(np.float32)


def main() -> None:
    """Makes the data, times five passes of each average, prints the best."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rng = np.random.default_rng(0)
    detections, ground_truth = [], []
    for _ in range(IMAGES):
        objects = int(rng.integers(1, 5))
        ground_truth.append(
            ImageGroundTruth(
                boxes=make_boxes(rng, objects),
                labels=rng.integers(1, CLASSES + 1, objects),
                difficult=rng.random(objects) < 0.1,
                crowd=np.zeros(objects, bool),
                area=np.zeros(objects),
            )
        )
        detections.append(
            ImageDetections(
                boxes=make_boxes(rng, DETECTIONS),
                scores=rng.random(DETECTIONS).astype(np.float32),
                labels=rng.integers(1, CLASSES + 1, DETECTIONS),
            )
        )
    for eleven_point in (True, False):
        seconds = []
        for _ in range(5):
            started = time.perf_counter()
            voc_ap(detections, ground_truth, num_classes=CLASSES + 1, eleven_point=eleven_point)
            seconds.append(time.perf_counter() - started)
        print(f"{'11 points' if eleven_point else 'area':9}  {min(seconds):.2f} s")


if __name__ == "__main__":
    main()
