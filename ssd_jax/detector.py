"""A trained detector, ready for pictures as people have them."""

import dataclasses
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, overload

import jax
import numpy as np
from jaxtyping import Float32, Int32, UInt8

from ssd_jax import export, hub
from ssd_jax.engine import Engine, JaxEngine
from ssd_jax.model_card import model_card, publishable
from ssd_jax.pictures import Picture, PilImage, Placed, place, read_picture
from ssd_jax.pipeline import batched, mapped
from ssd_jax.recipe import build_model
from ssd_jax.training.checkpoints import FOLDER, Checkpoints, Meta
from ssd_jax.training.optimizer import build_optimizer
from ssd_jax.training.state import init_state
from ssd_jax.visualize import draw_boxes

SCORE_THRESHOLD = 0.5
"""Detections of a lower score are left out unless another threshold is given."""

PICTURE_FAULTS = (OSError, ValueError, MemoryError)
"""What a picture that cannot be used raises."""


def without_frames(fault: Exception) -> Exception:
    """The fault alone, to be kept: its traceback would keep what was read and decoded before it."""
    chained: BaseException | None = fault
    while chained is not None:
        chained.__traceback__ = None
        chained = chained.__cause__ or chained.__context__
    return fault


READERS = 4
"""Threads that read and decode pictures; OpenCV decodes outside Python's lock."""

Threshold = float | Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Result:
    """What was found on one image, best first.

    Attributes:
      boxes: corners [xmin, ymin, xmax, ymax] in pixels of the image that was given.
      scores: 0 to 1.
      labels: classes, counted from 1.
      names: the classes' names.
      image_size: (height, width) of the image that was given.
    """

    boxes: Float32[np.ndarray, "n 4"]
    scores: Float32[np.ndarray, " n"]
    labels: Int32[np.ndarray, " n"]
    names: list[str]
    image_size: tuple[int, int]


