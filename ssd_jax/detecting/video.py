"""Videos and webcams as frames with their times, and frames back to a video."""

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

USUAL_RATE = 30.0
"""Frames a second where the source does not say it."""

LONGEST_PAUSE = 60.0
"""Seconds of a standing picture in a video that is written."""


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


def _opencv(path: Path) -> Any:
    """A path as OpenCV takes it: as text it crashes on one that is no UTF-8."""
    return os.fsencode(path)


class VideoReader:
    """The frames of a video file, or of a webcam until it is enough. To be used with `with`.

    Args:
      source: a file, or the number of a webcam.
      seconds: how long to look through a webcam; None is until it ends.

    Attributes:
      rate: frames a second; a file of a variable frame rate states some mean or nominal one.
      count: frames as the file states it, or as its duration and rate let expect; None of a webcam,
        or where it does not say it.
      duration: seconds as the file states it; None where `count` is.
      begins: seconds of these that lie before the first frame, known once that is read: of a part
        that was cut out of a longer file.

    Raises:
      OSError: there is no such webcam, or the file is no video that can be decoded.
    """

    def __init__(self, source: Path | int, seconds: float | None = None):
        self._is_live = isinstance(source, int)
        self._seconds = seconds
        if isinstance(source, Path) and not source.is_file():
            raise FileNotFoundError(f"no such file: {source}")
        self._capture = cv2.VideoCapture(source if isinstance(source, int) else _opencv(source))
        if not self._capture.isOpened():
            kind = "webcam" if self._is_live else "video"
            raise OSError(f"{kind} {source} cannot be opened")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate < 1000 else USUAL_RATE
        count = round(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.count = count if count > 0 and not self._is_live else None
        # By the rate as it is stated: where there is no count, OpenCV's is the duration times it.
        self.duration = (
            None if self.count is None else self.count / (rate if rate > 0 else self.rate)
        )

        self.begins = 0.0

    def __enter__(self) -> "VideoReader":
        return self

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames; a webcam's have the time at which they came."""
        started, number, seconds = time.monotonic(), 0, 0.0
        latest = math.inf if self.duration is None else self.duration + 1
        while True:
            is_read, picture = self._capture.read()
            if is_read and not number and not self._is_live:
                self.begins = max(0.0, self._capture.get(cv2.CAP_PROP_PTS) / self.rate)
            if self._is_live:
                seconds = time.monotonic() - started
            elif number:
                stated = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                # Not all formats state it, and where a recording jumps it may be of years to come.
                is_next = seconds < stated <= latest
                seconds = stated if is_next else seconds + 1 / self.rate
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
      rate: frames a second, below 1000.

    Attributes:
      left_out: frames that are not in it, for the next ones came before their turn.
    """

    def __init__(self, path: Path, rate: float):
        self._path = path
        # MPEG-4 has it as a fraction of numbers below 65536, OpenCV makes that of the decimals.
        self._rate = round(rate, 3 if rate < 65 else 2 if rate < 655 else 1)
        self._writer: cv2.VideoWriter | None = None
        self._written = 0
        self._cut = 0
        self._waits = False  # whether the last frame is not in it yet
        self.left_out = 0

    def __enter__(self) -> "VideoWriter":
        return self

    def write(self, frame: Frame) -> None:
        """Shows a frame from its time on; the one before it is shown until then.

        So a webcam whose frames come late, or not evenly, is seen as fast as it was. Of a pause of
        more than a minute a minute is left.

        Raises:
          OSError: the file cannot be written.
        """
        picture = cv2.cvtColor(frame.picture, cv2.COLOR_RGB2BGR)
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            size = (picture.shape[1], picture.shape[0])
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(_opencv(self._path), code, self._rate, size)
            if not self._writer.isOpened():
                raise OSError(f"{self._path} cannot be written as a video")
            self._last = picture
        index = round(frame.seconds * self._rate) - self._cut
        too_long = max(0, index - self._written - round(LONGEST_PAUSE * self._rate))
        self._cut, index = self._cut + too_long, index - too_long
        if self._waits and self._written >= index:
            self.left_out += 1
        for _ in range(self._written, index):
            self._writer.write(self._last)
        if self._written <= index:
            self._writer.write(picture)
        self._waits = index < self._written
        self._written, self._last = max(self._written, index + 1), picture

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.left_out += self._waits
        if self._writer is not None:
            self._writer.release()
