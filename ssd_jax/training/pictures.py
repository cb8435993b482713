"""The training batch as the network sees it: augmented pictures with the priors that match."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int, UInt8
from ml_collections import ConfigDict

from ssd_jax.boxes import center_to_corner, decode
from ssd_jax.model import SSD
from ssd_jax.priors import prior_boxes
from ssd_jax.sharding import rows_here
from ssd_jax.training.objective import BATCH_FIELDS, build_samples, row_keys
from ssd_jax.visualize import contact_sheet, draw_boxes

_COLUMNS = 4
_CELL = 320  # pixels of a side of a cell of the sheet
_SIDE = _CELL - 4  # of its picture, which is then drawn as it is
_MATCHED = (255, 255, 255)


def build_draw(
    config: ConfigDict, model: SSD, class_names: tuple[str, ...]
) -> Callable[[Mapping[str, Any], int], UInt8[np.ndarray, "H W 3"]] | None:
    """The function (batch, step counted from 1) -> sheet of `train.pictures` pictures; None for 0.

    White are the priors that are to find an object, in the colour of its class the object, as the
    offsets to reach give it.
    """
    count = config.train.pictures
    if not count:
        return None
    samples_of = build_samples(config, model.priors)
    priors = jnp.asarray(prior_boxes(model.priors))
    mean, std = np.array(config.model.mean, np.float32), np.array(config.model.std, np.float32)

    @jax.jit
    def view(keys: Array, batch: Mapping[str, Array]) -> tuple[Array, Array, Array, Array]:
        """Pictures, corners of the priors and of what each is to find, and its class."""
        images, offsets, labels = samples_of(keys, batch)
        objects = jax.vmap(lambda of_image: decode(of_image, priors, model.priors.variances))(
            offsets
        )
        return images, center_to_corner(priors), objects, labels

    def draw(batch: Mapping[str, Any], step: int) -> UInt8[np.ndarray, "H W 3"]:
        rows = {name: rows_here(batch[name])[:count] for name in BATCH_FIELDS}
        keys = row_keys(config.seed, step - 1, len(rows["image"]))
        images, corners, objects, labels = jax.device_get(view(keys, rows))
        pixels = np.clip(np.rint(images * std + mean), 0, 255).astype(np.uint8)
        drawn = [
            _draw_matches(picture, corners[of > 0], found[of > 0], of[of > 0], class_names)
            for picture, found, of in zip(pixels, objects, labels, strict=True)
        ]
        return contact_sheet(drawn, columns=_COLUMNS, cell=(_CELL, _CELL))

    return draw


def _draw_matches(
    picture: UInt8[np.ndarray, "h w 3"],
    priors: Float[np.ndarray, "n 4"],
    objects: Float[np.ndarray, "n 4"],
    labels: Int[np.ndarray, "n"],
    class_names: Sequence[str],
) -> UInt8[np.ndarray, "H W 3"]:
    """Both boxes of each prior, relative to the picture, and the object's class."""
    # Enlarged first, so that lines stay thin on the pictures of a small network.
    scale = np.float32(_SIDE)
    drawn = cv2.resize(picture, (_SIDE, _SIDE), interpolation=cv2.INTER_LINEAR)
    for corners in np.rint(priors * scale).astype(int).tolist():
        cv2.rectangle(drawn, corners[:2], corners[2:], _MATCHED)
    # The priors of one object give it alike but for rounding.
    _, first = np.unique(np.rint(objects * scale), axis=0, return_index=True)
    names = [class_names[label - 1] for label in labels[first]]
    return draw_boxes(drawn, objects[first] * scale, names, labels=labels[first])
