"""Figures of a split's objects, and what in them bodes ill for a run."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from ssd_jax.data.objects import Objects
from ssd_jax.prior_fit import best_overlaps
from ssd_jax.priors import PriorSpec

SIDES = (0.05, 0.1, 0.2, 0.4)
"""Where size buckets end: root of an object's area, relative to the image."""

POOR_RECALL = 0.85
"""Below this share of objects within reach of a prior, other priors are worth a search."""

_FEW = 20  # objects of a class or bucket, below which its recall says little


@dataclass(frozen=True)
class PriorFit:
    """Shares of the objects that some prior overlaps with an IoU of at least .5.

    Attributes:
      recall: By class and size bucket, the last of each being all; NaN where there is no object.
      counts: Objects in each.
    """

    recall: Float64[np.ndarray, "classes_and_all buckets_and_all"]
    counts: Int64[np.ndarray, "classes_and_all buckets_and_all"]

    @property
    def overall(self) -> float:
        """The share of all objects."""
        return float(self.recall[-1, -1])

    @property
    def is_poor(self) -> bool:
        """Whether too few are within reach: of all, or of a class of which there are some."""
        enough = self.counts[:-1, -1] >= _FEW
        worst = np.min(self.recall[:-1, -1][enough], initial=1.0)
        return self.overall < POOR_RECALL or bool(worst < POOR_RECALL - 0.15)


def fit_priors(objects: Objects, classes: int, spec: PriorSpec) -> PriorFit:
    """How well priors fit the objects of a split, crowds left out."""
    alone = ~objects.crowd
    overlaps = best_overlaps(objects.boxes[alone], spec)
    counts = _class_by_bucket(objects, classes, np.ones(len(overlaps), np.bool_))
    within = _class_by_bucket(objects, classes, overlaps >= 0.5)
    with np.errstate(invalid="ignore"):
        return PriorFit(within / counts, counts)


def bucket_counts(objects: Objects) -> Int64[np.ndarray, " buckets"]:
    """Objects in each size bucket, crowds left out."""
    alone = ~objects.crowd
    return np.bincount(_buckets(objects)[alone], minlength=len(SIDES) + 1)


def class_counts(objects: Objects, classes: int) -> Int64[np.ndarray, " classes"]:
    """Objects of each class, crowds left out."""
    return np.bincount(objects.labels[~objects.crowd], minlength=classes + 1)[1:]


def bucket_names(spec: PriorSpec) -> list[str]:
    """Names of the size buckets in pixels of the network's input: '15-30'."""
    pixels = [round(side * np.sqrt(spec.image_size[0] * spec.image_size[1])) for side in SIDES]
    return [
        f"<{pixels[0]}",
        *(f"{low}-{high}" for low, high in itertools.pairwise(pixels)),
        f">{pixels[-1]}",
    ]


def forebodings(
    train: Objects, evaluated: Objects, class_names: Sequence[str], spec: PriorSpec
) -> list[str]:
    """What in the annotations of the two splits a run will suffer from, one line each."""
    lines = []
    classes = len(class_names)
    counts, eval_counts = class_counts(train, classes), class_counts(evaluated, classes)
    if missing := [name for name, n in zip(class_names, counts, strict=True) if n == 0]:
        lines.append(f"no object to train on of {', '.join(missing)}")
    if missing := [name for name, n in zip(class_names, eval_counts, strict=True) if n == 0]:
        lines.append(f"no object to evaluate of {', '.join(missing)}")
    folded: dict[str, list[str]] = {}
    for name in class_names:
        folded.setdefault("".join(name.lower().split()), []).append(name)
    for alike in folded.values():
        if len(alike) > 1:
            lines.append(f"classes that may be one: {', '.join(map(repr, alike))}")
    if counts.sum() == 0:
        return lines
    fit = fit_priors(train, classes, spec)
    if fit.is_poor:
        lines.append(
            f"the priors fit poorly, {_poor_text(fit, class_names, spec)}: "
            "python -m ssd_jax.data.check proposes others"
        )
    return lines


def _poor_text(fit: PriorFit, class_names: Sequence[str], spec: PriorSpec) -> str:
    parts = [f"an IoU of .5 with {fit.overall:.0%} of the objects"]
    for names, recall, counts in (
        (class_names, fit.recall[:-1, -1], fit.counts[:-1, -1]),
        ([f"{name} pixels" for name in bucket_names(spec)], fit.recall[-1, :-1], fit.counts[-1]),
    ):
        for name, share, count in zip(names, recall, counts, strict=False):
            if count >= _FEW and share < POOR_RECALL - 0.15:
                parts.append(f"{share:.0%} of {name}")
    return ", ".join(parts)


def _buckets(objects: Objects) -> Int64[np.ndarray, " n"]:
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    return np.searchsorted(SIDES, np.sqrt(sides[:, 0] * sides[:, 1]), side="right")


def _class_by_bucket(
    objects: Objects, classes: int, wanted: np.ndarray
) -> Int64[np.ndarray, "classes_and_all buckets_and_all"]:
    """Counts of the wanted ones of the objects that are no crowds, with their sums at the end."""
    alone = ~objects.crowd
    table = np.zeros((classes + 1, len(SIDES) + 2), np.int64)
    labels, buckets = objects.labels[alone][wanted] - 1, _buckets(objects)[alone][wanted]
    np.add.at(table, (labels, buckets), 1)
    table[:-1, -1] = table[:-1, :-1].sum(axis=1)
    table[-1] = table[:-1].sum(axis=0)
    return table