class Detector:
    """A function from images to detections, for any number of threads at the same time.

    One image runs as a batch of one; several run `batch_size` at a time, the last batch padded. So
    an engine that compiles does so at most twice, at the first call of each kind or in `warm_up`.

    Args:
      engine: network, preprocessing and NMS.
      batch_size: images a call of the device.
    """

    def __init__(self, engine: Engine, *, batch_size: int = 8):
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: it must be at least 1")
        self.engine = engine
        self.batch_size = batch_size

    @classmethod
    def from_checkpoint(
        cls,
        source: str | Path,
        *,
        step: int | None = None,
        best: bool = False,
        batch_size: int = 8,
    ) -> "Detector":
        """The detector that a run has trained, that was imported, or that is on a Hub.

        Args:
          source: the run's folder, as given to train.py; what `python -m ssd_jax.weights` wrote; or
            'hf://owner/name', 'hf://owner/name@revision' of the Hugging Face Hub.
          step: which checkpoint; the newest if None.
          best: the checkpoint of the highest mAP instead.
          batch_size: images a call of the device.

        Raises:
          FileNotFoundError: there is no checkpoint.
          ValueError: not that one, or of a format that this version does not read.
        """
        variables, meta, _ = load_checkpoint(hub.folder_of(source), step=step, best=best)
        engine = JaxEngine(meta.config, meta.class_names, variables)
        return cls(engine, batch_size=batch_size)

    @classmethod
    def from_file(
        cls, path: str | Path, *, runtime: export.Runtime | None = None, batch_size: int = 8
    ) -> "Detector":
        """The detector in a file that export.py wrote.

        Args:
          path: of the file.
          runtime: what runs it: 'jax' for StableHLO, 'onnxruntime' or 'openvino' for ONNX; the
            first that can if None.
          batch_size: images a call of the runtime.

        Raises:
          FileNotFoundError, ValueError: as of `ssd_jax.export.load`.
        """
        return cls(export.load(path, runtime), batch_size=batch_size)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes without background; label k is `class_names[k - 1]`."""
        return self.engine.class_names

    @overload
    def __call__(self, images: Picture, *, score_threshold: Threshold = ...) -> Result: ...

    @overload
    def __call__(
        self, images: Iterator[Picture], *, score_threshold: Threshold = ...
    ) -> Iterator[Result]: ...

    @overload
    def __call__(
        self, images: list[Any] | tuple[Any, ...], *, score_threshold: Threshold = ...
    ) -> list[Result]: ...

    @overload
    def __call__(
        self,
        images: Iterator[Picture],
        *,
        score_threshold: Threshold = ...,
        return_exceptions: Literal[True],
    ) -> Iterator[Result | Exception]: ...

    @overload
    def __call__(
        self,
        images: list[Any] | tuple[Any, ...],
        *,
        score_threshold: Threshold = ...,
        return_exceptions: Literal[True],
    ) -> list[Result | Exception]: ...

    def __call__(
        self,
        images: Picture | Iterable[Picture],
        *,
        score_threshold: Threshold = SCORE_THRESHOLD,
        return_exceptions: bool = False,
    ) -> Any:
        """Detects objects.

        Args:
          images: a path, an RGB uint8 array [H, W, 3] or a PIL image; or a list or an iterator of
            these. Of an iterator, a few batches are read before the first result is there.
          score_threshold: detections below it are left out; 0 leaves what the recipe found. Or one
            for each class by its name; a class without one has `SCORE_THRESHOLD`.
          return_exceptions: of a list or an iterator, an image that cannot be used has its
            exception in place of a `Result`, and the others are detected; else it is raised.

        Returns:
          A `Result`; or of a list a list, of an iterator an iterator, with one for each image.

        Raises:
          FileNotFoundError, ValueError: a file is missing, or no image that can be decoded; an
            array is no image; a threshold is none.
        """
        minimum = self.minimum_scores(score_threshold)
        # An array of another library is told to be none of ours, not taken row by row.
        if isinstance(images, str | Path | np.ndarray | PilImage) or hasattr(images, "__array__"):
            picture: Any = images
            return self._run([place(picture, self.engine.canvas)], 1, minimum)[0]
        results = self._stream(images, minimum, return_exceptions)
        return results if isinstance(images, Iterator) else list(results)

    def warm_up(self, *batch_sizes: int) -> None:
        """Runs batches of black images, so that no later call has to compile.

        Args:
          *batch_sizes: 1 if calls are to be with one image, `batch_size` if with several; none is
            both.
        """
        side = self.engine.canvas
        for size in dict.fromkeys(batch_sizes or (1, self.batch_size)):
            canvases = np.zeros((size, side, side, 3), np.uint8)
            self.engine(canvases, np.full((size, 2), side, np.int32))

    def draw(self, image: Picture, result: Result) -> UInt8[np.ndarray, "H W 3"]:
        """The image, RGB, with boxes, names and scores drawn on it.

        Raises:
          ValueError: the result is of an image of another size.
        """
        picture = read_picture(image)
        if picture.shape[:2] != result.image_size:
            raise ValueError(
                f"the result is of an image of (height, width) {result.image_size}, this one has "
                f"{picture.shape[:2]}"
            )
        return draw_boxes(
            picture, result.boxes, result.names, labels=result.labels, scores=result.scores
        )

    def save(self, folder: str | Path, *, step: int = 0) -> None:
        """Writes a checkpoint that `from_checkpoint`, evaluate.py and detect.py take.

        It also is what train.py takes as --config.init, but no run that it could go on with.

        Args:
          folder: has to be new or without checkpoints.
          step: the step that it is of, for their messages.

        Raises:
          ValueError: there are checkpoints already, the engine has no variables, or its network is
            another than its config describes.
        """
        engine = self._jax_engine()
        if engine.model != build_model(engine.config, engine.class_names):
            raise ValueError(
                "the network is not the one that its config describes, so no checkpoint could say "
                "what it is: keep its variables by flax.serialization.to_bytes"
            )
        if (Path(folder) / FOLDER).exists():
            raise ValueError(f"{folder} holds checkpoints already: give another folder")
        checkpoints = Checkpoints(Path(folder), keep=1)
        meta = Meta(engine.config, engine.class_names)
        checkpoints.save_variables(step, {"batch_stats": {}, **engine.variables}, meta)
        checkpoints.close()

    def push_to_hub(
        self,
        repository: str,
        *,
        metrics: str | Path | None = None,
        private: bool | None = None,
    ) -> str:
        """Puts the detector on the Hugging Face Hub, with a model card.

        `from_checkpoint("hf://owner/name")` then has it back, but for the folders of its data.
        Needs huggingface_hub and a login with it (`hf auth login`).

        Args:
          repository: 'owner/name'; made if there is none, else its checkpoint is replaced.
          metrics: the metrics.json that evaluate.py wrote, for the card.
          private: whether a new repository is; None is as the owner has it by default.

        Returns:
          The address in the browser.

        Raises:
          ValueError: the engine has no variables, or huggingface_hub is not installed.
          OSError: the Hub cannot be reached, or does not let this user write there.
        """
        engine = self._jax_engine()
        config = publishable(engine.config)
        public = Detector(
            JaxEngine(config, engine.class_names, engine.variables, model=engine.model)
        )
        known = None if metrics is None else json.loads(Path(metrics).read_text(encoding="utf-8"))
        card = model_card(repository, config, engine.class_names, engine.model, known)
        with tempfile.TemporaryDirectory() as folder:
            public.save(folder)
            (Path(folder) / "README.md").write_text(card, encoding="utf-8")
            return hub.upload(Path(folder), repository, private=private)

    def _jax_engine(self) -> JaxEngine:
        if not isinstance(self.engine, JaxEngine):
            raise ValueError("only a detector of a checkpoint can be saved: copy the file instead")
        return self.engine

    def minimum_scores(self, threshold: Threshold) -> Float32[np.ndarray, " C"]:
        """The threshold of every class.

        Raises:
          ValueError: one is of no class, or not in 0..1.
        """
        named = dict(threshold) if isinstance(threshold, Mapping) else {}
        if unknown := sorted(named.keys() - set(self.class_names)):
            raise ValueError(
                f"a threshold for {', '.join(unknown)}: the classes are "
                f"{', '.join(self.class_names)}"
            )
        overall = SCORE_THRESHOLD if isinstance(threshold, Mapping) else threshold
        minimum = [named.get(name, overall) for name in self.class_names]
        for name, value in zip(self.class_names, minimum, strict=True):
            if not 0 <= value <= 1:
                raise ValueError(f"the score threshold of {name} is {value}: it must be in 0..1")
        return np.array(minimum, np.float32)

    def _stream(
        self,
        images: Iterable[Picture],
        minimum: Float32[np.ndarray, " C"],
        return_exceptions: bool,
    ) -> Iterator[Result | Exception]:
        """Results in the images' order; images are read and placed while the engine works."""
        may_refill = isinstance(images, Iterator)

        def take(image: Picture) -> Picture | Exception:
            """The image as it is now: PIL seeks and reads one in place, a loop fills one array."""
            try:
                if isinstance(image, PilImage):
                    return read_picture(image)
                return image.copy() if may_refill and isinstance(image, np.ndarray) else image
            except PICTURE_FAULTS as fault:
                return without_frames(fault)

        def try_place(image: Picture | Exception) -> Placed | Exception:
            try:
                if isinstance(image, Exception):
                    raise image
                return place(image, self.engine.canvas)
            except PICTURE_FAULTS as fault:
                if return_exceptions:
                    return without_frames(fault)
                raise

        def run(batch: list[Placed | Exception]) -> list[Result | Exception]:
            placed = [item for item in batch if isinstance(item, Placed)]
            results = iter(self._run(placed, self.batch_size, minimum) if placed else [])
            return [item if isinstance(item, Exception) else next(results) for item in batch]

        taken = map(take, images)
        placed = mapped(try_place, taken, threads=READERS, ahead=self.batch_size)
        batches = batched(placed, self.batch_size)
        for results in mapped(run, batches, threads=1, ahead=1):
            yield from results

    def _run(
        self, placed: list[Placed], batch_size: int, minimum: Float32[np.ndarray, " C"]
    ) -> list[Result]:
        """Results of at most `batch_size` images, run as so many."""
        side = self.engine.canvas
        canvases = np.zeros((batch_size, side, side, 3), np.uint8)
        sizes = np.ones((batch_size, 2), np.int32)
        for row, picture in enumerate(placed):
            canvases[row], sizes[row] = picture.canvas, picture.size
        found: Any = self.engine(canvases, sizes)
        return [
            self._result(found.boxes[row], found.scores[row], found.labels[row], picture, minimum)
            for row, picture in enumerate(placed)
        ]

    def _result(
        self,
        boxes: Float32[np.ndarray, "K 4"],
        scores: Float32[np.ndarray, " K"],
        labels: Int32[np.ndarray, " K"],
        picture: Placed,
        minimum: Float32[np.ndarray, " C"],
    ) -> Result:
        height, width = picture.original_size
        kept = (labels > 0) & (scores >= minimum[labels - 1])
        return Result(
            boxes=boxes[kept] * np.array([width, height] * 2, np.float32),
            scores=scores[kept],
            labels=labels[kept],
            names=[self.class_names[label - 1] for label in labels[kept]],
            image_size=picture.original_size,
        )


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
