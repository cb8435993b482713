import base64

import cv2
import numpy as np
import pytest

from ssd_jax.data.images import (
    decode_image,
    decode_to_fit,
    header_size,
    is_turned,
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


# 16 x 8 pixels of CMYK: (200, 40, 60) on the left, (20, 120, 220) on the right. Made by Pillow.
CMYK = base64.b85decode(
    "|JeWT01iQ9Z(?NtWB>pF0095n07C!`2?`4e2n`Dg3l0tq4-+626A}^=CmbFZATB8}FfJ)AEHgSvJ~K8(H!LkcS3yQhPEu"
    "1+GCo>iT2Nq0QBqI;zyK5o00;mO1Va%3O%VWD5dcdO0RO}Q761VO0RR910000000000000ID0RO}Q6c7Ob000000000000"
    "00000030+5ip&LjX+xSpZ7_06zd&5-O)6CMz31|Je"
)


def test_cmyk_becomes_rgb():
    decoded = decode_image(CMYK, "cmyk.jpg").astype(int)
    assert decoded.shape == (8, 16, 3)
    assert np.abs(decoded[:, 2:6] - (200, 40, 60)).max() < 12
    assert np.abs(decoded[:, 10:14] - (20, 120, 220)).max() < 12


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_become_8(suffix: str, channels: int):
    eight = np.arange(256, dtype=np.uint16).reshape(16, 16, 1).repeat(channels, 2)
    data = cv2.imencode(suffix, eight * 257)[1].tobytes()
    np.testing.assert_array_equal(decode_image(data, "a")[..., :channels], eight)


@pytest.mark.parametrize("turned", [False, True])
def test_exif_orientation_is_applied_where_asked_for(turned: bool):
    picture = make.picture(320, 640)
    data = make.with_exif(make.encode(picture), orientation=6)
    shape = (640, 320) if turned else (320, 640)
    expected = cv2.rotate(picture, cv2.ROTATE_90_CLOCKWISE) if turned else picture
    assert header_size(data, turned=turned) == shape
    decoded = decode_image(data, "a.jpg", turned=turned)
    assert np.abs(decoded.astype(int) - expected).mean() < 2
    reduced, size = decode_to_fit(data, "a.jpg", 100, turned=turned)
    assert size == shape
    assert np.abs(reduced.astype(int) - shrink_to_fit(expected, 100)).mean() < 2


def test_the_annotated_size_tells_whether_exif_was_applied():
    data = make.with_exif(make.encode(make.picture(20, 40)), orientation=6)
    assert not is_turned(data, (20, 40)) and is_turned(data, (40, 20))
    assert not is_turned(data, (30, 30))
    assert not is_turned(make.encode(make.picture(20, 40)), (40, 20))  # no EXIF to follow
    half_turn = make.with_exif(make.encode(make.picture(20, 40)), orientation=3)
    assert not is_turned(half_turn, (20, 40))


@pytest.mark.parametrize("size", [(800, 1208), (1208, 800), (304, 200), (640, 640), (96, 2000)])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_reduced_decoding_comes_close_to_area_averaging(size: tuple[int, int], suffix: str):
    data = make.encode(make.picture(*size), suffix)
    expected = shrink_to_fit(decode_image(data, "a"), 150)
    picture, original_size = decode_to_fit(data, "a", 150)
    assert original_size == size and picture.shape == expected.shape
    assert np.abs(picture.astype(int) - expected).max() <= 6


@pytest.mark.parametrize("size", [(800, 1208), (1208, 800), (90, 1208), (640, 640)])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_each_side_can_be_shrunk_by_itself(size: tuple[int, int], suffix: str):
    data = make.encode(make.picture(*size), suffix)
    picture, original_size = decode_to_fit(data, "a", 150, squash=True)
    shape = min(size[0], 150), min(size[1], 150)
    assert original_size == size and picture.shape == (*shape, 3)
    expected = cv2.resize(decode_image(data, "a"), shape[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(picture.astype(int) - expected).max() <= 6


@pytest.mark.parametrize("height", [601, 603, 607, 299])
@pytest.mark.parametrize("orientation", [1, 3])
def test_reduced_decoding_moves_nothing_by_more_than_half_a_pixel(height: int, orientation: int):
    # Rows brighten evenly; a side that 2, 4 or 8 does not divide is padded and cut off again.
    ramp = np.linspace(0, 255, height).round().astype(np.uint8)[:, None, None]
    data = make.with_exif(make.encode(np.tile(ramp, (1, 1200, 3))), orientation)
    expected = shrink_to_fit(decode_image(data, "a", turned=True), 150).astype(float)
    picture, _ = decode_to_fit(data, "a", 150, turned=True)
    assert picture.shape == expected.shape
    half_a_pixel, rounding = 0.5 * 255 / len(picture), 1
    assert np.abs(picture - expected).max() <= half_a_pixel + rounding


def test_a_jpeg_is_never_enlarged_after_decoding(monkeypatch: pytest.MonkeyPatch):
    flags = []
    decode = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda data, f: flags.append(f) or decode(data, f))
    for longest, reduced in ((149, 0), (299, 0), (300, 2), (599, 2), (600, 4), (1200, 8)):
        decode_to_fit(make.encode(make.picture(60, longest)), "a", 150)
        wanted = getattr(cv2, f"IMREAD_REDUCED_COLOR_{reduced}", cv2.IMREAD_COLOR_RGB)
        assert flags.pop() == wanted | cv2.IMREAD_IGNORE_ORIENTATION


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tiff"])
@pytest.mark.parametrize("part", [0.3, 0.9, 0.995])
def test_a_file_cut_short_is_named(suffix: str, part: float, capfd):
    noise = np.random.default_rng(0).integers(0, 256, (90, 80, 3), dtype=np.uint8)
    data = make.encode(noise, suffix)
    for canvas_size in (10, 100):
        with pytest.raises(ValueError, match=r"'torn' cannot be decoded"):
            decode_to_fit(data[: int(len(data) * part)], "torn", canvas_size)
    if suffix != ".png":  # libpng itself writes a line
        assert capfd.readouterr() == ("", "")


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


def test_the_size_of_a_format_without_a_known_header_is_that_of_the_picture(tmp_path):
    path = tmp_path / "a.ras"
    cv2.imwrite(str(path), make.picture(20, 30))
    assert header_size(path.read_bytes()) is None
    assert stored_size(path) == (20, 30)


def test_stored_size_reads_the_file(tmp_path):
    (tmp_path / "a.png").write_bytes(make.encode(make.picture(12, 34), ".png"))
    assert stored_size(tmp_path / "a.png") == (12, 34)
