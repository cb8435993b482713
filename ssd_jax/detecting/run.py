"""From sources to drawn pictures and videos, crops and records, each stage at work at once."""

import dataclasses
import errno
import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from ssd_jax.detecting.records import Records
from ssd_jax.detecting.sources import Source
from ssd_jax.detecting.video import Frame, VideoReader, VideoWriter
from ssd_jax.detector import PICTURE_FAULTS, Detector, Result, Threshold, without_frames
from ssd_jax.pictures import read_picture
from ssd_jax.pipeline import mapped
from ssd_jax.visualize import write_image

DRAWERS = 2
"""Threads that draw."""

Advance = Callable[[], None]


@dataclasses.dataclass(frozen=True)
class Work:
    """What is to be done with each picture and video.

    Attributes:
      detector: finds the objects.
      threshold: their lowest score.
      records: where they are listed.
      folder: the output folder.
      draw: whether pictures and videos are drawn.
      crop: whether each object is cut out, to crops/CLASS/.
    """

    detector: Detector
    threshold: Threshold
    records: Records
    folder: Path
    draw: bool
    crop: bool


def detect_pictures(work: Work, sources: Sequence[Source], advance: Advance) -> list[Exception]:
    """Detects on picture files; returns the faults of those that cannot be used.

    The network is given what fits its canvas; to draw and to crop a file is read again, so that
    no more than `DRAWERS` large pictures are in memory at once.

    Raises:
      OSError: the output folder cannot be written.
    """
    results = work.detector(
        (source.path for source in sources), score_threshold=work.threshold, return_exceptions=True
    )

    def write(pair: tuple[Source, Result | Exception]) -> tuple[Source, Result | Exception]:
        source, result = pair
        if isinstance(result, Exception) or not (work.draw or (work.crop and result.names)):
            return pair
        try:
            picture = read_picture(source.path)
            drawn = work.detector.draw(picture, result) if work.draw else picture
        except PICTURE_FAULTS as fault:
            return source, without_frames(fault)
        try:
            if work.draw:
                write_image(work.folder / source.drawn_name, drawn)
            if work.crop:
                write_crops(work.folder, source.name, picture, result)
        except (ValueError, OSError) as fault:  # too large for its format, too long a name
            if isinstance(fault, OSError) and fault.errno != errno.ENAMETOOLONG:
                raise  # such as a full disk
            return source, without_frames(fault)
        return pair

    faults = []
    pairs = zip(sources, results, strict=True)
    for source, result in mapped(write, pairs, threads=DRAWERS, ahead=2 * DRAWERS):
        if isinstance(result, Exception):
            faults.append(result)
        else:
            work.records.add(str(source.path), result)
        advance()
    return faults


def detect_video(work: Work, video: VideoReader, source: Source, advance: Advance) -> int:
    """Detects on the frames of a video or webcam: decodes, batches, detects, draws and encodes at
    the same time.

    Returns:
      How many frames have no place in the drawn video, which has one rate throughout.

    Raises:
      ValueError: the file breaks off: it has a second less than it says, or nothing.
      OSError: the output folder cannot be written.
    """
    frames, again = itertools.tee(video)
    results = work.detector((frame.picture for frame in frames), score_threshold=work.threshold)

    def draw(pair: tuple[Frame, Result]) -> tuple[Frame, Frame, Result]:
        frame, result = pair
        drawn = work.detector.draw(frame.picture, result) if work.draw else frame.picture
        return frame, frame._replace(picture=drawn), result

    with VideoWriter(work.folder / source.drawn_name, video.rate) as writer:

        def write(made: tuple[Frame, Frame, Result]) -> tuple[Frame, Result]:
            frame, drawn, result = made
            if work.draw:
                writer.write(drawn)
            if work.crop:
                name = source.name.with_name(f"{source.name.name}_{frame.number:06}")
                write_crops(work.folder, name, frame.picture, result)
            return frame, result

        number, seconds = -1, 0.0
        drawn = mapped(draw, zip(again, results, strict=False), threads=DRAWERS, ahead=DRAWERS)
        for frame, result in mapped(write, drawn, threads=1, ahead=DRAWERS):
            number, seconds = frame.number, frame.seconds
            work.records.add(str(source.path), result, number, frame.seconds)
            advance()
    if number < 0:
        raise ValueError(f"video {source.path} has no frame that can be decoded")
    # By both: of a variable frame rate the count may be a guess, and the last frame may stand long.
    if (
        video.count is not None
        and video.duration is not None
        and number + 1 < video.count - video.rate * (1 + video.begins)
        and seconds < video.duration - video.begins - 1
    ):
        raise ValueError(
            f"video {source.path} breaks off after {seconds:.1f} of {video.duration:.1f} seconds"
        )
    return writer.left_out


def write_crops(
    folder: Path, name: Path, picture: UInt8[np.ndarray, "H W 3"], result: Result
) -> None:
    """Writes every object to crops/CLASS/NAME_NUMBER.jpg; the best has number 0.

    NAME has its suffix: a.jpg and a.png may lie in one folder.
    """
    for number, (box, class_name) in enumerate(zip(result.boxes, result.names, strict=True)):
        rows, columns = pixels_of(box, result.image_size)
        class_folder = folder / "crops" / class_folder_name(class_name)
        path = class_folder / name.with_name(f"{name.name}_{number}.jpg")
        write_image(path, np.ascontiguousarray(picture[rows, columns]))


def class_folder_name(class_name: str) -> str:
    """A folder's name for a class, of each its own: what may not stand in one is %XX for a byte."""

    def coded(match: re.Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in match[0].encode(errors="surrogatepass"))

    return re.sub(r"[^\w -]", coded, class_name)


def pixels_of(box: Float32[np.ndarray, "4"], image_size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the pixels that a box touches, at least one each."""
    height, width = image_size

    def span(low: float, high: float, length: int) -> slice:
        start = int(np.clip(np.floor(low), 0, length - 1))
        return slice(start, int(np.clip(np.ceil(high), start + 1, length)))

    xmin, ymin, xmax, ymax = box.tolist()
    return span(ymin, ymax, height), span(xmin, xmax, width)
