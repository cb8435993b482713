"""Videos and webcams as frames with their times, and frames back to a video."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

USUAL_RATE = 30.0
"""Frames a second where the source does not say it."""


class Frame(NamedTuple):
    """A frame of a video.

    Attributes:
      picture: RGB.
      number: counted from 0.
      seconds: when it is shown, from the start.
    """

    picture: UInt8[np.ndarray, "H W 3"]
    number: int
    seconds: float


class VideoReader:
    """The frames of a video file, or of a webcam until it is enough. To be used with `with`.

    Args:
      source: a file, or the number of a webcam.
      seconds: how long to look through a webcam; None is until it ends.

    Attributes:
      rate: frames a second.
      count: frames as the file states it; None of a webcam, or where it does not say it.

    Raises:
      OSError: there is no such webcam, or the file is no video that can be decoded.
    """

    def __init__(self, source: Path | int, seconds: float | None = None):
        self._is_live = isinstance(source, int)
        self._seconds = seconds
        if isinstance(source, Path) and not source.is_file():
            raise FileNotFoundError(f"no such file: {source}")
        self._capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
        if not self._capture.isOpened():
            kind = "webcam" if self._is_live else "video"
            raise OSError(f"{kind} {source} cannot be opened")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate < 1000 else USUAL_RATE
        count = round(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.count = count if count > 0 and not self._is_live else None

    def __enter__(self) -> "VideoReader":
        return self

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames; a webcam's have the time at which they came."""
        started, number = time.monotonic(), 0
        while True:
            is_read, picture = self._capture.read()
            seconds = time.monotonic() - started if self._is_live else number / self.rate
            if not is_read or (self._seconds is not None and seconds >= self._seconds):
                return
            yield Frame(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), number, seconds)
            number += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._capture.release()


class VideoWriter:
    """Writes a .mp4 of a constant frame rate. To be used with `with`.

    Args:
      path: the file; its folder is made if need be.
      rate: frames a second.
    """

    def __init__(self, path: Path, rate: float):
        self._path, self._rate = path, rate
        self._writer: cv2.VideoWriter | None = None
        self._written = 0

    def __enter__(self) -> "VideoWriter":
        return self

    def write(self, frame: Frame) -> None:
        """Shows a frame from its time on; the one before it is shown until then.

        So a webcam whose frames come late, or not evenly, is seen as fast as it was.

        Raises:
          OSError: the file cannot be written.
        """
        picture = cv2.cvtColor(frame.picture, cv2.COLOR_RGB2BGR)
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            size = (picture.shape[1], picture.shape[0])
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._path), code, self._rate, size)
            if not self._writer.isOpened():
                raise OSError(f"{self._path} cannot be written as a video")
            self._last = picture
        index = round(frame.seconds * self._rate)
        for _ in range(self._written, index):
            self._writer.write(self._last)
        if self._written <= index:
            self._writer.write(picture)
        self._written, self._last = max(self._written, index + 1), picture

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.release()
