"""A batch as the device takes it, read and decoded from rows of a dataset."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypedDict

import jax
import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, Int64, Shaped, UInt8

from ssd_jax.data.example import Dataset, Example
from ssd_jax.data.images import decode_to_fit
from ssd_jax.data.policies import Policies, fill_order, training_labels


class Batch(TypedDict):
    """B images with their objects. S is the canvas' side, N the number of ground-truth slots.

    Attributes:
      image: RGB pictures at the top left of black canvases; on the device where it is the cache.
      size: (height, width) of each picture on its canvas, pixels.
      original_size: (height, width) of each picture before it was shrunk.
      boxes: Corners [xmin, ymin, xmax, ymax], relative to the picture; 0 where there is none.
      labels: Classes from 1; 0 where there is none; -1 an object that training ignores.
      difficult: VOC's mark of objects outside the evaluation.
      index: Row of the source; -1 in the rows that fill up the last evaluation batch.
      image_id: The dataset's own number of each image; -1 in rows that fill up.
      name: File names; '' in rows that fill up.
      skipped: Row of the source that belongs here but cannot be decoded; -1 where all is well.
    """

    image: UInt8[np.ndarray, "B S S 3"] | UInt8[jax.Array, "B S S 3"]
    size: Int32[np.ndarray, "B 2"]
    original_size: Int32[np.ndarray, "B 2"]
    boxes: Float32[np.ndarray, "B N 4"]
    labels: Int32[np.ndarray, "B N"]
    difficult: Bool[np.ndarray, "B N"]
    index: Int64[np.ndarray, " B"]
    image_id: Int64[np.ndarray, " B"]
    name: Shaped[np.ndarray, " B"]
    skipped: Int64[np.ndarray, " B"]


def empty_batch(count: int, canvas_size: int, slots: int) -> Batch:
    """A batch of rows that hold no image: black canvases of size (1, 1), no objects."""
    return Batch(
        image=np.zeros((count, canvas_size, canvas_size, 3), np.uint8),
        size=np.ones((count, 2), np.int32),
        original_size=np.ones((count, 2), np.int32),
        boxes=np.zeros((count, slots, 4), np.float32),
        labels=np.zeros((count, slots), np.int32),
        difficult=np.zeros((count, slots), np.bool_),
        index=np.full(count, -1, np.int64),
        image_id=np.full(count, -1, np.int64),
        name=np.array([""] * count),
        skipped=np.full(count, -1, np.int64),
    )


def load_batch(
    positions: Int[np.ndarray, " total"],
    *,
    dataset: Dataset,
    rows: Int64[np.ndarray, " rows"],
    share: slice,
    canvas_size: int,
    slots: int,
    policies: Policies,
    replace_skipped: bool,
    squash: bool,
) -> Batch:
    """Reads and decodes a share of a global batch.

    Args:
      positions: Which of `rows` make the global batch; those past the last stay empty.
      dataset: Where the rows are from.
      rows: Rows of the dataset's source.
      share: The part of the batch to load.
      canvas_size: Side of the canvas, pixels.
      slots: Ground-truth slots of an image.
      policies: What becomes of objects, and of images that cannot be decoded.
      replace_skipped: An image that cannot be decoded gives its place to the next of `rows` that
        can be, beginning anew after the last; otherwise its place stays empty.
      squash: As of `decode_to_fit`.

    Raises:
      FileNotFoundError: An image is not there.
      ValueError: An image cannot be decoded, or lies damaged in a zip, and is not to be skipped; or
        none can be.
    """
    positions = positions[share]
    # Clearing what a picture covers would cost as much again as writing it.
    canvases = np.empty((len(positions), canvas_size, canvas_size, 3), np.uint8)
    batch = empty_batch(len(positions), 0, slots)
    batch["image"] = canvases
    names = batch["name"].tolist()
    for i in np.flatnonzero(positions < len(rows)).tolist():
        place = int(positions[i])
        ahead = len(rows) if replace_skipped else 1
        candidates = (int(rows[(place + k) % len(rows)]) for k in range(ahead))
        found = _first_decodable(candidates, dataset, canvas_size, policies, squash)
        if found is None and replace_skipped:
            raise ValueError(f"no image of {dataset.name}, split {dataset.split!r}, can be decoded")
        if found is None or found.row != rows[place]:
            batch["skipped"][i] = rows[place]
        if found is not None:
            height, width = batch["size"][i] = found.picture.shape[:2]
            canvases[i, :height, :width] = found.picture
            canvases[i, :height, width:] = 0
            canvases[i, height:] = 0
            batch["original_size"][i] = found.original_size
            batch["index"][i] = found.row
            batch["image_id"][i] = found.example["image_id"]
            names[i] = found.example["name"]
            _set_objects(batch, i, found.example, policies)
    canvases[batch["index"] < 0] = 0
    batch["name"] = np.array(names)
    return batch


class _Decoded(NamedTuple):
    row: int
    example: Example
    picture: UInt8[np.ndarray, "h w 3"]
    original_size: tuple[int, int]


def _first_decodable(
    candidates: Iterable[int],
    dataset: Dataset,
    canvas_size: int,
    policies: Policies,
    squash: bool,
) -> _Decoded | None:
    """The first of some rows whose image can be read and decoded; None if there is none."""
    for row in candidates:
        try:
            example = dataset.source[row]
            name = f"{example['name']} of {dataset.name}, split {dataset.split}"
            picture, size = decode_to_fit(
                example["image"], name, canvas_size, turned=example["turned"], squash=squash
            )
        except ValueError:
            if policies.undecodable == "error":
                raise
        else:
            return _Decoded(row, example, picture, size)
    return None


def _set_objects(batch: Batch, i: int, example: Example, policies: Policies) -> None:
    """Fills the slots of a row with the objects that the policies leave."""
    labels = training_labels(example["labels"], example["difficult"], example["crowd"], policies)
    kept = fill_order(labels, example["boxes"], batch["labels"].shape[1])
    batch["boxes"][i, : len(kept)] = example["boxes"][kept]
    batch["labels"][i, : len(kept)] = labels[kept]
    batch["difficult"][i, : len(kept)] = example["difficult"][kept]
