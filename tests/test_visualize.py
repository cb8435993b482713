"""Boxes are drawn where they are, names can be read, files end up where they were asked for."""

import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from ssd_jax.visualize import class_color, contact_sheet, draw_boxes, write_image


def black(height: int, width: int) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


def test_outline_is_the_box_and_the_image_is_left_alone():
    image = black(100, 120)
    box = np.array([[10.0, 40.0, 90.0, 70.0]], np.float32)
    drawn = draw_boxes(image, box, ["cat"], labels=[3])
    assert np.all(image == 0)
    color = class_color(3)
    assert np.all(drawn[69, 10:90] == color) and np.all(drawn[40:70, 89] == color)
    assert np.all(drawn[40, 10:90] == color) and np.all(drawn[40:70, 10] == color)
    assert np.all(drawn[41:69, 11:89] == 0)
    assert np.all(drawn[70:] == 0) and np.all(drawn[:, 90:] == 0) and np.all(drawn[:, :10] == 0)
    assert np.all(drawn[39, 10:20] == color), "the name stands on its box"


def label_alone(text: str, shape: tuple[int, int], label: int = 1) -> np.ndarray:
    """The pixels of a name, drawn where nothing is in the way."""
    height, width = shape
    point = np.array([[10, height - 20, 11, height - 19]], np.float32)
    drawn = draw_boxes(black(height, width), point, [text], labels=[label])
    rows, columns = np.where(drawn[: height - 20].any(axis=-1))
    return drawn[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def shows(image: np.ndarray, part: np.ndarray) -> bool:
    """Whether the image has the part in it; one letter more or less differs by over 100 000."""
    return cv2.matchTemplate(image, part, cv2.TM_SQDIFF).min() < 5000


@pytest.mark.parametrize(
    "box",
    [
        [0, 0, 40, 40],
        [170, 0, 200, 30],
        [195, 90, 200, 120],
        [0, 145, 20, 150],
        [198, 148, 200, 150],
        [-30, -20, 240, 190],
        [60, 5, 140, 149],
    ],
)
def test_names_are_whole_inside_the_image(box):
    label = label_alone("motorbike", (150, 200))
    assert label.shape[0] >= 9 and label.shape[1] >= 40
    drawn = draw_boxes(black(150, 200), np.array([box], np.float32), ["motorbike"], labels=[1])
    assert shows(drawn, label)


def test_boxes_outside_and_without_area_do_not_break_it():
    boxes = np.array([[-9, -9, -5, -5], [130, 130, 140, 140], [50, 50, 50, 50]], np.float32)
    drawn = draw_boxes(black(100, 100), boxes, ["a", "b", "c"], labels=[1, 2, 3])
    assert np.all(drawn[50, 50] == class_color(3))


def test_names_do_not_cover_each_other_and_the_first_wins():
    many = np.tile(np.array([[60, 60, 140, 120]], np.float32), (30, 1))
    names = [f"class {i}" for i in range(30)]
    drawn = draw_boxes(black(200, 200), many, names, labels=range(1, 31))
    visible = [i for i in range(30) if shows(drawn, label_alone(names[i], (200, 200), i + 1))]
    assert 0 in visible
    assert visible == list(range(len(visible))) and 4 <= len(visible) < 30
    assert np.all(drawn[90, 60] == class_color(1)), "the first outline is on top"


def test_scores_are_written():
    box = np.array([[20, 50, 80, 80]], np.float32)
    drawn = draw_boxes(black(100, 200), box, ["dog"], labels=[2], scores=[0.876])
    assert shows(drawn, label_alone("dog 0.88", (100, 200), label=2))


@pytest.mark.parametrize(
    ("side", "line", "text"), [(64, 1, (9, 20)), (500, 2, (15, 30)), (4000, 16, (120, 240))]
)
def test_lines_and_text_follow_the_size_of_the_image(side, line, text):
    box = np.array([[0.2, 0.5, 0.9, 0.9]], np.float32) * side
    drawn = draw_boxes(black(side, side), box, ["person"], labels=[1])
    column = (drawn[:, int(0.85 * side)] == class_color(1)).all(axis=-1)
    assert np.sum(column[int(0.7 * side) :]) == line
    assert text[0] <= label_alone("person", (side, side)).shape[0] <= text[1]


def test_classes_differ_in_colour():
    colors = np.array([class_color(label) for label in range(1, 81)], int)
    distance = np.abs(colors[:, None] - colors[None]).max(axis=-1)
    assert distance[~np.eye(80, dtype=bool)].min() >= 10
    assert distance[:20, :20][~np.eye(20, dtype=bool)].min() >= 35


def test_names_stand_out_from_their_ground():
    """By WCAG's contrast ratio, of which 3 is what large text needs."""

    def luminance(color: np.ndarray) -> float:
        linear = np.where(color <= 10, color / 3294.6, ((color / 255 + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for label in range(1, 81):
        pixels = label_alone("MMM", (600, 800), label).reshape(-1, 3).astype(float)
        ink = pixels[np.argmax(np.abs(pixels - class_color(label)).sum(axis=1))]
        lights = sorted((luminance(ink), luminance(np.array(class_color(label), float))))
        assert (lights[1] + 0.05) / (lights[0] + 0.05) > 3


def test_other_alphabets_are_written():
    assert not np.array_equal(label_alone("été", (300, 300)), label_alone("ete", (300, 300)))
    assert not np.array_equal(label_alone("猫", (300, 300)), label_alone("犬", (300, 300)))


def test_a_name_that_is_no_unicode_is_drawn():
    assert label_alone("caf\udce9", (300, 300)).any()


def test_no_boxes():
    image = np.full((10, 12, 3), 7, np.uint8)
    drawn = draw_boxes(image, np.zeros((0, 4), np.float32), [], labels=[], scores=[])
    np.testing.assert_array_equal(drawn, image)


def test_unequal_counts_are_refused():
    with pytest.raises(ValueError, match=r"\[1, 2, 1\]"):
        draw_boxes(black(9, 9), np.zeros((1, 4), np.float32), ["a", "b"], labels=[1])


def test_contact_sheet_keeps_order_and_aspect():
    wide, tall = np.full((10, 40, 3), 100, np.uint8), np.full((300, 100, 3), 200, np.uint8)
    sheet = contact_sheet([wide, tall, wide], columns=2, cell=(60, 80))
    assert sheet.shape == (120, 160, 3)
    for value, (top, left), (height, width) in (
        (100, (0, 0), (19, 76)),
        (200, (0, 80), (56, 19)),
        (100, (60, 0), (19, 76)),
    ):
        rows, columns = np.where((sheet[top : top + 60, left : left + 80] == value).all(axis=-1))
        assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (height, width)
        assert (
            abs(rows.max() + rows.min() - 59) <= 1 and abs(columns.max() + columns.min() - 79) <= 1
        )
    assert np.all(sheet[60:, 80:] == sheet[0, 0])
    assert contact_sheet([wide], columns=6, cell=(60, 80)).shape == (60, 80, 3)
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([], columns=2, cell=(60, 80))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPG", ".bmp"])
def test_images_are_written_as_rgb_in_new_folders(tmp_path, suffix):
    image = black(16, 16)
    image[:] = (250, 120, 10)
    path = tmp_path / "new" / "folder" / f"image{suffix}"
    write_image(path, image)
    read = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    np.testing.assert_allclose(read.astype(int), image, atol=0 if suffix in (".png", ".bmp") else 3)


def test_what_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="file"):
        write_image(tmp_path / "file" / "image.png", black(4, 4))
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OSError, match=r"folder\.png"):
        write_image(tmp_path / "folder.png", black(4, 4))
    for name in ("image.txt", "image"):
        with pytest.raises(ValueError, match=name):
            write_image(tmp_path / name, black(4, 4))


def test_each_thread_draws_with_a_font_of_its_own(monkeypatch):
    made = []
    of_cv2 = cv2.FontFace

    def font_face(name):
        made.append(threading.current_thread())
        return of_cv2(name)

    monkeypatch.setattr(cv2, "FontFace", font_face)
    both = threading.Barrier(2)  # so that each of the two has one call

    def draw(_):
        both.wait()
        return draw_boxes(black(60, 90), np.array([[5.0, 30, 60, 50]]), ["cat"], labels=[1])

    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(draw, range(2))
    np.testing.assert_array_equal(one, two)
    assert len(set(made)) == len(made) == 2
