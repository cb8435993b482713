"""An engine whose detections anyone can check: it finds the red and the green rectangle."""

import threading
import time

import cv2
import numpy as np

from ssd_jax.detection import Detections
from ssd_jax.detector import Detector

CLASS_NAMES = ("red", "green")


class ColorEngine:
    """Finds the bounding box of all that is red (score .9) and of all that is green (.6).

    Attributes:
      batches: the batch size of each call.
    """

    def __init__(self, canvas: int = 64, seconds: float = 0.0):
        self.canvas = canvas
        self.class_names = CLASS_NAMES
        self.batches: list[int] = []
        self._seconds = seconds
        self._lock = threading.Lock()

    def __call__(self, canvases, sizes):
        with self._lock:
            self.batches.append(len(canvases))
        time.sleep(self._seconds)
        boxes = np.zeros((len(canvases), 2, 4), np.float32)
        labels = np.zeros((len(canvases), 2), np.int32)
        for row, (canvas, (height, width)) in enumerate(zip(canvases, sizes, strict=True)):
            for channel in (0, 1):
                others = np.delete(canvas, channel, axis=2).max(axis=2)
                y, x = np.nonzero((canvas[..., channel] > 150) & (others < 100))
                if len(x):
                    edges = [x.min(), y.min(), x.max() + 1, y.max() + 1]
                    boxes[row, channel] = np.array(edges) / [width, height, width, height]
                    labels[row, channel] = channel + 1
        scores = np.where(labels > 0, np.array([[0.9, 0.6]]), 0).astype(np.float32)
        return Detections(boxes, scores, labels)


def color_detector(batch_size: int = 4, **fields) -> Detector:
    return Detector(ColorEngine(**fields), batch_size=batch_size)


def picture(red=None, green=None, *, height: int = 48, width: int = 64) -> np.ndarray:
    """A grey picture with rectangles (xmin, ymin, xmax, ymax)."""
    image = np.full((height, width, 3), 40, np.uint8)
    for box, color in ((red, (255, 0, 0)), (green, (0, 255, 0))):
        if box is not None:
            image[box[1] : box[3], box[0] : box[2]] = color
    return image


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1]))
    return path
