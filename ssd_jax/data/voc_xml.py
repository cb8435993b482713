"""Annotations in Pascal VOC's XML."""

from __future__ import annotations

import math
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring
from jaxtyping import Float64


@dataclass(frozen=True)
class VocObject:
    """One `<object>`. The flags are False and the pose is '' where the file has none."""

    name: str
    box: tuple[float, float, float, float]  # xmin, ymin, xmax, ymax in pixels, as written
    pose: str
    truncated: bool
    difficult: bool


@dataclass(frozen=True)
class VocAnnotation:
    """One file.

    Attributes:
      size: (height, width) in pixels; None where the file has none or writes zeros.
      objects: In the order of the file.
    """

    size: tuple[int, int] | None
    objects: tuple[VocObject, ...]

    @property
    def boxes(self) -> Float64[np.ndarray, "n 4"]:
        """The objects' boxes, [xmin, ymin, xmax, ymax] in pixels, as written."""
        return np.array([o.box for o in self.objects], np.float64).reshape(-1, 4)


def parse_annotation(data: bytes, name: str) -> VocAnnotation:
    """Reads one annotation.

    Args:
      data: The file.
      name: Its name, for the errors.

    Returns:
      Its size and objects; nothing is clipped, shifted or dropped.

    Raises:
      ValueError: It is no XML, declares entities (which could expand without end), or an object
        lacks its name or its box.
    """
    try:
        root = fromstring(data)
    except DefusedXmlException:
        raise ValueError(
            f"annotation {name}: declares XML entities, which are not allowed: take them out"
        ) from None
    except (ParseError, LookupError, ValueError) as error:
        raise ValueError(f"annotation {name}: broken XML ({error}): mend the file") from None
    size = root.find("size")
    height, width = (_pixels(size, field) for field in ("height", "width"))
    objects = tuple(_object(element, name) for element in root.findall("object"))
    return VocAnnotation((height, width) if height and width else None, objects)


def _pixels(size: Element | None, field: str) -> int:
    """A side of the image, 0 where it is missing or no number."""
    text = (size.findtext(field) if size is not None else None) or "0"
    try:
        return max(0, int(float(text)))
    except (ValueError, OverflowError):
        return 0


def _object(element: Element, name: str) -> VocObject:
    label = (element.findtext("name") or "").strip()
    if not label:
        raise ValueError(f"annotation {name}: an object has no name: give it one")
    return VocObject(
        name=label,
        box=(
            _coordinate(element, "xmin", name),
            _coordinate(element, "ymin", name),
            _coordinate(element, "xmax", name),
            _coordinate(element, "ymax", name),
        ),
        pose=(element.findtext("pose") or "").strip().lower(),
        truncated=_flag(element, "truncated"),
        difficult=_flag(element, "difficult"),
    )


def _coordinate(element: Element, side: str, name: str) -> float:
    text = (element.findtext(f"bndbox/{side}") or "").strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(
            f"annotation {name}: {side} of an object {element.findtext('name')!r} is {text!r}, "
            "not a number: mend the file"
        )
    return value


def _flag(element: Element, field: str) -> bool:
    return (element.findtext(field) or "").strip() == "1"
