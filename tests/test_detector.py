"""Detector on an engine whose answers are known: what goes in, what comes out, in what order."""

import itertools
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from PIL import Image, ImageSequence

from ssd_jax import Detector, pictures
from ssd_jax.engine import JaxEngine
from ssd_jax.model import SSD
from ssd_jax.recipe import build_model
from tests.colors import color_detector, picture, save
from tests.small import small_config

RED = (8, 4, 40, 30)


def test_boxes_are_in_pixels_of_the_image_that_was_given():
    detector = color_detector(canvas=64)
    small = detector(picture(RED, (50, 40, 60, 46)))
    np.testing.assert_allclose(small.boxes, [RED, (50, 40, 60, 46)], atol=1e-4)
    assert small.names == ["red", "green"]
    np.testing.assert_allclose(small.scores, [0.9, 0.6])
    assert small.labels.tolist() == [1, 2]
    assert small.image_size == (48, 64)
    # Shrunk to the canvas by 10, so exact to 10 pixels.
    large = detector(picture((80, 40, 400, 300), height=480, width=640))
    np.testing.assert_allclose(large.boxes, [(80, 40, 400, 300)], atol=10)
    assert large.image_size == (480, 640)


def test_paths_pil_images_and_arrays_give_the_same(tmp_path):
    detector = color_detector()
    array = picture(RED)
    path = save(tmp_path / "one.png", array)
    for image in (array, path, str(path), Image.fromarray(array), Image.open(path)):
        np.testing.assert_allclose(detector(image).boxes, [RED], atol=1e-4)


def test_a_list_gives_a_list_and_the_last_batch_is_padded():
    detector = color_detector(batch_size=4)
    images = [picture((x, 4, x + 10, 20)) for x in range(9)]
    results = detector(images)
    assert isinstance(results, list)
    assert [round(float(result.boxes[0, 0])) for result in results] == list(range(9))
    assert detector.engine.batches == [4, 4, 4]
    detector(images[0])
    assert detector.engine.batches == [4, 4, 4, 1]
    assert detector([]) == []
    assert detector(tuple(images[:1]))[0].names == ["red"]


def test_an_endless_iterator_gives_an_iterator():
    detector = color_detector(batch_size=2)
    taken = itertools.count()

    def images():
        while True:
            yield picture((next(taken) % 50, 4, 60, 20))

    results = detector(images())
    first = [round(float(result.boxes[0, 0])) for result in itertools.islice(results, 7)]
    assert first == list(range(7))
    results.close()
    assert next(taken) < 20  # no more was read than a few batches


LEFT_EDGES = [0, 5, 10, 15, 20, 25]


def left_edges(results):
    return [round(float(result.boxes[0, 0])) for result in results]


def test_an_image_that_seeks_on_is_taken_frame_by_frame(tmp_path):
    frames = [Image.fromarray(picture((x, 4, x + 12, 20))) for x in LEFT_EDGES]
    frames[0].save(tmp_path / "film.tif", save_all=True, append_images=frames[1:])
    detector = color_detector(batch_size=4)
    with Image.open(tmp_path / "film.tif") as film:
        assert left_edges(detector(ImageSequence.Iterator(film))) == LEFT_EDGES


def test_one_open_image_is_read_once_though_it_is_there_many_times(tmp_path):
    detector = color_detector(batch_size=4)
    path = save(tmp_path / "one.png", np.tile(picture(RED), (20, 20, 1)))
    expected = detector(Image.open(path))
    for result in detector([Image.open(path)] * 12):
        np.testing.assert_array_equal(result.boxes, expected.boxes)


def test_an_array_may_be_filled_again():
    detector = color_detector(batch_size=4)
    frame = np.empty((48, 64, 3), np.uint8)

    def camera():
        for x in LEFT_EDGES:
            frame[:] = picture((x, 4, x + 12, 20))
            yield frame

    assert left_edges(detector(camera())) == LEFT_EDGES


def test_a_broken_pil_image_is_told_in_its_place(tmp_path):
    detector = color_detector(batch_size=2)
    whole = Image.fromarray(picture(RED))
    (tmp_path / "cut.png").write_bytes(save(tmp_path / "one.png", picture(RED)).read_bytes()[:90])
    with Image.open(tmp_path / "cut.png") as cut:
        results = detector([whole, cut, whole], return_exceptions=True)
    assert [isinstance(result, OSError) for result in results] == [False, True, False]
    kept = results[1]
    while kept is not None:  # no tracebacks, which would hold what was read
        assert kept.__traceback__ is None
        kept = kept.__cause__ or kept.__context__
    with Image.open(tmp_path / "cut.png") as cut, pytest.raises(OSError, match="truncated"):
        list(detector(iter([whole, cut])))


