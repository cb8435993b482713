"""What makes a checkpoint whole: a list of its files with their checksums.

The list lies in the checkpoint's folder as `sha256sum` writes it, so that
`sha256sum -c manifest.sha256` there checks it too. It is written last, before the folder gets its
name: what has no list was not finished. Orbax's files at the top of the folder are not in it: they
are written after it, and nothing here reads them.
"""

import hashlib
from pathlib import Path

NAME = "manifest.sha256"


def write_manifest(folder: Path) -> None:
    """Lists the files of a checkpoint's items."""
    lines = [f"{_digest(path)}  {path.relative_to(folder)}\n" for path in _files(folder)]
    (folder / NAME).write_text("".join(lines))


def find_damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint by its list; None where it is whole."""
    try:
        text = (folder / NAME).read_text()
    except FileNotFoundError:
        return f"{NAME} is missing"
    except UnicodeDecodeError:
        return f"{NAME} is damaged"
    if not text.endswith("\n"):
        return f"{NAME} is cut short"
    lines = (line.partition("  ") for line in text.splitlines())
    listed = {path: digest for digest, _, path in lines}
    there = {str(path.relative_to(folder)) for path in _files(folder)}
    if missing := sorted(listed.keys() - there):
        return f"{missing[0] or NAME} is missing"
    if unlisted := sorted(there - listed.keys()):
        return f"{unlisted[0]} is not in {NAME}"
    for path, digest in listed.items():
        if _digest(folder / path) != digest:
            return f"{path} is not as it was written"
    return None


def _files(folder: Path) -> list[Path]:
    """All files below a folder but those at its top."""
    return sorted(path for path in folder.glob("*/**/*") if path.is_file())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
