"""Official archives in a folder that a user names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ssd_jax.download import RemoteFile, checked, listed


def find_archives(
    folder: str | Path, archives: Sequence[RemoteFile], *, hashed: bool = True
) -> list[Path]:
    """The paths of archives in a folder; nothing is downloaded.

    Args:
      folder: Where they lie.
      archives: Those wanted.
      hashed: Compare their content with the official hash, else only their size.

    Raises:
      FileNotFoundError: The folder or some archives are not there; the message names them all.
      ValueError: A file is not the official one.
    """
    folder = Path(folder)
    missing = [archive.name for archive in archives if not (folder / archive.name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {listed(missing)}: set data.archives to a folder "
            f"with {listed([archive.name for archive in archives])}"
        )
    return checked(folder, archives, hashed=hashed)