def test_what_cannot_be_used_costs_the_others_nothing(tmp_path):
    detector = color_detector(batch_size=2)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    images = [picture(RED), broken, tmp_path / "none.png", picture(RED), np.zeros((0, 4, 3))]
    results = detector(images, return_exceptions=True)
    assert [type(result).__name__ for result in results] == [
        *("Result", "ValueError", "FileNotFoundError", "Result", "ValueError")
    ]
    np.testing.assert_allclose(results[3].boxes, [RED], atol=1e-4)
    with pytest.raises(ValueError, match=r"broken\.jpg' cannot be decoded \(10 bytes\)"):
        detector(images)
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        detector(tmp_path / "none.png")


def test_thresholds_overall_and_by_class():
    detector = color_detector()
    image = picture(RED, (50, 40, 60, 46))
    assert detector(image, score_threshold=0.7).names == ["red"]
    assert detector(image, score_threshold={"red": 0.95}).names == ["green"]  # .6 is over .5
    assert detector(image, score_threshold={"red": 0.9, "green": 0.61}).names == ["red"]
    assert detector(image, score_threshold=0.0).names == ["red", "green"]
    with pytest.raises(ValueError, match="a threshold for blue: the classes are red, green"):
        detector(image, score_threshold={"blue": 0.5})
    with pytest.raises(ValueError, match=r"of red is 50\.0: it must be in 0\.\.1"):
        detector(iter([image]), score_threshold=50.0)


def test_draw_takes_what_detection_takes(tmp_path):
    detector = color_detector()
    image = picture((40, 60, 200, 220), height=320, width=320)
    result = detector(image)
    drawn = detector.draw(image, result)
    changed = (drawn != image).any(axis=2)
    y, x = np.nonzero(changed[60:])
    assert (x.min(), y.min() + 60, x.max() + 1, y.max() + 61) == (40, 60, 200, 220)
    path = save(tmp_path / "one.png", image)
    np.testing.assert_array_equal(detector.draw(Image.open(path), result), drawn)
    np.testing.assert_array_equal(detector.draw(path, result), drawn)
    with pytest.raises(ValueError, match=r"of \(height, width\) \(320, 320\), this one has"):
        detector.draw(image[:100], result)


def test_threads_share_a_detector():
    detector = color_detector(batch_size=3, seconds=0.001)

    def detect(start: int) -> list[int]:
        images = [picture((x, 4, 60, 20)) for x in range(start, start + 10)]
        return [round(float(result.boxes[0, 0])) for result in detector(images)]

    with ThreadPoolExecutor(8) as pool:
        for start, found in enumerate(pool.map(detect, range(40))):
            assert found == list(range(start, start + 10))


@pytest.fixture(scope="module")
def engine_parts():
    config = small_config("")
    names = ("circle", "square")
    model = build_model(config, names)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 96, 96, 3), np.float32))
    random = np.random.default_rng(0)  # drawn, since to compile `init` takes longer than all else
    variables = jax.tree.map(
        lambda leaf: np.abs(random.normal(0, 0.1, leaf.shape)).astype(leaf.dtype), shapes
    )
    return config, names, variables


def test_jax_compiles_once_a_batch_size_whatever_the_threads(engine_parts, monkeypatch):
    traced = []
    forward = SSD.__call__

    def counted(self, images, *, train=False):
        traced.append(images.shape[0])
        return forward(self, images, train=train)

    monkeypatch.setattr(SSD, "__call__", counted)
    detector = Detector(JaxEngine(*engine_parts), batch_size=2)
    images = [np.full((20, 30, 3), 7 * i, np.uint8) for i in range(6)]
    barrier = threading.Barrier(4)

    def detect(_):
        barrier.wait()
        return detector(images, score_threshold=0.0)

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(detect, range(4))
    assert traced == [2]
    for results in others:
        for result, expected in zip(results, first, strict=True):
            np.testing.assert_array_equal(result.boxes, expected.boxes)
    detector.warm_up()
    assert traced == [2, 1]
    # A batch of one is the same network.
    alone = detector(images[3], score_threshold=0.0)
    np.testing.assert_allclose(alone.scores, first[3].scores, atol=1e-5)
    assert traced == [2, 1]


