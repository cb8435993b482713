"""What every metric takes: the objects of a split and what was found, image by image."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Integer


@dataclasses.dataclass(frozen=True)
class ImageDetections:
    """What was found in one image, in any order: boxes in pixels, corner form; classes from 1."""

    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, "n"]
    labels: Integer[np.ndarray, "n"]

    def __post_init__(self) -> None:
        """Check that there is one score and one label a box."""
        _check_rows(self.boxes, scores=self.scores, labels=self.labels)


@dataclasses.dataclass(frozen=True)
class ImageGroundTruth:
    """The objects of one image: boxes in pixels, corner form; classes from 1.

    Attributes:
        difficult: VOC's mark of objects that count for nothing either way.
        crowd: COCO's mark of regions of many objects, which count for nothing either way.
        area: of the object as annotated (its mask's, where it has one), pixels^2.
    """

    boxes: Float[np.ndarray, "m 4"]
    labels: Integer[np.ndarray, "m"]
    difficult: Bool[np.ndarray, "m"]
    crowd: Bool[np.ndarray, "m"]
    area: Float[np.ndarray, "m"]

    def __post_init__(self) -> None:
        """Check that there is one label, mark and area a box."""
        columns = {name: getattr(self, name) for name in ("labels", "difficult", "crowd", "area")}
        _check_rows(self.boxes, **columns)

    @property
    def ignored(self) -> Bool[np.ndarray, "m"]:
        """Objects that it is neither right nor wrong to find."""
        return self.difficult | self.crowd


def _check_rows(boxes: np.ndarray, **columns: np.ndarray) -> None:
    for name, values in columns.items():
        if boxes.shape != (len(values), 4):
            raise ValueError(f"boxes {boxes.shape} and {name} {values.shape} do not go together")


@dataclasses.dataclass(frozen=True)
class SplitResults:
    """A split with its objects and the detections on it; every list has one entry an image.

    Attributes:
        dataset: its name.
        split: its name.
        class_names: without background: label k is `class_names[k - 1]`.
        category_ids: the dataset's own number of label k is `category_ids[k - 1]`.
        image_ids: the dataset's own number of each image.
        image_names: the files' names.
        image_sizes: (height, width), pixels.
        detections: what was found.
        ground_truth: what is there.
    """

    dataset: str
    split: str
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    image_ids: list[int]
    image_names: list[str]
    image_sizes: list[tuple[int, int]]
    detections: list[ImageDetections]
    ground_truth: list[ImageGroundTruth]

    @property
    def num_classes(self) -> int:
        """With background."""
        return len(self.class_names) + 1

    def __len__(self) -> int:
        return len(self.image_ids)
