"""Official archives: in a folder, or downloaded into it from the first host that has them.

TFDS's own downloader starts anew after a break and knows no second host, so this one takes its
place; sizes and hashes are those that TFDS registers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

_CONNECT_SECONDS, _SILENCE_SECONDS = 20, 60
_BLOCK_BYTES = 1 << 16  # what a break can cost


@dataclass(frozen=True)
class Archive:
    """An official file and where it can be had.

    Attributes:
      name: The file's name.
      size: Bytes.
      sha256: Of its content.
      urls: Its addresses, the first to try first.
    """

    name: str
    size: int
    sha256: str
    urls: tuple[str, ...]


def find_archives(
    folder: str | Path, archives: Sequence[Archive], *, hashed: bool = True
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
    folder = Path(folder).expanduser()
    missing = [archive.name for archive in archives if not (folder / archive.name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {_listed(missing)}: set data.archives to a folder "
            f"with {_listed([archive.name for archive in archives])}"
        )
    for archive in archives:
        check_archive(folder / archive.name, archive, hashed=hashed)
    return [folder / archive.name for archive in archives]


def fetch_archives(
    folder: Path, archives: Sequence[Archive], *, instead: str, hashed: bool = True
) -> list[Path]:
    """The paths of archives in a folder, after downloading those it lacks.

    A download that breaks off leaves a `.part`, which the next host, or the next call, goes on
    with. Progress is shown on standard output.

    Args:
      folder: Where they lie or are to lie; made if need be.
      archives: Those wanted.
      instead: What else a user without a network can do, for the error.
      hashed: As of `find_archives`; what is downloaded is compared with its hash always.

    Raises:
      OSError: No host has an archive whole; the message says what to put where.
      ValueError: A file in the folder is not the official one.
    """
    missing = [archive for archive in archives if not (folder / archive.name).is_file()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        ) as bar:
            for archive in missing:
                if failures := _fetch(archive, folder, bar):
                    names = [a.name for a in missing if not (folder / a.name).is_file()]
                    raise OSError(
                        f"cannot download {archive.name} ({'; '.join(failures)}): try again later, "
                        f"or put {_listed(names)} into {folder}, or {instead}"
                    )
    return find_archives(folder, archives, hashed=hashed)


def check_archive(path: Path, archive: Archive, *, hashed: bool = True) -> None:
    """Compares a file with the official archive.

    Raises:
      ValueError: It is another file, or a part of it.
    """
    size = path.stat().st_size
    if size == archive.size:
        if not hashed:
            return
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == archive.sha256:
                return
    raise ValueError(
        f"{path} ({size} bytes) is not the official {archive.name} of {archive.size} bytes (sha256 "
        f"{archive.sha256[:12]}...): fetch it again"
    )


def _fetch(archive: Archive, folder: Path, bar: Progress) -> list[str]:
    """Downloads an archive; what went wrong with each host, nothing if one had it whole."""
    part = folder / f"{archive.name}.part"
    task = bar.add_task(archive.name, total=archive.size)
    failures = []
    for url in archive.urls:
        try:
            _go_on(url, part, archive.size, bar, task)
            bar.update(task, description=f"{archive.name}: checking")
            check_archive(part, archive)
        except requests.RequestException as fault:
            failures.append(f"{urlsplit(url).netloc}: {_reason(fault)}")
        except ValueError:
            part.unlink()
            failures.append(f"{urlsplit(url).netloc}: its file has another hash")
        else:
            part.replace(folder / archive.name)
            bar.update(task, description=archive.name)
            return []
    return failures


def _go_on(url: str, part: Path, size: int, bar: Progress, task: TaskID) -> None:
    """Downloads what a part lacks of `size` bytes.

    Raises:
      requests.RequestException: The host is not there, has no such file, or broke off.
    """
    done = part.stat().st_size if part.is_file() else 0
    if done >= size:
        return
    timeout = (_CONNECT_SECONDS, _SILENCE_SECONDS)
    asked = {"Range": f"bytes={done}-"} if done else {}
    with requests.get(url, headers=asked, stream=True, timeout=timeout) as response:
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            done = 0  # the host sends the whole file
        with part.open("ab" if done else "wb") as file:
            bar.update(task, completed=done)
            for block in response.iter_content(_BLOCK_BYTES):
                done += file.write(block)
                bar.update(task, completed=done)
                if done > size:
                    break  # another file, whatever else comes
    if done < size:
        raise requests.ConnectionError(f"broke off after {done} of {size} bytes")


def _reason(fault: requests.RequestException) -> str:
    match fault:
        case requests.HTTPError(response=requests.Response(status_code=status)):
            return f"HTTP {status}"
        case requests.Timeout():
            return "no answer in time"
        case requests.ConnectionError():
            text = str(fault)
            return text if text.startswith("broke off") else "no connection"
        case _:
            return "broke off"


def _listed(names: Sequence[str]) -> str:
    """'a, b and c'."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