@pytest.mark.parametrize(
    ("array", "hint"),
    [
        (np.zeros((0, 5, 3), np.uint8), r"got uint8 \[0, 5, 3\]: it has no pixels"),
        (np.zeros((4, 5), np.uint8), r"np\.dstack"),
        (np.zeros((4, 5, 1), np.uint8), r"np\.dstack"),
        (np.zeros((4, 5, 4), np.uint8), r"image\[\.\.\., :3\]"),
        (np.zeros((3, 4, 5), np.uint8), "moveaxis"),
        (np.zeros((2, 4, 5, 3), np.uint8), r"list\(images\)"),
        (np.zeros((4, 5, 3), np.uint16), "image >> 8"),
        (np.zeros((4, 5, 3), np.float32), r"image \* 255"),
        (np.zeros((4, 5, 3), np.int64), r"got int64 \[4, 5, 3\]$"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(array, hint):
    with pytest.raises(ValueError, match=hint):
        color_detector()(array)


def test_what_is_no_picture_is_told_by_its_type():
    # In a process of its own: in tests types are checked before the code that tells it.
    program = """
import jax.numpy as jnp
from tests.colors import color_detector, picture
found, *faults = color_detector()([picture((4, 6, 20, 22)), None, b"", 3], return_exceptions=True)
assert len(found.scores) == 1
print(*(type(fault).__name__ for fault in faults), *faults)
color_detector()(jnp.zeros((8, 8, 3), jnp.uint8))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.startswith("ValueError ValueError ValueError ")
    for kind in ("NoneType", "bytes", "int"):
        assert f"got {kind}: " in done.stdout
    assert "got ArrayImpl: of an array of another library give np.asarray(image)" in done.stderr


def test_a_wide_picture_keeps_its_rows():
    """What is larger than the canvas in one direction is not shrunk in the other."""
    wide = np.zeros((40, 640, 3), np.uint8)
    wide[7:9, 100:400] = (255, 0, 0)  # would be gone at a tenth of the height
    (box,) = color_detector()(wide).boxes
    np.testing.assert_allclose(box, [100, 7, 400, 9], atol=10)
    np.testing.assert_allclose(box[[1, 3]], [7, 9], atol=0.01)


def test_files_of_every_depth_are_right(tmp_path):
    detector = color_detector()
    array = picture(RED)
    alpha = np.dstack([array, np.full(array.shape[:2], 9, np.uint8)])
    Image.fromarray(alpha).save(tmp_path / "rgba.png")
    Image.fromarray(array).quantize(8).save(tmp_path / "palette.png")
    Image.fromarray(array).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    (tmp_path / "wide.png").write_bytes(_png16(array))
    for path in sorted(tmp_path.iterdir()):
        np.testing.assert_allclose(detector(path).boxes, [RED], atol=0.01, err_msg=path.name)
        np.testing.assert_allclose(detector(Image.open(path)).boxes, [RED], atol=0.01)


def _png16(array):
    import cv2

    _, encoded = cv2.imencode(".png", array[..., ::-1].astype(np.uint16) * 257)
    return encoded.tobytes()


def test_sixteen_bits_of_grey_become_eight():
    """Pillow's own conversion makes all above 255 white."""
    deep = np.array([[0, 256 * 40, 65535]], np.uint16)
    for image in (Image.fromarray(deep), Image.frombytes("I;16B", (3, 1), deep.astype(">u2"))):
        assert pictures.read_picture(image)[..., 0].tolist() == [[0, 40, 255]]
    with pytest.raises(ValueError, match="mode F says not which value is white"):
        pictures.read_picture(Image.fromarray(np.zeros((2, 2), np.float32)))


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1)])
def test_tiny_pictures(size):
    result = color_detector()(np.full((*size, 3), (255, 0, 0), np.uint8))
    np.testing.assert_allclose(result.boxes, [[0, 0, size[1], size[0]]])


def test_ten_thousand_pixels_a_side(tmp_path):
    large = np.full((10_000, 10_000, 3), 40, np.uint8)
    large[2000:8000, 1000:5000] = (255, 0, 0)
    path = save(tmp_path / "large.jpg", large)
    for image in (large, path):
        result = color_detector()(image)
        assert result.image_size == (10_000, 10_000)
        np.testing.assert_allclose(result.boxes, [[1000, 2000, 5000, 8000]], atol=160)


def test_a_header_of_more_pixels_than_opencv_takes_is_a_clear_error(tmp_path):
    import struct
    import zlib

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b""))
    with pytest.raises(ValueError, match=r"bomb\.png' cannot be decoded"):
        color_detector()(path)


def test_a_file_is_turned_as_viewers_turn_it_a_pil_image_is_not(tmp_path):
    array = picture(RED)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned a quarter clockwise
    path = tmp_path / "turned.jpg"
    Image.fromarray(array).save(path, exif=exif, quality=98, subsampling=0)
    detector = color_detector()
    result = detector(path)
    assert result.image_size == (64, 48)
    xmin, ymin, xmax, ymax = RED
    np.testing.assert_allclose(result.boxes, [[48 - ymax, xmin, 48 - ymin, xmax]], atol=1)
    assert detector(Image.open(path)).image_size == (48, 64)
