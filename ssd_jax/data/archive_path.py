"""Files in folders and, under the same kind of path, in zips: pictures.zip/folder/a.jpg."""

from __future__ import annotations

import functools
import os
import zipfile
import zlib
from pathlib import Path


def read_bytes(path: Path) -> bytes:
    """A file's content; a zip's checksum is compared.

    Raises:
      FileNotFoundError: There is no such file.
      ValueError: The zip is broken, encrypted, or packed as Python cannot unpack.
    """
    archive = _archive(path.parent)
    if archive is None:
        return path.read_bytes()
    try:
        return _opened(archive, os.getpid()).read(path.relative_to(archive).as_posix())
    except KeyError:
        raise FileNotFoundError(f"no file {path}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError) as fault:
        raise ValueError(f"{path} is broken ({fault}): fetch the zip again") from None
    except RuntimeError as fault:  # a password, or an unknown method
        raise ValueError(
            f"{path} cannot be unpacked ({fault}): pack the zip anew, by deflate and without a "
            "password"
        ) from None


def is_file(path: Path) -> bool:
    """Whether there is such a file."""
    archive = _archive(path.parent)
    if archive is None:
        return path.is_file()
    return path.relative_to(archive).as_posix() in _opened(archive, os.getpid()).NameToInfo


def file_names(folder: Path) -> set[str] | None:
    """The names of the files right in a folder; None if there is no such folder."""
    archive = _archive(folder)
    if archive is None:
        return set(os.listdir(folder)) if folder.is_dir() else None
    inside = "" if folder == archive else f"{folder.relative_to(archive).as_posix()}/"
    names = [n for n in _opened(archive, os.getpid()).namelist() if n.startswith(inside)]
    return {name[len(inside) :] for name in names} if names else None


def _archive(folder: Path) -> Path | None:
    """The zip that a folder is in, or is."""
    for path in (folder, *folder.parents):
        if path.suffix.lower() == ".zip" and _is_file(path):
            return path
    return None


@functools.cache
def _is_file(path: Path) -> bool:
    return path.is_file()


@functools.lru_cache(maxsize=8)
def _opened(archive: Path, process: int) -> zipfile.ZipFile:
    """A zip, opened once a process: forked ones would share one position in the file."""
    try:
        return zipfile.ZipFile(archive)
    except zipfile.BadZipFile as fault:
        raise ValueError(
            f"{archive} is no whole zip ({str(fault).lower()}): fetch it again"
        ) from None
