"""What training does with objects and images that are hard to learn from: named, and counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, Int64

from ssd_jax.data.example import Dataset
from ssd_jax.data.objects import Objects

IGNORED = -1
"""The label of an object that is neither trained on nor background (see `ssd_jax.matching`)."""

OPTIONS = {
    "difficult": ("train", "ignore", "drop"),
    "crowd": ("ignore", "drop"),
    "background": ("keep", "drop"),
    "undecodable": ("error", "skip"),
    "overfull": ("raise", "drop"),
}


@dataclass(frozen=True)
class Policies:
    """The fields of a recipe's `data` section that bear these names.

    Attributes:
      difficult: Objects marked so: 'train' on them; 'ignore' them, neither positive nor negative;
        or 'drop' them, so that they are background.
      crowd: Regions of many objects: 'ignore' or 'drop'.
      background: Images without an object to train on: 'keep' or 'drop'. Whether those kept teach
        the background is `loss.min_negatives`: 0, nothing, or so many of their hardest priors.
      undecodable: Images that cannot be decoded: an 'error', or 'skip' them.
      overfull: Images of more objects than `data.slots`: 'raise' the slots to hold them, or 'drop'
        the smallest of their objects.

    Raises:
      ValueError: One is none of its options.
    """

    difficult: str = "train"
    crowd: str = "drop"
    background: str = "keep"
    undecodable: str = "error"
    overfull: str = "raise"

    def __post_init__(self) -> None:
        for name, options in OPTIONS.items():
            if (met := getattr(self, name)) not in options:
                raise ValueError(f"data.{name} is {met!r}: it must be one of {', '.join(options)}")

    @classmethod
    def from_settings(cls, settings: Any) -> Policies:
        """The policies of a recipe's `data` section."""
        return cls(**{name: getattr(settings, name) for name in OPTIONS})


ORIGINAL = Policies()
"""What Caffe's VOC recipe does."""


def check_readable(dataset: Dataset, policies: Policies) -> None:
    """Refuses at once what would stop a run at the image's turn.

    Raises:
      ValueError: an image has no size that could be read, and such images are errors.
    """
    unreadable = getattr(dataset.source, "unreadable", ())
    if unreadable and policies.undecodable == "error":
        raise ValueError(
            f"image {unreadable[0]} cannot be read: replace the file, take it out of "
            f"{dataset.split!r}, or leave such images out by data.undecodable=skip"
        )


def training_labels(
    labels: Int32[np.ndarray, " n"],
    difficult: Bool[np.ndarray, " n"],
    crowd: Bool[np.ndarray, " n"],
    policies: Policies,
) -> Int32[np.ndarray, " n"]:
    """Labels as training sees them: a class, IGNORED, or 0 for an object that is left out."""
    instead = {"ignore": IGNORED, "drop": 0}
    if policies.difficult != "train":
        labels = np.where(difficult, np.int32(instead[policies.difficult]), labels)
    return np.where(crowd, np.int32(instead[policies.crowd]), labels)


def fill_order(
    labels: Int32[np.ndarray, " n"], boxes: Float32[np.ndarray, "n 4"], slots: int
) -> Int[np.ndarray, " m"]:
    """Which objects of an image go to its slots, in order: those to train on, then the ignored.

    Args:
      labels: As `training_labels` gives them.
      boxes: Corners.
      slots: How many may go; of more, the smallest stay out, the ignored before all others.
    """
    kept = np.flatnonzero(labels)
    if len(kept) > slots:
        sides = boxes[kept, 2:] - boxes[kept, :2]
        rank = np.lexsort((-sides[:, 0] * sides[:, 1], labels[kept] == IGNORED))
        kept = np.sort(kept[rank[:slots]])
    return kept[np.argsort(labels[kept] == IGNORED, kind="stable")]


@dataclass(frozen=True)
class Plan:
    """What the policies make of a split.

    Attributes:
      rows: Rows of the source to train on.
      slots: Ground-truth slots of every image.
      lines: What was ignored, dropped or raised, with counts, for the log; empty if nothing was.
    """

    rows: Int64[np.ndarray, " rows"]
    slots: int
    lines: tuple[str, ...]


def plan(dataset: Dataset, policies: Policies, slots: int) -> Plan:
    """Applies policies to the annotations of a split; no image is read.

    Args:
      dataset: The split.
      policies: What to do.
      slots: Slots wanted; 0: as many as the fullest image needs.

    Raises:
      ValueError: The split is empty, or no image of it is left.
    """
    if len(dataset) == 0:
        raise ValueError(
            f"split {dataset.split!r} of {dataset.name} is empty: choose another split"
        )
    planned = plan_objects(dataset.source.objects, policies, slots)
    if len(planned.rows) == 0:
        raise ValueError(
            f"split {dataset.split!r} of {dataset.name} has no image to train on: "
            "choose another split, or set data.background to 'keep'"
        )
    return planned


def plan_objects(objects: Objects, policies: Policies, slots: int) -> Plan:
    """What `plan` does, without its errors."""
    labels = training_labels(objects.labels, objects.difficult, objects.crowd, policies)
    lines = []
    for what, marked, policy in (
        ("difficult objects", objects.difficult & ~objects.crowd, policies.difficult),
        ("crowd regions", objects.crowd, policies.crowd),
    ):
        if marked.any():
            lines.append(f"{int(marked.sum())} {what}: {_DONE[policy]} (data.{what.split()[0]})")
    empty = objects.count(labels > 0) == 0
    if empty.any():
        done = _DONE[policies.background]
        lines.append(f"{int(empty.sum())} images without an object: {done} (data.background)")
    rows = np.flatnonzero(~empty | (policies.background == "keep"))
    counts = objects.count(labels != 0)[rows]
    fullest = int(counts.max(initial=1))
    if slots and fullest > slots and policies.overfull == "drop":
        lines.append(
            f"{int(np.maximum(counts - slots, 0).sum())} objects dropped, the smallest of "
            f"{int(np.sum(counts > slots))} images of more than {slots} (data.overfull)"
        )
        return Plan(rows, slots, tuple(lines))
    if slots and fullest > slots:
        lines.append(f"{slots} slots raised to {fullest}, for the fullest image (data.overfull)")
    return Plan(rows, max(slots, fullest), tuple(lines))


_DONE = {"train": "trained on", "ignore": "ignored", "drop": "dropped", "keep": "kept"}
