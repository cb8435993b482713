"""Detections as JSON and CSV, written as they come: what was found before a break is there."""

import csv
import json
from pathlib import Path
from types import TracebackType
from typing import TextIO

from ssd_jax.detector import Result

COLUMNS = ("file", "frame", "seconds", "class", "score", "xmin", "ymin", "xmax", "ymax")


class Records:
    """Writes detections.json and detections.csv of a folder. To be used with `with`.

    The JSON has an entry for each image or frame, also for those where nothing was found; the CSV
    has a line a detection.

    Attributes:
      images: images and frames so far.
      objects: detections so far.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.images = 0
        self.objects = 0
        self._json = _text_file(folder / "detections.json")
        self._csv = _text_file(folder / "detections.csv")
        self._rows = csv.writer(self._csv)

    def __enter__(self) -> "Records":
        self._json.write('{"boxes": "xmin, ymin, xmax, ymax in pixels", "images": [')
        self._rows.writerow(COLUMNS)
        return self

    def add(
        self, file: str, result: Result, frame: int | None = None, seconds: float | None = None
    ) -> None:
        """Writes what was found on a picture, or on a frame of a video (its number and time)."""
        boxes = [[round(float(edge), 2) for edge in box] for box in result.boxes]
        scores = [round(float(score), 5) for score in result.scores]
        found = list(zip(boxes, result.names, scores, strict=True))
        height, width = result.image_size
        place = {} if frame is None else {"frame": frame, "seconds": round(seconds or 0, 4)}
        entry = {
            "file": file,
            **place,
            "height": height,
            "width": width,
            "detections": [
                {"box": box, "class": name, "score": score} for box, name, score in found
            ],
        }
        text = json.dumps(entry, ensure_ascii=False)
        self._json.write((",\n" if self.images else "\n") + text)  # one call, for Ctrl-C
        self._rows.writerows(
            [file, *(place.values() or ("", "")), name, score, *box] for box, name, score in found
        )
        self.images += 1
        self.objects += len(found)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._json.write("\n]}\n")
        self._json.close()
        self._csv.close()


def _text_file(path: Path) -> TextIO:
    """Opens it; of a file's name what is no UTF-8 is escaped, as JSON reads it back."""
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
