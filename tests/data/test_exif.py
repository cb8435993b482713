import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from ssd_jax.data.exif import read_orientation, turn, without_orientation
from ssd_jax.data.images import decode_image, decode_to_fit, header_size, is_turned
from tests.data import make

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
# Of the stored corners, those that a viewer shows at the top left, top right and bottom left.
CORNERS = np.array([[RED, GREEN], [BLUE, WHITE]], np.uint8)
SHOWN = {
    1: (RED, GREEN, BLUE),
    2: (GREEN, RED, WHITE),
    3: (WHITE, BLUE, GREEN),
    4: (BLUE, WHITE, RED),
    5: (RED, BLUE, GREEN),
    6: (BLUE, RED, WHITE),
    7: (WHITE, GREEN, BLUE),
    8: (GREEN, WHITE, RED),
}
SUFFIXES = [".jpg", ".png", ".webp", ".tiff"]


def marked(suffix: str, orientation: int) -> bytes:
    """160 pixels high and 240 wide, a quarter of each corner's colour."""
    return make.with_exif(make.encode(np.kron(CORNERS, np.ones((80, 120, 1), np.uint8)), suffix),
                          orientation)  # fmt: skip


def corners(picture: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """Colours, of which JPEG leaves the nearest, at the top left, top right and bottom left."""
    picture = np.where(picture > 127, 255, 0)
    return tuple(tuple(picture[row, column].tolist()) for row, column in ((5, 5), (5, -5), (-5, 5)))


@pytest.mark.parametrize("orientation", SHOWN)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_picture_is_as_stored_or_as_a_viewer_turns_it(suffix: str, orientation: int):
    data = marked(suffix, orientation)
    viewed = (240, 160) if orientation >= 5 else (160, 240)
    assert read_orientation(data) == orientation
    for turned, size, shown in (
        (False, (160, 240), SHOWN[1]),
        (True, viewed, SHOWN[orientation]),
    ):
        assert header_size(data, turned=turned) == size
        picture = decode_image(data, "a", turned=turned)
        assert picture.shape[:2] == size and corners(picture) == shown
        fitted, whole = decode_to_fit(data, "a", 60, turned=turned)
        assert max(fitted.shape) == 60 and whole == size and corners(fitted) == shown
    assert not is_turned(data, (160, 240))
    assert is_turned(data, (240, 160)) == (orientation >= 5)


@pytest.mark.parametrize("orientation", SHOWN)
def test_pillow_turns_likewise(orientation: int):
    stored = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    picture = Image.fromarray(stored)
    picture.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(turn(stored, orientation), expected)


def tiled_tiff(pixels: np.ndarray, orientation: int, side: int = 32) -> bytes:
    """A TIFF in square tiles, of which those at the right and at the bottom reach out."""
    rows, columns = (-(-pixels.shape[axis] // side) for axis in (0, 1))
    padded = np.zeros((rows * side, columns * side, 3), np.uint8)
    padded[: pixels.shape[0], : pixels.shape[1]] = pixels
    tiles = padded.reshape(rows, side, columns, side, 3).swapaxes(1, 2)
    count, each, start = rows * columns, side * side * 3, 8
    arrays = start + padded.size
    entries = [
        (256, 3, 1, pixels.shape[1]),
        (257, 3, 1, pixels.shape[0]),
        (258, 3, 3, arrays),  # bits a sample
        (259, 3, 1, 1),  # not compressed
        (262, 3, 1, 2),  # RGB
        (274, 3, 1, orientation),
        (277, 3, 1, 3),  # samples a pixel
        (322, 3, 1, side),
        (323, 3, 1, side),
        (324, 4, count, arrays + 8),
        (325, 4, count, arrays + 8 + 4 * count),
    ]
    starts = range(start, arrays, each)
    content = struct.pack(f"<4H{2 * count}I", 8, 8, 8, 0, *starts, *[each] * count)
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    header = struct.pack("<2sHI", b"II", 42, arrays + len(content))
    number = struct.pack("<H", len(entries))
    return header + tiles.tobytes() + content + number + directory + bytes(4)


@pytest.mark.parametrize("orientation", SHOWN)
def test_a_tiff_in_tiles(orientation: int):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 72, 3), dtype=np.uint8)
    data = tiled_tiff(pixels, orientation)
    np.testing.assert_array_equal(decode_image(data, "a"), pixels)
    viewed = decode_image(data, "a", turned=True)
    np.testing.assert_array_equal(viewed, turn(pixels, orientation))


def test_a_big_tiff():
    tags, written = Image.Exif(), io.BytesIO()
    tags[0x0112] = 6
    pixels = np.kron(CORNERS, np.ones((8, 12, 1), np.uint8))
    Image.fromarray(pixels).save(written, "TIFF", big_tiff=True, exif=tags)
    data = written.getvalue()
    assert data.startswith(b"II+\0") and read_orientation(data) == 6
    np.testing.assert_array_equal(decode_image(data, "a"), pixels)


def test_exif_may_follow_the_pixels_of_a_png():
    data = marked(".png", 6)
    chunk = data[33 : 33 + 12 + int.from_bytes(data[33:37], "big")]
    late = data[:33] + data[33 + len(chunk) : -12] + chunk + data[-12:]
    assert late.index(b"IDAT") < late.index(b"eXIf") and read_orientation(late) == 6


def test_what_is_no_tiff_stays_as_it_is():
    for suffix in (".jpg", ".png", ".webp"):
        data = marked(suffix, 6)
        assert without_orientation(data) is data


@pytest.mark.parametrize("orientation", [0, 9, 40000])
def test_an_orientation_that_exif_does_not_know_is_none(orientation: int):
    data = marked(".jpg", orientation)
    assert read_orientation(data) == 1
    assert corners(decode_image(data, "a", turned=True)) == SHOWN[1]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_part_of_a_file_confounds_the_reader(suffix: str):
    data = marked(suffix, 6)
    found = {read_orientation(data[:count]) for count in range(min(len(data), 400))}
    assert found <= {1, 6}
    for place in range(min(len(data), 120)):
        read_orientation(data[:place] + b"\xff" + data[place + 1 :])


@pytest.mark.parametrize("count", [1, 2])
def test_bytes_may_fill_up_before_a_jpegs_marker(count: int):
    """Section B.1.1.2 of the JPEG standard."""
    data = marked(".jpg", 6)
    at = data.index(b"\xff\xe1")
    filled = data[:at] + b"\xff" * count + data[at:]
    assert read_orientation(filled) == 6
    assert corners(decode_image(filled, "a", turned=True)) == SHOWN[6]
    assert read_orientation(b"\xff\xd8" + b"\xff" * 9) == 1
