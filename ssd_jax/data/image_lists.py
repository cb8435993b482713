"""The lists of images of a folder in VOC's layout: ImageSets/Main/SPLIT.txt, a name a line."""

from __future__ import annotations


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
