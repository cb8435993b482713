"""The images of a split themselves: whether they can be decoded, their size, and copies."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ssd_jax.data.check.listing import Entry, Listing
from ssd_jax.data.check.problem import Problem
from ssd_jax.data.images import decode_image, header_size, is_turned

Size = tuple[int, int]


@dataclass(frozen=True)
class Inspection:
    """What was found of one image.

    Attributes:
      size: (height, width) in pixels of the image, turned as EXIF says if the annotation is; None
        where it cannot be known.
      digest: SHA-256 of the file; '' where it was not read.
      fault: (kind of problem, text), or None.
    """

    size: Size | None
    digest: str = ""
    fault: tuple[str, str] | None = None


def inspect_images(
    listing: Listing, *, skips_undecodable: bool, progress: Callable[[], None]
) -> list[Inspection]:
    """Reads and decodes every image of a split, in threads.

    Args:
      listing: The split.
      skips_undecodable: The policy: such images stop no run then.
      progress: Called after every image.
    """

    def inspect(entry: Entry) -> Inspection:
        found = _inspect(entry)
        if skips_undecodable and found.fault and found.fault[0] == "undecodable image":
            found = Inspection(None, found.digest, ("skipped image", found.fault[1]))
        progress()
        return found

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(inspect, listing.entries))


def glance_at_images(listing: Listing) -> list[Inspection]:
    """What is known without decoding: sizes as annotated, or else from the files' headers."""
    return [
        Inspection(entry.size if entry.size or entry.relative else _header_size(entry))
        for entry in listing.entries
    ]


def image_problems(listing: Listing, inspections: Sequence[Inspection]) -> list[Problem]:
    """Images that cannot be read, or are not of the size that is annotated."""
    problems = []
    for entry, found in zip(listing.entries, inspections, strict=True):
        if found.fault:
            problems.append(Problem(listing.split, entry.file, *found.fault))
        elif entry.size and found.size and entry.size != found.size:
            text = f"annotated as {_text(entry.size)}, the image is {_text(found.size)}"
            if entry.size == found.size[::-1]:
                text += " (turned by a quarter)"
            problems.append(Problem(listing.split, entry.annotation, "size differs", text))
    return problems


def copies(
    listings: Sequence[Listing], inspections: Sequence[Sequence[Inspection]]
) -> list[Problem]:
    """Images of the same content, across the splits and within each."""
    first: dict[str, tuple[str, Entry]] = {}
    problems = []
    for listing, of_split in zip(listings, inspections, strict=True):
        for entry, found in zip(listing.entries, of_split, strict=True):
            if not found.digest:
                continue
            split, other = first.setdefault(found.digest, (listing.split, entry))
            if split != listing.split:
                text = f"the same content as {other.file} of {split}"
                problems.append(Problem(listing.split, entry.file, "image in two splits", text))
            elif other is not entry:
                same = "it is another image's file too"
                text = same if other.file == entry.file else f"the same content as {other.file}"
                problems.append(Problem(listing.split, entry.file, "image twice in a split", text))
    return problems


def _inspect(entry: Entry) -> Inspection:
    try:
        data = entry.read()
    except OSError as error:
        return Inspection(None, fault=("no image", error.strerror or "cannot be read"))
    except ValueError as error:  # damaged where it lies, in a zip or a record
        return Inspection(None, fault=("undecodable image", str(error)))
    digest = hashlib.sha256(data).hexdigest()
    try:
        turned = entry.size is not None and is_turned(data, entry.size)
        height, width = decode_image(data, entry.file, turned=turned).shape[:2]
    except ValueError:
        return Inspection(None, digest, ("undecodable image", f"{len(data)} bytes: replace it"))
    return Inspection((height, width), digest)


def _header_size(entry: Entry) -> Size | None:
    try:
        return header_size(entry.read())
    except (OSError, ValueError):  # decoding says which
        return None


def _text(size: Size) -> str:
    return f"{size[1]}x{size[0]}"
