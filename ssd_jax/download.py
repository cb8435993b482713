"""Files of others: downloaded into a folder from the first host that has them, checked by hash.

TFDS's own downloader starts anew after a break and knows no second host, so this one takes its
place, for datasets and for weights.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

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

from ssd_jax.file_lock import try_lock, wait_for_lock

_CONNECT_SECONDS, _SILENCE_SECONDS = 20, 60
_BLOCK_BYTES = 1 << 16  # what a break can cost


@dataclass(frozen=True)
class RemoteFile:
    """A published file and where it can be had.

    Attributes:
      name: The file's name.
      size: Bytes.
      digest: Of its content, hexadecimal: sha256, or md5 where it has only 32 digits.
      urls: Its addresses, the first to try first.
    """

    name: str
    size: int
    digest: str
    urls: tuple[str, ...]


def cache_folder() -> Path:
    """Where downloads go: $SSD_JAX_CACHE, or ssd_jax in the user's cache folder."""
    if folder := os.environ.get("SSD_JAX_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ssd_jax"


def fetch(
    folder: Path, files: Sequence[RemoteFile], *, instead: str, hashed: bool = True
) -> list[Path]:
    """The paths of files in a folder, after downloading those it lacks.

    A download that breaks off leaves a `.part`, which the next host, or the next call, goes on
    with. While another process downloads a file, this one waits. Progress is shown on standard
    output.

    Args:
      folder: Where they lie or are to lie; made if need be.
      files: Those wanted.
      instead: What else a user without a network can do, for the error.
      hashed: Compare those that are there with their hash, else only their size; what is
        downloaded is compared always.

    Raises:
      OSError: No host has a file whole; the message says what to put where.
      ValueError: A file in the folder is another one.
    """
    missing = [file for file in files if not (folder / file.name).is_file()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        ) as bar:
            for file in missing:
                if failures := _fetch(file, folder, bar):
                    names = [f.name for f in missing if not (folder / f.name).is_file()]
                    raise OSError(
                        f"cannot download {file.name} ({'; '.join(failures)}): try again later, "
                        f"or put {listed(names)} into {folder}, or {instead}"
                    )
    return checked(folder, files, hashed=hashed)


def checked(folder: Path, files: Sequence[RemoteFile], *, hashed: bool) -> list[Path]:
    """The paths of files that are in a folder, each compared as `check` does."""
    for file in files:
        check(folder / file.name, file, hashed=hashed)
    return [folder / file.name for file in files]


def check(path: Path, file: RemoteFile, *, hashed: bool = True) -> None:
    """Compares a file with the published one.

    Raises:
      ValueError: It is another file, or a part of it.
    """
    size = path.stat().st_size
    if size == file.size:
        if not hashed:
            return
        algorithm = "md5" if len(file.digest) == 32 else "sha256"
        with path.open("rb") as content:
            if hashlib.file_digest(content, algorithm).hexdigest() == file.digest:
                return
    raise ValueError(
        f"{path} ({size} bytes) is not the official {file.name} of {file.size} bytes (hash "
        f"{file.digest[:12]}...): fetch it again"
    )


def _fetch(file: RemoteFile, folder: Path, bar: Progress) -> list[str]:
    """Downloads a file that no other process brings meanwhile, as of `_download`."""
    task = bar.add_task(file.name, total=file.size)

    def say_waiting() -> None:
        bar.update(task, description=f"{file.name}: another run downloads it")

    with _alone(folder / f"{file.name}.lock", say_waiting):
        if (folder / file.name).is_file():
            bar.update(task, description=file.name, completed=file.size)
            return []
        return _download(file, folder, bar, task)


@contextlib.contextmanager
def _alone(lock: Path, say_waiting: Callable[[], None]) -> Iterator[None]:
    """Waits until no other process is within; the lock's file is there as long as one is."""
    while True:
        with lock.open("w") as file:
            if not try_lock(file):
                say_waiting()
                wait_for_lock(file)
            if not _is_at(file, lock):  # whoever was within took it away: others have a new one
                continue
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)  # as it is if the file system knows no locks
            return


def _is_at(file: IO[str], path: Path) -> bool:
    """Whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _download(file: RemoteFile, folder: Path, bar: Progress, task: TaskID) -> list[str]:
    """Downloads a file; what went wrong with each host, nothing if one had it whole."""
    part = folder / f"{file.name}.part"
    failures = []
    for url in file.urls:
        try:
            _go_on(url, part, file.size, bar, task)
            bar.update(task, description=f"{file.name}: checking")
            check(part, file)
        except requests.RequestException as fault:
            failures.append(f"{url}: {_reason(fault)}")
        except ValueError:
            part.unlink()
            failures.append(f"{url}: its file has another hash")
        else:
            part.replace(folder / file.name)
            bar.update(task, description=file.name)
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
    asked = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
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


def listed(names: Sequence[str]) -> str:
    """'a, b and c'."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
