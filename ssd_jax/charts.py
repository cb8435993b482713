"""Small charts: bars and points. Pictures are RGB uint8 NumPy arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from ssd_jax.visualize import draw_text, text_width

Color = tuple[int, int, int]

PAPER = (250, 250, 248)
INK = (40, 40, 40)
FAINT = (215, 215, 212)
PALETTE: tuple[Color, ...] = ((38, 100, 168), (226, 122, 30), (60, 150, 80), (170, 60, 120))

_TITLE, _TEXT, _PAD = 17, 12, 14


@dataclass(frozen=True)
class Series:
    """Values of one kind, drawn in one colour; NaN draws nothing."""

    name: str
    values: Sequence[float | int]


def bars(
    title: str,
    labels: Sequence[str],
    series: Sequence[Series],
    *,
    size: tuple[int, int],
    form: str = "{:,.0f}",
    palette: Sequence[Color] = PALETTE,
) -> UInt8[np.ndarray, "H W 3"]:
    """Horizontal bars, a group for each label, with their values written behind them.

    Args:
        title: written above.
        labels: of the groups; where not all have room, the rest are left out and counted.
        series: bars of each group, in this order.
        size: (height, width) in pixels.
        form: how values are written.
        palette: a colour for each of the series.
    """
    image = _sheet(title, size)
    top = _legend(image, [one.name for one in series], palette)
    height, width = size
    room = height - top - _PAD
    thick = max(_TEXT + 1, min(22, room // max(1, len(labels) * len(series)) - 3))
    group = thick * len(series) + 5
    shown = min(len(labels), room // group)
    if shown < len(labels):
        shown = max(1, (room - _TEXT) // group)
        draw_text(image, f"and {len(labels) - shown} more", (_PAD, height - _PAD), INK, _TEXT)
    left = _PAD + max((text_width(label, _TEXT) for label in labels[:shown]), default=0) + 8
    largest = max((v for s in series for v in s.values if v == v), default=0) or 1
    reach = width - left - _PAD - text_width(form.format(largest), _TEXT) - 8
    for i in range(shown):
        y = top + i * group
        draw_text(image, labels[i], (_PAD, y + thick * len(series) // 2 + 4), INK, _TEXT)
        for k, one in enumerate(series):
            value = one.values[i]
            if value != value:
                continue
            low, end = y + k * thick, left + round(reach * value / largest)
            image[low : low + thick - 1, left:end] = palette[k]
            draw_text(image, form.format(value), (end + 6, low + thick - 3), INK, _TEXT)
    return image


def points(
    title: str,
    clouds: Sequence[tuple[str, Float[np.ndarray, "_ 2"]]],
    *,
    axes: tuple[str, str],
    limit: float,
    size: tuple[int, int],
) -> UInt8[np.ndarray, "H W 3"]:
    """Clouds of points over two logarithmic axes of the same range; the first lies lowest.

    Args:
        title: written above.
        clouds: (name, (x, y) of each point): the first as dots, the others as crosses.
        axes: names of x and y.
        limit: end of both axes, which begin at a hundredth of it.
        size: (height, width) in pixels.
    """
    image = _sheet(title, size)
    top = _legend(image, [name for name, _ in clouds], PALETTE)
    height, width = size
    left, bottom = _PAD + 40, height - _PAD - 26
    span = np.array([width - left - _PAD, bottom - top])

    def place(values: Float[np.ndarray, "n 2"]) -> np.ndarray:
        share = np.log10(np.clip(values / limit, 0.01, 1.0)) / 2 + 1
        return np.rint([left, bottom] + share * span * [1, -1]).astype(int)

    for tick in _ticks(limit):
        x, y = place(np.array([[tick, tick]]))[0].tolist()
        image[top:bottom, x] = FAINT
        image[y, left : width - _PAD] = FAINT
        draw_text(image, f"{tick:g}", (x - 6, bottom + _TEXT + 3), INK, _TEXT)
        draw_text(image, f"{tick:g}", (_PAD + 8, y + 4), INK, _TEXT)
    draw_text(image, axes[0], (width - _PAD - text_width(axes[0], _TEXT), height - 6), INK, _TEXT)
    draw_text(image, axes[1], (_PAD, top - 4), INK, _TEXT)
    for k, (_, values) in enumerate(clouds):
        for x, y in place(values).tolist():
            if k == 0:
                image[max(y - 1, 0) : y + 1, max(x - 1, 0) : x + 1] = PALETTE[0]
            else:
                cv2.drawMarker(image, (x, y), PALETTE[k], cv2.MARKER_CROSS, 11, 2)
    return image


def _ticks(limit: float) -> list[float]:
    steps = [factor * 10.0**power for power in range(-2, 5) for factor in (1, 2, 5)]
    return [tick for tick in steps if limit / 100 <= tick <= limit]


def _sheet(title: str, size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    image = np.full((*size, 3), PAPER, np.uint8)
    draw_text(image, title, (_PAD, _PAD + _TITLE), INK, _TITLE)
    return image


def _legend(
    image: UInt8[np.ndarray, "H W 3"], names: Sequence[str], palette: Sequence[Color]
) -> int:
    """Names of the series under the title, if there are several; the row where a chart begins."""
    y, x = _PAD + _TITLE + 22, _PAD
    if len(names) < 2:
        return y
    for name, color in zip(names, palette, strict=False):
        image[y - 10 : y, x : x + 10] = color
        draw_text(image, name, (x + 15, y), INK, _TEXT)
        x += 30 + text_width(name, _TEXT)
    return y + 20
