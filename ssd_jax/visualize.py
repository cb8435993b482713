"""Boxes on pictures, and many pictures on one sheet. Pictures are RGB uint8 NumPy arrays."""

import colorsys
import threading
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

SMALLEST_TEXT = 9
"""Pixels of text size below which names are hard to read."""

_GAP = 2
_PAPER = 32


def class_color(label: int) -> tuple[int, int, int]:
    """A colour for a class: always the same, and far from those of the classes near it.

    Hues a golden section of the circle apart never come back, and stay as far from each other as
    any number of them can.
    """
    hue = label * 0.6180339887 % 1.0
    saturation, value = [(0.95, 1.0), (0.55, 1.0), (0.9, 0.75)][label % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_boxes(
    image: UInt8[np.ndarray, "H W 3"],
    boxes: Float[np.ndarray, "n 4"],
    names: Sequence[str],
    *,
    labels: Int[np.ndarray, "n"] | Sequence[int],
    scores: Float[np.ndarray, "n"] | Sequence[float] | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw boxes with their names; lines and text follow the size of the image.

    A name goes to the first of a few places at its box where it hides no name drawn before; it is
    left out where all are taken, and the colour has to tell.

    Args:
        image: is not changed.
        boxes: corner form in pixels: xmin 0 is the left edge of the image, xmax W its right one.
            What is outside the image is not drawn. The line lies inside the box.
        names: one for each box.
        labels: class of each box, decides the colour.
        scores: written behind the names, if given. Where boxes overlap, the first is on top.

    Returns:
        A new image.

    Raises:
        ValueError: not as many names, labels or scores as boxes.
    """
    counts = [len(boxes), len(names), len(labels)] + ([] if scores is None else [len(scores)])
    if len(set(counts)) > 1:
        raise ValueError(f"boxes, names, labels and scores have to be as many; met {counts}")
    drawn = image.copy()
    height, width = image.shape[:2]
    side = (height * width) ** 0.5
    line = max(1, round(0.004 * side))
    text_size = max(SMALLEST_TEXT, round(0.033 * side))
    edges = np.rint(np.clip(boxes, 0, [width, height, width, height])).astype(int)
    colors = [class_color(int(label)) for label in labels]
    for i in reversed(range(len(boxes))):
        _draw_outline(drawn, edges[i], colors[i], line)
    # After all the lines, so that none crosses a name.
    taken = np.zeros((height, width), bool)
    for i in range(len(boxes)):
        text = names[i] if scores is None else f"{names[i]} {scores[i]:.2f}"
        label = _render_label(text, colors[i], text_size)[:height, :width]
        if (place := _free_place(taken, edges[i], label.shape[:2])) is not None:
            drawn[place], taken[place] = label, True
    return drawn


def contact_sheet(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]], *, columns: int, cell: tuple[int, int]
) -> UInt8[np.ndarray, "H W 3"]:
    """Place images on one sheet, row by row, each scaled to fit in the middle of its cell.

    Args:
        images: of any sizes.
        columns: cells in a row; fewer if there are fewer images.
        cell: (height, width) of a cell, pixels.

    Raises:
        ValueError: no images.
    """
    if not images:
        raise ValueError("a contact sheet needs at least one image")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    height, width = cell
    sheet = np.full((rows * height, columns * width, 3), _PAPER, np.uint8)
    for i, image in enumerate(images):
        scale = min((height - 2 * _GAP) / image.shape[0], (width - 2 * _GAP) / image.shape[1])
        inner_height, inner_width = (max(1, round(scale * n)) for n in image.shape[:2])
        resized = cv2.resize(
            image,
            (inner_width, inner_height),
            interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
        )
        top = i // columns * height + (height - inner_height) // 2
        left = i % columns * width + (width - inner_width) // 2
        sheet[top : top + inner_height, left : left + inner_width] = resized
    return sheet


def text_width(text: str, size: int) -> int:
    """Pixels that a text of this size takes."""
    return cv2.getTextSize((1 << 15, 4 * size), _printable(text), (0, 0), _font(), size)[2]


def draw_text(
    image: UInt8[np.ndarray, "H W 3"],
    text: str,
    start: tuple[int, int],
    color: tuple[int, int, int],
    size: int,
) -> None:
    """Write into an image, from `start` (x, y of the base line) on, in one line."""
    # Rendered apart, for OpenCV wraps lines at the right edge.
    x, y = start
    blank = np.zeros((2 * size, text_width(text, size) + 2 * size, 3), np.uint8)
    roomy = _with_text(blank, text, (0, round(1.5 * size)), (255, 255, 255), size)
    top = max(0, y - round(1.5 * size))
    place = image[top : y + round(0.5 * size), max(0, x) : x + roomy.shape[1]]
    share = roomy[: place.shape[0], : place.shape[1]].astype(np.float32) / 255
    place[:] = np.rint(place * (1 - share) + np.array(color, np.float32) * share)


def can_write(name: str) -> bool:
    """Whether a suffix is of a format that colour images are written in."""
    # By the suffix alone: OpenCV crashes on a name that is no UTF-8.
    suffix = _printable(Path(name).suffix.lower())
    return cv2.haveImageWriter(f"image{suffix}") and suffix not in (".pgm", ".pbm")


def check_can_write(path: str | Path) -> None:
    """Refuses a path that `write_image` would, by its suffix.

    Raises:
        ValueError: no format of colour images has it; the message names the path.
    """
    if not can_write(Path(path).name):
        raise ValueError(f"{path}: images are written as .png, .jpg, .bmp, .tif or .webp")


def write_image(path: str | Path, image: UInt8[np.ndarray, "H W 3"]) -> None:
    """Write an image in the format of the path's suffix; its folder is made if there is none.

    Raises:
        ValueError: no format of colour images has this suffix, or it cannot have one of this size.
        OSError: the folder or the file cannot be written. Both name the path.
    """
    path = Path(path)
    check_can_write(path)
    is_encoded, encoded = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not is_encoded:
        height, width = image.shape[:2]
        raise ValueError(f"{path}: an image of {width} x {height} cannot be of this format")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded.tobytes())


def _draw_outline(
    image: UInt8[np.ndarray, "H W 3"],
    edges: Int[np.ndarray, "4"],
    color: tuple[int, int, int],
    line: int,
) -> None:
    """Draw the outline of a box, inside the box, but at least one pixel thick."""
    xmin, ymin, xmax, ymax = (int(edge) for edge in edges)
    height, width = image.shape[:2]
    xmin, ymin = min(xmin, width - 1), min(ymin, height - 1)
    xmax, ymax = max(xmax, xmin + 1), max(ymax, ymin + 1)
    image[ymin : min(ymin + line, ymax), xmin:xmax] = color
    image[max(ymax - line, ymin) : ymax, xmin:xmax] = color
    image[ymin:ymax, xmin : min(xmin + line, xmax)] = color
    image[ymin:ymax, max(xmax - line, xmin) : xmax] = color


def _printable(text: str) -> str:
    """Text for OpenCV, which crashes on what is no Unicode: the bytes of some file names."""
    return text.encode(errors="replace").decode()


_fonts = threading.local()


def _font() -> cv2.FontFace:
    """The font, of each thread its own: the first use of a size changes it."""
    if not hasattr(_fonts, "sans"):
        _fonts.sans = cv2.FontFace("sans")
    face: cv2.FontFace = _fonts.sans
    return face


def _with_text(
    image: UInt8[np.ndarray, "H W 3"],
    text: str,
    start: tuple[int, int],
    color: tuple[int, int, int],
    size: int,
) -> UInt8[np.ndarray, "H W 3"]:
    return cv2.putText(image, _printable(text), start, color, _font(), size)[1]


def _render_label(text: str, color: tuple[int, int, int], size: int) -> UInt8[np.ndarray, "h w 3"]:
    """Text on a ground of the colour, black or white, whichever is easier to read."""
    pad = max(2, size // 5)
    # The height is that of the font, not of this text: labels side by side are then level.
    height = round(1.25 * size) + pad
    label = np.full((height, text_width(text, size) + 2 * pad, 3), color, np.uint8)
    luminance = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    ink = (0, 0, 0) if luminance > 120 else (255, 255, 255)
    # Half a character more to the right, for OpenCV wraps lines that just fit.
    roomy = np.concatenate([label, label[:, : size + pad]], axis=1).copy()
    roomy = _with_text(roomy, text, (pad, pad // 2 + size), ink, size)
    return roomy[:, : label.shape[1]]


def _free_place(
    taken: Bool[np.ndarray, "H W"], edges: Int[np.ndarray, "4"], size: tuple[int, int]
) -> tuple[slice, slice] | None:
    """Where to put a label of this (height, width): above its box, or else inside it or below."""
    height, width = size
    xmin, ymin, xmax, ymax = (int(edge) for edge in edges)
    for top in (ymin - height, ymin, ymax - height, ymax):
        for left in (xmin, xmax - width):
            # Pushed into the image from the left and right, but not from above and below, where it
            # would leave its box.
            left = min(max(left, 0), taken.shape[1] - width)
            place = slice(top, top + height), slice(left, left + width)
            if 0 <= top <= taken.shape[0] - height and not taken[place].any():
                return place
    return None
