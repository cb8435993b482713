"""The embedded dataset: six classes of drawn shapes, made from a seed in seconds.

It is there so that the whole path, from records on disk to an average precision, runs anywhere
without a download. Stored through TFDS with the features of its `voc`, as array_record.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds

from ssd_jax.data.example import Dataset
from ssd_jax.data.shapes_drawing import CLASS_NAMES, DIFFICULT_BELOW, ShapesPicture, draw_picture
from ssd_jax.data.tfds_source import TfdsSource, prepare

_SEED = 20160208
_JPEG_QUALITY = 92


class ShapesConfig(tfds.core.BuilderConfig):
    """How many pictures a preparation draws. Picture i of a split is the same in every config."""

    def __init__(self, *, train_images: int, test_images: int, **kwargs: Any) -> None:
        """Sets the number of pictures of both splits."""
        super().__init__(**kwargs)
        self.images = {"train": train_images, "test": test_images}


class Shapes(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Coloured, textured, overlapping shapes over textured, cluttered backgrounds."""

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {"1.1.0": "More hidden objects and more clutter.", "1.0.0": "First release."}
    BUILDER_CONFIGS = [
        ShapesConfig(name="full", train_images=4000, test_images=500, description="For training."),
        ShapesConfig(name="small", train_images=384, test_images=96, description="For tests."),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        classes = tfds.features.ClassLabel(names=CLASS_NAMES)
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "image/filename": tfds.features.Text(),
                    "objects": tfds.features.Sequence(
                        {
                            "label": classes,
                            "bbox": tfds.features.BBoxFeature(),
                            "is_truncated": np.bool_,
                            "is_difficult": np.bool_,
                        }
                    ),
                    "labels": tfds.features.Sequence(classes),
                    "labels_no_difficult": tfds.features.Sequence(classes),
                }
            ),
            # Stored in the order of their numbers: picture i is row i.
            disable_shuffling=True,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager  # nothing is downloaded
        images = self.builder_config.images
        return {split: self._generate_examples(split, images[split]) for split in images}

    def _generate_examples(self, split: str, images: int) -> Iterator[tuple[int, dict[str, Any]]]:
        for number in range(images):
            yield number, _features(picture(split, number), f"{split}_{number:05d}.jpg")


def picture(split: str, number: int) -> ShapesPicture:
    """Draws picture `number` (from 0) of 'train' or 'test': two streams that share no seed."""
    stream = ("train", "test").index(split)
    return draw_picture(np.random.default_rng([_SEED, stream, number]))


def _features(drawn: ShapesPicture, name: str) -> dict[str, Any]:
    height, width = drawn.image.shape[:2]
    flags = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(drawn.image, cv2.COLOR_RGB2BGR), flags)
    difficult = drawn.visible < DIFFICULT_BELOW
    names = [CLASS_NAMES[label - 1] for label in drawn.labels]
    boxes = (drawn.boxes / np.array([width, height, width, height], np.float32)).tolist()
    return {
        "image": encoded.tobytes(),
        "image/filename": name,
        "objects": [
            {
                "label": label,
                "bbox": tfds.features.BBox(ymin=ymin, xmin=xmin, ymax=ymax, xmax=xmax),
                "is_truncated": bool(visible < 1),
                "is_difficult": bool(hard),
            }
            for label, (xmin, ymin, xmax, ymax), visible, hard in zip(
                names, boxes, drawn.visible, difficult, strict=True
            )
        ],
        "labels": sorted(set(names)),
        "labels_no_difficult": sorted(
            {label for label, hard in zip(names, difficult, strict=True) if not hard}
        ),
    }


def load_shapes(split: str, *, data_dir: str = "", config: str = "full") -> Dataset:
    """Prepares the dataset if it is not there yet (about 20 s), and opens a split.

    Args:
      split: 'train' or 'test', or a part of one as TFDS writes it ('train[:64]').
      data_dir: TFDS's folder of datasets; '' for its default (~/tensorflow_datasets).
      config: 'full' (4000 + 500 pictures) or 'small' (384 + 96, for tests).

    Returns:
      The split.
    """
    builder = prepare(Shapes(data_dir=data_dir or None, config=config))
    return Dataset("shapes", split, TfdsSource(builder.data_path, split), CLASS_NAMES)
