"""From an encoded file to pixels on a canvas of fixed size."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import cv2
import imagesize
import numpy as np
from jaxtyping import UInt8

from ssd_jax.data.archive_path import read_bytes
from ssd_jax.data.example import Example
from ssd_jax.data.exif import read_orientation, turn, without_orientation

# What OpenCV says of a broken file goes to the error that names it, not to the terminal.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_JPEG_START = b"\xff\xd8"
# libjpeg's inverse DCT can be taken at these fractions of the size, for less than the whole costs.
_REDUCED_JPEG = {
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def decode_image(data: bytes, name: str, *, turned: bool = False) -> UInt8[np.ndarray, "H W 3"]:
    """Decodes a JPEG, PNG or any other file OpenCV reads.

    Args:
      data: The encoded file.
      name: Its name, for the error.
      turned: Rotate and mirror as EXIF says a viewer should (in JPEG, PNG, WebP and TIFF); else
        the pixels are as stored.

    Returns:
      The picture, RGB. Grey pictures get three equal channels, 16 bits become 8, CMYK becomes RGB,
      transparency is dropped.

    Raises:
      ValueError: The bytes are no image that can be decoded, or a part of one.
    """
    stored = _decode_stored(data, name, cv2.IMREAD_COLOR_RGB)
    return turn(stored, read_orientation(data)) if turned else stored


def decode_example(example: Example) -> UInt8[np.ndarray, "H W 3"]:
    """The whole picture of an example, turned as its boxes are.

    Raises:
      ValueError: As of `decode_image`.
    """
    return decode_image(example["image"], example["name"], turned=example["turned"])


def decode_to_fit(
    data: bytes, name: str, canvas_size: int, *, turned: bool = False, squash: bool = False
) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[int, int]]:
    """Decodes a picture and shrinks it to fit a canvas; a large JPEG is decoded at 1/2, 1/4 or 1/8.

    Args:
      data: The encoded file.
      name: Its name, for the error.
      canvas_size: Side of the canvas in pixels.
      turned: As of `decode_image`.
      squash: As of `shrink_to_fit`.

    Returns:
      The picture as of `shrink_to_fit`, and (height, width) of the whole one.

    Raises:
      ValueError: As of `decode_image`.
    """
    size = header_size(data) if data.startswith(_JPEG_START) else None
    least = 0 if size is None else min(size) if squash else max(size)
    factor = max((f for f in _REDUCED_JPEG if least >= f * canvas_size), default=1)
    if size is not None and factor > 1:
        reduced = _decode_stored(data, name, _REDUCED_JPEG[factor])
        height, width = _fitted(size, canvas_size, squash)
        # A side that the factor does not divide was padded until it did: that is cut off.
        padded_height = round(height * reduced.shape[0] * factor / size[0])
        padded_width = round(width * reduced.shape[1] * factor / size[1])
        padded_size = (padded_width, padded_height)
        shrunk = cv2.resize(reduced, padded_size, interpolation=cv2.INTER_AREA)
        picture = cv2.cvtColor(shrunk[:height, :width], cv2.COLOR_BGR2RGB)
        orientation = read_orientation(data) if turned else 1
        return turn(picture, orientation), size[::-1] if orientation >= 5 else size
    picture = decode_image(data, name, turned=turned)
    whole = (picture.shape[0], picture.shape[1])
    return shrink_to_fit(picture, canvas_size, squash=squash), whole


def _decode_stored(data: bytes, name: str, flags: int) -> UInt8[np.ndarray, "H W 3"]:
    """The pixels as stored, in the channel order of OpenCV's flags."""
    image = None
    if data:
        stored = np.frombuffer(without_orientation(data), np.uint8)
        with contextlib.suppress(cv2.error):  # a header that states more than 2^30 pixels
            image = cv2.imdecode(stored, flags | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise ValueError(
            f"image {name!r} cannot be decoded ({len(data)} bytes): replace the file, "
            "or take it out of the split"
        )
    return image


def header_size(data: bytes, *, turned: bool = False) -> tuple[int, int] | None:
    """(height, width) in pixels as the file's header says it, decoding nothing.

    Args:
      data: The encoded file, or the beginning of it.
      turned: Of the picture as EXIF says a viewer should turn it; else of the stored pixels.

    Returns:
      The size; None if the bytes do not begin as an image does.
    """
    width, height = imagesize.get(io.BytesIO(data), exif_rotation=False)
    if height <= 0 or width <= 0:
        return None
    return (width, height) if turned and read_orientation(data) >= 5 else (height, width)


def stored_size(path: Path) -> tuple[int, int] | None:
    """(height, width) in pixels of an image file, for annotations that do not say it.

    None if the file is no image: what to do with it is decided when it is decoded.
    """
    try:
        data = read_bytes(path)
        size = header_size(data)
        if size is None:  # a format whose header is not known here, but decoded
            height, width, _ = decode_image(data, path.name).shape
            size = height, width
    except ValueError:  # damaged, by itself or in a zip
        return None
    return size


def is_turned(data: bytes, annotated_size: tuple[int, int]) -> bool:
    """Whether an annotation is of the picture as EXIF turns it by a quarter.

    Tools differ: most annotate what a viewer shows, some the stored pixels. The size that the
    annotation states tells which; where both have that size, they are the stored pixels.

    Args:
      data: The encoded file.
      annotated_size: (height, width) as the annotation states it.
    """
    if header_size(data) == annotated_size:
        return False
    return header_size(data, turned=True) == annotated_size


def shrink_to_fit(
    image: UInt8[np.ndarray, "H W 3"], canvas_size: int, *, squash: bool = False
) -> UInt8[np.ndarray, "h w 3"]:
    """Shrinks a picture larger than a square canvas (area averaging).

    Args:
      image: The picture.
      canvas_size: Side of the canvas in pixels.
      squash: Shrink each side that is too long by itself, which keeps more of the other; else both,
        which keeps the aspect ratio.

    Returns:
      A picture of at most that height and width; the same one if it fits.
    """
    if max(image.shape[:2]) <= canvas_size:
        return image
    height, width = _fitted((image.shape[0], image.shape[1]), canvas_size, squash)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _fitted(size: tuple[int, int], canvas_size: int, squash: bool) -> tuple[int, int]:
    """(height, width) of a picture shrunk to the canvas, as of `shrink_to_fit`."""
    height, width = size
    if squash:
        return min(height, canvas_size), min(width, canvas_size)
    longest = max(size)
    return (
        max(1, round(height * canvas_size / longest)),
        max(1, round(width * canvas_size / longest)),
    )


def place_on_canvas(
    image: UInt8[np.ndarray, "H W 3"], canvas_size: int, *, squash: bool = False
) -> tuple[UInt8[np.ndarray, "S S 3"], tuple[int, int]]:
    """Puts a picture, shrunk if need be, at the top left of a square black canvas.

    Args:
      image: The picture.
      canvas_size: Side S of the canvas in pixels.
      squash: As of `shrink_to_fit`.

    Returns:
      The canvas, and (height, width) of the picture on it.
    """
    image = shrink_to_fit(image, canvas_size, squash=squash)
    height, width = image.shape[:2]
    canvas = np.zeros((canvas_size, canvas_size, 3), np.uint8)
    canvas[:height, :width] = image
    return canvas, (height, width)
