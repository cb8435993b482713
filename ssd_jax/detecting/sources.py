"""What to detect on, from the arguments of a command line."""

import dataclasses
import glob
import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ssd_jax.visualize import can_write

PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")


@dataclasses.dataclass(frozen=True)
class Source:
    """A picture or video file.

    Attributes:
      path: where it lies.
      name: what it is called in the output folder.
    """

    path: Path
    name: Path

    @property
    def is_video(self) -> bool:
        """Whether it is a video, by its suffix."""
        return self.path.suffix.lower() in VIDEOS

    @property
    def drawn_name(self) -> Path:
        """The name of the drawn one: of a video .mp4; of a picture as it is, where that is written.

        It never is the name of another one: what is not kept is added to.
        """
        if self.is_video:
            kept = self.name.suffix.lower() == ".mp4"
            return self.name if kept else self.name.with_name(f"{self.name.name}.mp4")
        kept = can_write(self.name.name)
        return self.name if kept else self.name.with_name(f"{self.name.name}.jpg")


def sources_in(arguments: Sequence[str], out: Path) -> list[Source]:
    """The files that arguments name: files, folders (searched through) and globs ('**' too).

    Args:
      arguments: a file that is not there is taken too, for its fault is told with those of others.
      out: the output folder; where it lies in a folder that is searched or a glob finds what is in
        it, it is left out.

    Raises:
      FileNotFoundError: a folder without pictures and videos, a glob that matches nothing, or not
        one of the files is there.
      ValueError: an output file would take the place of a picture or video, or of another one.
    """
    found = list(dict.fromkeys(source for text in arguments for source in _named(text, out)))
    if not any(source.path.is_file() for source in found):
        raise FileNotFoundError(f"no such file or folder: {' '.join(map(str, arguments))}")
    names = {source.drawn_name for source in found}
    if len(names) < len(found):  # the same name in two folders: tell them apart by folder
        found = [Source(s.path, Path(*s.path.resolve().parts[1:])) for s in found]
    of_name: dict[Path, Path] = {}
    for source in found:
        # Such as v.avi, which becomes v.avi.mp4, where that is there too.
        other = of_name.setdefault(source.drawn_name, source.path)
        if other.resolve() != source.path.resolve():
            raise ValueError(
                f"{other} and {source.path} would both be drawn as {source.drawn_name}: give them "
                "in two calls, each with its own --out"
            )
    written = {(out / source.drawn_name).resolve() for source in found}
    for source in found:
        if source.path.resolve() in written:
            raise ValueError(f"{source.path} would be drawn over: give another folder as --out")
    return found


def _named(argument: str, out: Path) -> Iterable[Source]:
    path = Path(argument)
    if path.is_dir():
        there = [p for p in _files_below(path) if p.suffix.lower() in PICTURES + VIDEOS]
        inside = [p for p in there if not _is_written(p, path, out)]
        if not inside:
            raise FileNotFoundError(
                f"no picture or video ({' '.join(PICTURES + VIDEOS)}) in folder {argument}"
            )
        return [Source(file, file.relative_to(path)) for file in inside]
    if not path.exists() and glob.has_magic(argument):
        matches = [Path(match) for match in sorted(glob.glob(argument, recursive=True))]
        start = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
        files = [m for m in matches if m.is_file() and not _is_written(m, start, out)]
        if not files:
            raise FileNotFoundError(f"no file matches {argument}")
        return [Source(file, Path(file.name)) for file in files]
    return [Source(path, Path(path.name))]


def _files_below(folder: Path) -> list[Path]:
    """The files of a folder and those in it, but what the system hides.

    Links to folders are followed, after all that is there by itself, and each folder is read once.
    """
    found = []
    been: set[Path] = set()
    starts = [folder]
    for start in starts:
        for here, folders, names in os.walk(start):
            if Path(here).resolve() in been:
                folders.clear()
                continue
            been.add(Path(here).resolve())
            folders[:] = [name for name in folders if not name.startswith(".")]
            inside = (Path(here) / name for name in folders)
            starts += sorted(path for path in inside if path.is_symlink())
            found += [Path(here) / name for name in names if not name.startswith(".")]
    return sorted(found)


def _is_written(file: Path, searched: Path, out: Path) -> bool:
    """Whether an earlier call wrote a file, into an output folder inside the one searched."""
    own = out.resolve()
    return searched.resolve() in own.parents and own in file.resolve().parents
