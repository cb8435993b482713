"""What an exported file says of itself, as JSON inside it."""

import dataclasses
import json
from typing import Any

from ssd_jax import __version__

FORMAT = 1
KEY = "ssd_jax"
"""The name under which an ONNX file holds it, among its metadata properties."""


@dataclasses.dataclass(frozen=True)
class Metadata:
    """Everything about an exported detector but its network.

    Attributes:
      class_names: without background; label k is `class_names[k - 1]`.
      batch: images a call takes; None is any number.
      canvas: side of the canvases that the detector was trained with, pixels. The file takes
        pictures of any size; larger ones were shrunk to this in training.
      image_size: (height, width) that the file resizes to, pixels.
      mean: subtracted from RGB (0..255) after that.
      std: divided by after that.
      detect: thresholds and limits of the NMS inside, as of `ssd_jax.detection.detect`.
      version: of the ssd_jax that wrote it.
    """

    class_names: tuple[str, ...]
    batch: int | None
    canvas: int
    image_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    detect: dict[str, Any]
    version: str = __version__

    def to_json(self) -> str:
        """As JSON, with the number of this format."""
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=2)

    @classmethod
    def from_json(cls, text: str, path: str) -> "Metadata":
        """The inverse of `to_json`.

        Raises:
          ValueError: it is of another format; `path` is the file's, for the message.
        """
        fields = json.loads(text)
        number = fields.pop("format", None)
        if number != FORMAT:
            raise ValueError(
                f"{path} has format {number} of ssd_jax {fields.get('version', 'unknown')}, "
                f"ssd_jax {__version__} reads format {FORMAT}: export the checkpoint anew"
            )
        for name in ("class_names", "image_size", "mean", "std"):
            fields[name] = tuple(fields[name])
        return cls(**fields)
