"""From an encoded file to pixels on a canvas of fixed size."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
from jaxtyping import UInt8


def decode_image(data: bytes, name: str) -> UInt8[np.ndarray, "H W 3"]:
    """Decodes a JPEG, PNG or any other file OpenCV reads, its EXIF orientation ignored.

    Detection datasets annotate the stored pixels, so a rotation noted in EXIF is not applied.

    Args:
      data: The encoded file.
      name: Its name, for the error.

    Returns:
      The picture, RGB. Grey pictures get three equal channels, transparency is dropped.

    Raises:
      ValueError: The bytes are no image that can be decoded.
    """
    image = None
    if data:
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise ValueError(
            f"image {name!r} cannot be decoded ({len(data)} bytes): replace the file, "
            "or take it out of the split"
        )
    return image


def header_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) in pixels as the file's header says it, decoding nothing.

    Args:
      data: The encoded file.

    Returns:
      The size of the stored pixels; None if the bytes do not begin as an image does.
    """
    try:
        with PIL.Image.open(io.BytesIO(data)) as image:
            width, height = image.size
    except OSError:
        return None
    return height, width


def stored_size(path: Path) -> tuple[int, int]:
    """(height, width) in pixels of an image file, for annotations that do not say it.

    Raises:
      ValueError: The file is no image that can be decoded.
    """
    height, width = decode_image(path.read_bytes(), str(path)).shape[:2]
    return height, width


def shrink_to_fit(
    image: UInt8[np.ndarray, "H W 3"], canvas_size: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Shrinks a picture larger than a square canvas (area averaging), keeping its aspect ratio.

    Args:
      image: The picture.
      canvas_size: Side of the canvas in pixels.

    Returns:
      A picture of at most that height and width; the same one if it fits.
    """
    height, width = image.shape[:2]
    longest = max(height, width)
    if longest <= canvas_size:
        return image
    height = max(1, round(height * canvas_size / longest))
    width = max(1, round(width * canvas_size / longest))
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def place_on_canvas(
    image: UInt8[np.ndarray, "H W 3"], canvas_size: int
) -> tuple[UInt8[np.ndarray, "S S 3"], tuple[int, int]]:
    """Puts a picture, shrunk if need be, at the top left of a square black canvas.

    Args:
      image: The picture.
      canvas_size: Side S of the canvas in pixels.

    Returns:
      The canvas, and (height, width) of the picture on it.
    """
    image = shrink_to_fit(image, canvas_size)
    height, width = image.shape[:2]
    canvas = np.zeros((canvas_size, canvas_size, 3), np.uint8)
    canvas[:height, :width] = image
    return canvas, (height, width)
