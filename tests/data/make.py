"""Small datasets, written the way people have them."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ssd_jax.data.example import Source

Box = tuple[float, float, float, float]


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth RGB picture that survives JPEG."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def encode(image: np.ndarray, suffix: str = ".jpg") -> bytes:
    return cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def with_exif(image: bytes, orientation: int) -> bytes:
    """A JPEG, PNG, WebP or TIFF with EXIF's orientation (6: a viewer turns it clockwise)."""
    # A big-endian TIFF with the one tag 0x0112.
    tag = f"0112000300000001 {orientation:04x}0000"
    exif = bytes.fromhex(f"4d4d002a00000008 0001 {tag} 00000000")
    if image.startswith(b"\xff\xd8"):
        body = b"Exif\0\0" + exif
        return image[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + image[2:]
    if image.startswith(b"\x89PNG"):
        chunk = b"eXIf" + exif
        end = zlib.crc32(chunk).to_bytes(4, "big")
        return image[:33] + len(exif).to_bytes(4, "big") + chunk + end + image[33:]  # after IHDR
    written = io.BytesIO()
    with Image.open(io.BytesIO(image)) as opened:
        tags = Image.Exif()
        tags[0x0112] = orientation
        opened.save(written, opened.format, exif=tags, lossless=True)
    return written.getvalue()


def xml_object(
    name: str, box: Box, *, difficult: bool = False, truncated: bool = False, pose: str = "Left"
) -> str:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    corners = "".join(f"<{side}>{value:g}</{side}>" for side, value in sides)
    return (
        f"<object><name>{name}</name><pose>{pose}</pose><truncated>{truncated:d}</truncated>"
        f"<difficult>{difficult:d}</difficult><bndbox>{corners}</bndbox>"
        f"<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>"
    )


def xml(size: tuple[int, int] | None, objects: Sequence[str]) -> str:
    """An annotation; size is (height, width)."""
    written = f"<size><width>{size[1]}</width><height>{size[0]}</height></size>" if size else ""
    return f"<annotation>{written}{''.join(objects)}</annotation>"


def voc_folder(
    root: Path,
    objects: Mapping[str, Sequence[str]],
    splits: Mapping[str, Sequence[str]],
    *,
    size: tuple[int, int] = (60, 80),
) -> Path:
    """A folder in VOC's layout: objects (as XML) of each image, and images of each split."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for seed, (name, of_image) in enumerate(objects.items()):
        (root / "JPEGImages" / f"{name}.jpg").write_bytes(encode(picture(*size, seed)))
        (root / "Annotations" / f"{name}.xml").write_text(xml(size, of_image))
    for split, names in splits.items():
        (root / "ImageSets/Main" / f"{split}.txt").write_text("".join(f"{n}\n" for n in names))
    return root


def object_counts(source: Source) -> np.ndarray:
    """How many objects the rows of a source have, crowds left out."""
    return source.objects.count(~source.objects.crowd)
