"""Pictures as people have them, files, PIL images and arrays, and their way to the network."""

import dataclasses
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped, UInt8

from ssd_jax.data.images import decode_image, decode_to_fit, place_on_canvas


@runtime_checkable
class PilImage(Protocol):
    """A `PIL.Image.Image`; Pillow itself is not needed."""

    mode: str

    def convert(self, mode: str) -> Any:
        """The image in another mode."""


_NO_PICTURE = (
    "an image is a path, an RGB uint8 array [H, W, 3] or a PIL image, got {}: of an array of "
    "another library give np.asarray(image); None is what cv2.imread gives for what it cannot read"
)

Picture = str | Path | np.ndarray | PilImage
"""A file, an RGB uint8 array [H, W, 3], or a PIL image, not of mode I or F."""


@dataclasses.dataclass(frozen=True)
class Placed:
    """A picture on the canvas of a network.

    Attributes:
      canvas: the picture, each side shrunk by itself if need be, at the top left.
      size: (height, width) of the picture on the canvas.
      original_size: (height, width) of the picture as it was given.
    """

    canvas: UInt8[np.ndarray, "S S 3"]
    size: tuple[int, int]
    original_size: tuple[int, int]


def read_picture(picture: Picture) -> UInt8[np.ndarray, "H W 3"]:
    """A picture as RGB uint8.

    A file is turned as EXIF says; a PIL image is not, since its own pixels are not. Grey becomes
    RGB, 16 bits become 8, and transparency is dropped.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is no image; the array is not RGB uint8; the PIL image has no range of
        values; or it has no pixels.
    """
    if isinstance(picture, np.ndarray):
        return _checked(picture)
    if isinstance(picture, PilImage):
        return _from_pil(picture)
    if not isinstance(picture, str | Path):
        raise ValueError(_NO_PICTURE.format(type(picture).__name__))
    return decode_image(Path(picture).read_bytes(), str(picture), turned=True)


def place(picture: Picture, canvas_size: int) -> Placed:
    """A picture on a canvas, read as by `read_picture`, but a large JPEG at a fraction of its size.

    Args:
      picture: of any size.
      canvas_size: side S of the canvas, pixels.

    Raises:
      FileNotFoundError, ValueError: as of `read_picture`.
    """
    if isinstance(picture, str | Path):
        data = Path(picture).read_bytes()
        pixels, original_size = decode_to_fit(
            data, str(picture), canvas_size, turned=True, squash=True
        )
    else:
        pixels = read_picture(picture)
        original_size = (pixels.shape[0], pixels.shape[1])
    canvas, size = place_on_canvas(pixels, canvas_size, squash=True)
    return Placed(canvas, size, original_size)


def _checked(array: Shaped[np.ndarray, "..."]) -> UInt8[np.ndarray, "H W 3"]:
    """The array itself, if it is a picture."""
    if array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8 and array.size:
        return array
    raise ValueError(
        f"an image is RGB uint8 [H, W, 3], got {array.dtype} {list(array.shape)}{_hint(array)}"
    )


def _hint(array: Shaped[np.ndarray, "..."]) -> str:
    """What to do with an array that is no picture, where that is clear."""
    if not array.size:
        return ": it has no pixels"
    if array.ndim == 4:
        return ": give several images as a list, list(images)"
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1):
        return ": of a grey image give np.dstack([image] * 3)"
    if array.ndim == 3 and array.shape[2] == 4:
        return ": of RGBA give np.ascontiguousarray(image[..., :3])"
    if array.ndim == 3 and array.shape[0] == 3:
        return ": of channels first give np.moveaxis(image, 0, -1)"
    if array.dtype == np.uint16:
        return ": of 16 bits give (image >> 8).astype(np.uint8)"
    if array.dtype.kind == "f":
        return ": give (image * 255).astype(np.uint8) if it goes from 0 to 1"
    return ""


def _from_pil(image: PilImage) -> UInt8[np.ndarray, "H W 3"]:
    if image.mode in ("I", "F"):
        raise ValueError(
            f"a PIL image of mode {image.mode} says not which value is white: scale it to 0..255 "
            "and give it as mode L or RGB"
        )
    if image.mode.startswith("I;16"):  # convert() would make everything above 255 white
        grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return _checked(np.dstack([grey] * 3))
    return _checked(np.asarray(image.convert("RGB")))
