"""EXIF's orientation of an encoded picture, read in one way from JPEG, PNG, WebP and TIFF."""

from __future__ import annotations

from typing import Literal, NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

_JPEG_START, _PNG_START = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # + is BigTIFF
_EXIF_START = b"Exif\0\0"
_ORIENTATION_TAG = 0x0112
# What cv2.flip is told, after the sides of 5 to 8 are exchanged.
_FLIPS = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}


def read_orientation(data: bytes) -> int:
    """How a viewer should turn a picture, as EXIF counts it.

    Args:
      data: The encoded file, or as much of its beginning as holds the tag.

    Returns:
      1 (as stored) to 8; from 5 on height and width are exchanged. 1 where the file does not say
      it, says it in a broken way, or is of another format.
    """
    tiff = _exif_block(data)
    tag = _find_tag(tiff)
    value = int.from_bytes(tiff[tag.start : tag.start + 2], tag.order) if tag else 1
    return value if 1 <= value <= 8 else 1


def without_orientation(data: bytes) -> bytes:
    """A TIFF that says of itself that it is to be shown as stored; any other file as it is.

    OpenCV turns TIFFs whatever its flags say, and those of several tiles wrongly.
    """
    tag = _find_tag(data) if data.startswith(_TIFF_STARTS) else None
    if tag is None:
        return data
    return data[: tag.start] + (1).to_bytes(2, tag.order) + data[tag.start + 2 :]


def turn(
    stored: UInt8[np.ndarray, "H W 3"], orientation: int
) -> UInt8[np.ndarray, "turned_H turned_W 3"]:
    """Rotates and mirrors stored pixels as a viewer does.

    Args:
      stored: The pixels.
      orientation: As of `read_orientation`.
    """
    picture = cv2.transpose(stored) if orientation >= 5 else stored
    return cv2.flip(picture, _FLIPS[orientation]) if orientation in _FLIPS else picture


def _exif_block(data: bytes) -> bytes:
    """What has the form of a TIFF and holds the tags; b'' if there is none."""
    if data.startswith(_TIFF_STARTS):
        return data
    if data.startswith(_JPEG_START):
        return _block_of_jpeg(data)
    if data.startswith(_PNG_START):
        return _block_of_chunks(data, len(_PNG_START), b"eXIf")
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _block_of_chunks(data, 12, b"EXIF")
    return b""


def _block_of_jpeg(data: bytes) -> bytes:
    start = len(_JPEG_START)
    while data[start : start + 1] == b"\xff" and data[start + 1 : start + 2] != b"\xda":  # the scan
        if data[start + 1 : start + 2] == b"\xff":  # a byte that fills up
            start += 1
            continue
        stop = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        if data[start + 1 : start + 2] == b"\xe1" and data.startswith(_EXIF_START, start + 4):
            return data[start + 4 + len(_EXIF_START) : stop]
        start = stop
    return b""


def _block_of_chunks(data: bytes, start: int, wanted: bytes) -> bytes:
    """The content of a chunk: of PNG length, name, content, checksum; of RIFF name, length, ..."""
    is_png = wanted == b"eXIf"
    while start + 8 <= len(data):
        first, second = data[start : start + 4], data[start + 4 : start + 8]
        name, length = (second, first) if is_png else (first, second)
        count = int.from_bytes(length, "big" if is_png else "little")
        if name == wanted:
            return data[start + 8 : start + 8 + count].removeprefix(_EXIF_START)
        start += 8 + count + (4 if is_png else count % 2)
    return b""


class _Tag(NamedTuple):
    start: int  # of the two bytes of its value
    order: Literal["little", "big"]


def _find_tag(tiff: bytes) -> _Tag | None:
    """Where a TIFF's first directory states the orientation."""
    if not tiff.startswith(_TIFF_STARTS):
        return None
    order: Literal["little", "big"] = "little" if tiff.startswith(b"II") else "big"

    def number(start: int, count: int) -> int:
        return int.from_bytes(tiff[start : start + count], order)

    is_big = number(2, 2) == 43
    offset_bytes, count_bytes, entry_bytes = (8, 8, 20) if is_big else (4, 2, 12)
    directory = number(offset_bytes, offset_bytes)
    first = directory + count_bytes
    stop = min(first + number(directory, count_bytes) * entry_bytes, len(tiff) - entry_bytes + 1)
    for entry in range(first, stop, entry_bytes):
        if number(entry, 2) == _ORIENTATION_TAG:
            return _Tag(entry + entry_bytes - offset_bytes, order)
    return None
