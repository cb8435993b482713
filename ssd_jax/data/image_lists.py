"""The lists of images of a folder in VOC's layout: ImageSets/Main/SPLIT.txt, a name a line."""

from __future__ import annotations

from collections.abc import Sequence


def listed(data: bytes, where: str) -> list[str]:
    """The lines of a list, without what surrounds them; empty ones are left out.

    Args:
      data: The file's content, UTF-8, as Windows saves it too.
      where: The file, for messages.

    Raises:
      ValueError: It is no UTF-8.
    """
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as fault:
        raise ValueError(f"list {where} is no UTF-8 ({fault}): save it as UTF-8") from None
    return [line.strip() for line in lines if line.strip()]


def check_once(names: Sequence[str], where: str) -> None:
    """Refuses a list that names an image twice.

    Raises:
      ValueError: It does; the message names the image and `where`.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"image {name!r} is listed twice in {where}")
        seen.add(name)
