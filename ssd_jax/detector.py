"""A trained detector, ready for pictures as people have them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import jax
import numpy as np
from jaxtyping import Float32, Int32, UInt8
from ml_collections import ConfigDict

from ssd_jax.data.images import decode_image, place_on_canvas
from ssd_jax.recipe import build_model, build_predict
from ssd_jax.training.checkpoints import Checkpoints, Meta
from ssd_jax.training.optimizer import build_optimizer
from ssd_jax.training.state import init_state

Image = str | Path | np.ndarray


@dataclasses.dataclass(frozen=True)
class Result:
    """What was found on one image, best first.

    Attributes:
      boxes: corners [xmin, ymin, xmax, ymax] in pixels of the image that was given.
      scores: 0 to 1.
      labels: classes, counted from 1.
      names: the classes' names.
    """

    boxes: Float32[np.ndarray, "n 4"]
    scores: Float32[np.ndarray, " n"]
    labels: Int32[np.ndarray, " n"]
    names: list[str]


class Detector:
    """Weights, recipe and class names: a function from images to detections.

    Compiled once a batch size; a last batch that is smaller is padded.

    Args:
      config: the recipe that the weights were trained by.
      class_names: without background.
      variables: what `model.apply` takes.
      batch_size: images a call of the device.
    """

    def __init__(
        self,
        config: ConfigDict,
        class_names: Sequence[str],
        variables: Any,
        *,
        batch_size: int = 8,
    ):
        self.config = config
        self.class_names = tuple(class_names)
        self.model = build_model(config, self.class_names)
        self.batch_size = batch_size
        self._variables = variables
        self._predict = jax.jit(build_predict(config, self.model))

    @classmethod
    def from_checkpoint(
        cls,
        workdir: str | Path,
        *,
        step: int | None = None,
        best: bool = False,
        batch_size: int = 8,
    ) -> "Detector":
        """The detector that a run has trained.

        Args:
          workdir: the run's folder, as given to train.py.
          step: which checkpoint; the newest if None.
          best: the checkpoint of the highest mAP instead.
          batch_size: images a call of the device.

        Raises:
          FileNotFoundError: there is no checkpoint.
          ValueError: not that one, or of a format that this version does not read.
        """
        variables, meta, _ = load_checkpoint(Path(workdir), step=step, best=best)
        return cls(meta.config, meta.class_names, variables, batch_size=batch_size)

    @overload
    def __call__(self, images: Image, *, score_threshold: float = 0.5) -> Result: ...

    @overload
    def __call__(self, images: list[Image], *, score_threshold: float = 0.5) -> list[Result]: ...

    def __call__(
        self, images: Image | list[Image], *, score_threshold: float = 0.5
    ) -> Result | list[Result]:
        """Detects objects.

        Args:
          images: a path, or an RGB uint8 array [H, W, 3]; or a list of these.
          score_threshold: detections below it are left out; 0 leaves what the recipe found.

        Returns:
          A `Result`, or a list of one for each image.

        Raises:
          FileNotFoundError, ValueError: a file is missing, or no image that can be decoded.
        """
        if isinstance(images, str | Path | np.ndarray):
            return self._detect([read_image(images)], score_threshold)[0]
        pictures = [read_image(image) for image in images]
        return [
            result
            for first in range(0, len(pictures), self.batch_size)
            for result in self._detect(pictures[first : first + self.batch_size], score_threshold)
        ]

    def _detect(
        self, pictures: list[UInt8[np.ndarray, "_H _W 3"]], score_threshold: float
    ) -> list[Result]:
        side = self.config.data.canvas
        canvases = np.zeros((self.batch_size, side, side, 3), np.uint8)
        sizes = np.ones((self.batch_size, 2), np.int32)
        for row, picture in enumerate(pictures):
            canvases[row], sizes[row] = place_on_canvas(picture, side)
        found = jax.tree.map(np.asarray, self._predict(self._variables, canvases, sizes))
        results = []
        for row, picture in enumerate(pictures):
            height, width = picture.shape[:2]
            kept = (found.labels[row] > 0) & (found.scores[row] >= score_threshold)
            labels = found.labels[row][kept]
            results.append(
                Result(
                    boxes=found.boxes[row][kept] * np.array([width, height] * 2, np.float32),
                    scores=found.scores[row][kept],
                    labels=labels,
                    names=[self.class_names[label - 1] for label in labels],
                )
            )
        return results


def read_image(image: Image) -> UInt8[np.ndarray, "H W 3"]:
    """An image as RGB uint8, from a path (turned as EXIF says) or an array that is that already.

    Raises:
      FileNotFoundError, ValueError: the file is missing or no image; the array is not RGB uint8.
    """
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(
                f"an image is RGB uint8 [H, W, 3], got {image.dtype} {list(image.shape)}"
            )
        return image
    return decode_image(Path(image).read_bytes(), str(image), turned=True)


def load_checkpoint(
    workdir: Path, *, step: int | None = None, best: bool = False
) -> tuple[Any, Meta, int]:
    """The variables, the recipe and the step of a run's checkpoint.

    Args:
      workdir: the run's folder.
      step: which; the newest if None.
      best: the one of the highest mAP instead.

    Raises:
      FileNotFoundError, ValueError: as of `Detector.from_checkpoint`.
    """
    checkpoints = Checkpoints(workdir)
    step = checkpoints.choose(step, best)
    meta = checkpoints.meta(step)
    model = build_model(meta.config, meta.class_names)
    like = jax.eval_shape(lambda: init_state(model, build_optimizer(meta.config), 0)).variables
    placed = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape,
            leaf.dtype,
            sharding=jax.sharding.SingleDeviceSharding(jax.local_devices()[0]),
        ),
        like,
    )
    return checkpoints.restore_variables(step, placed), meta, step
