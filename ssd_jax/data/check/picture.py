"""What a check found, as a picture: four charts, and images with their boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from ssd_jax.charts import INK, PALETTE, PAPER, Series, bars, points
from ssd_jax.data.check.listing import Entry
from ssd_jax.data.check.report import Split
from ssd_jax.data.check.summary import PriorFit, bucket_names, class_counts
from ssd_jax.data.images import decode_image, is_turned
from ssd_jax.priors import PriorSpec, cell_shapes
from ssd_jax.visualize import contact_sheet, draw_boxes, draw_text

_PANEL = (420, 620)
_COLUMNS = 4
_POINTS = 4000
_MOST_OBJECTS_BARS = 9
_CAPTION = "images with problems, then those with the objects that the priors fit worst"


def draw(
    splits: Sequence[Split],
    class_names: Sequence[str],
    spec: PriorSpec,
    fits: Sequence[tuple[str, PriorSpec, PriorFit]],
    examples: Sequence[Entry],
) -> UInt8[np.ndarray, "H W 3"]:
    """The whole picture.

    Args:
      splits: The first is the training split.
      class_names: Label k is `class_names[k - 1]`.
      spec: The recipe's priors.
      fits: (name, priors, fit to the training split): the recipe's, and those proposed.
      examples: Images to show with their boxes.
    """
    panels = [
        _classes(splits, class_names),
        _objects_an_image(splits),
        _sizes(splits[0], fits, spec),
        _recalls(fits, spec),
    ]
    charts = np.concatenate(
        [np.concatenate(panels[:2], axis=1), np.concatenate(panels[2:], axis=1)], axis=0
    )
    drawn = [
        picture for entry in examples if (picture := _with_boxes(entry, class_names)) is not None
    ]
    if not drawn:
        return charts
    width = charts.shape[1] // _COLUMNS
    sheet = contact_sheet(drawn, columns=_COLUMNS, cell=(width * 3 // 4, width))
    margin = np.full((sheet.shape[0], charts.shape[1] - sheet.shape[1], 3), sheet[0, 0], np.uint8)
    caption = np.full((36, charts.shape[1], 3), PAPER, np.uint8)
    draw_text(caption, _CAPTION, (14, 24), INK, 17)
    return np.concatenate([charts, caption, np.concatenate([sheet, margin], axis=1)], axis=0)


def _classes(splits: Sequence[Split], names: Sequence[str]) -> UInt8[np.ndarray, "H W 3"]:
    counts = [class_counts(split.objects, len(names)) for split in splits]
    order = np.argsort(-counts[0], kind="stable")
    return bars(
        "objects by class",
        [names[k] for k in order],
        [
            Series(split.name, of_split[order].tolist())
            for split, of_split in zip(splits, counts, strict=True)
        ],
        size=_PANEL,
    )


def _objects_an_image(splits: Sequence[Split]) -> UInt8[np.ndarray, "H W 3"]:
    counts = [split.objects.count(~split.objects.crowd) for split in splits]
    most = max(int(of_split.max(initial=0)) for of_split in counts)
    width = max(1, -(-(most + 1) // _MOST_OBJECTS_BARS))
    starts = range(0, most + 1, width)
    labels = [f"{low}" if width == 1 else f"{low}-{low + width - 1}" for low in starts]
    return bars(
        "images by number of objects",
        labels,
        [
            Series(split.name, np.bincount(of_split // width, minlength=len(labels)).tolist())
            for split, of_split in zip(splits, counts, strict=True)
        ],
        size=_PANEL,
    )


def _sizes(
    train: Split, fits: Sequence[tuple[str, PriorSpec, PriorFit]], spec: PriorSpec
) -> UInt8[np.ndarray, "H W 3"]:
    height, width = spec.image_size
    boxes = train.objects.boxes[~train.objects.crowd]
    boxes = boxes[:: max(1, len(boxes) // _POINTS)]
    sides = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64) * (width, height)
    return points(
        "boxes and priors: width and height in the network's input",
        [(f"objects of {train.name}", sides)]
        + [(name, _shapes(of_fit)) for name, of_fit, _ in fits],
        axes=("width", "height"),
        limit=float(max(spec.image_size)),
        size=_PANEL,
    )


def _shapes(spec: PriorSpec) -> np.ndarray:
    """(width, height) in pixels of the priors of every level's cell."""
    levels = zip(spec.min_sizes, spec.max_sizes, spec.aspect_ratios, strict=True)
    return np.concatenate([cell_shapes(*level) for level in levels])


def _recalls(
    fits: Sequence[tuple[str, PriorSpec, PriorFit]], spec: PriorSpec
) -> UInt8[np.ndarray, "H W 3"]:
    return bars(
        "share of objects with a prior of IoU .5, by size in pixels",
        [*bucket_names(spec), "all"],
        [Series(name, fit.recall[-1].tolist()) for name, _, fit in fits],
        size=_PANEL,
        form="{:.3f}",
        palette=PALETTE[1:],  # as in the chart beside
    )


def _with_boxes(entry: Entry, class_names: Sequence[str]) -> UInt8[np.ndarray, "H W 3"] | None:
    """The image with its boxes as annotated; None where it cannot be decoded."""
    try:
        data = entry.read()
        turned = entry.size is not None and is_turned(data, entry.size)
        image = decode_image(data, entry.file, turned=turned)
    except (OSError, ValueError):
        return None
    height, width = image.shape[:2]
    scale = np.array([width, height, width, height], np.float64) if entry.relative else np.ones(4)
    labels = [class_names.index(name) + 1 for name in entry.names]
    return draw_boxes(image, entry.boxes * scale, entry.names, labels=labels)
