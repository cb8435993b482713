import cv2
import numpy as np
import pytest

from ssd_jax.data.images import (
    decode_image,
    header_size,
    place_on_canvas,
    shrink_to_fit,
    stored_size,
)
from tests.data import make


def test_png_decodes_to_the_very_pixels_in_rgb():
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode_image(make.encode(image, ".png"), "a.png"), image)


def test_jpeg_red_is_red():
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255
    decoded = decode_image(make.encode(red), "red.jpg").astype(int)
    assert np.abs(decoded - red).max() <= 2


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_pictures_get_three_channels(channels: int):
    stored = np.full((4, 6, channels), 90, np.uint8)
    decoded = decode_image(cv2.imencode(".png", stored)[1].tobytes(), "a.png")
    np.testing.assert_array_equal(decoded, np.full((4, 6, 3), 90, np.uint8))


def test_exif_orientation_is_not_applied():
    jpeg = make.encode(make.picture(20, 40))
    # APP1: big-endian TIFF with the one tag 0x0112 (orientation) = 6, a quarter turn.
    tiff = bytes.fromhex("4d4d002a00000008 0001 0112000300000001 00060000 00000000")
    body = b"Exif\0\0" + tiff
    turned = jpeg[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (40, 20, 3)
    assert decode_image(turned, "turned.jpg").shape == (20, 40, 3)


@pytest.mark.parametrize("data", [b"", b"no image", b"\xff\xd8\xff\xe0 torn"])
def test_what_is_no_image_is_named(data: bytes):
    with pytest.raises(ValueError, match=r"'torn\.jpg' cannot be decoded"):
        decode_image(data, "torn.jpg")


def test_small_pictures_stay_as_they_are():
    image = make.picture(30, 40)
    assert shrink_to_fit(image, 40) is image
    canvas, size = place_on_canvas(image, 50)
    assert canvas.shape == (50, 50, 3) and size == (30, 40)
    np.testing.assert_array_equal(canvas[:30, :40], image)
    assert not canvas[30:].any() and not canvas[:, 40:].any()


@pytest.mark.parametrize(
    ("size", "fitted"), [((100, 200), (25, 50)), ((200, 100), (50, 25)), ((3, 500), (1, 50))]
)
def test_large_pictures_keep_their_aspect_ratio(size, fitted):
    canvas, placed = place_on_canvas(np.full((*size, 3), 77, np.uint8), 50)
    assert placed == fitted
    assert (canvas[: fitted[0], : fitted[1]] == 77).all()
    assert canvas.astype(int).sum() == fitted[0] * fitted[1] * 3 * 77


def test_shrinking_averages_areas():
    blocks = np.array([[[0], [100]], [[50], [250]]], np.uint8).repeat(4, 0).repeat(4, 1)
    np.testing.assert_array_equal(
        shrink_to_fit(blocks.repeat(3, 2), 2)[..., 0], [[0, 100], [50, 250]]
    )


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tiff"])
def test_header_size_needs_but_the_header(suffix: str):
    data = make.encode(np.zeros((123, 45, 3), np.uint8), suffix)
    assert header_size(data) == (123, 45)
    assert header_size(b"no image") is None and header_size(b"") is None


def test_stored_size_reads_the_file(tmp_path):
    (tmp_path / "a.png").write_bytes(make.encode(make.picture(12, 34), ".png"))
    assert stored_size(tmp_path / "a.png") == (12, 34)
