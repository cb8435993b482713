"""What precision, recall and scores have to do with each other, a class at a time."""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int

from ssd_jax.evaluation.voc import RankedDetections


class Curve(NamedTuple):
    """Precision and recall of the detections that score at least so much, by falling score."""

    scores: Float64[np.ndarray, "n"]
    recall: Float64[np.ndarray, "n"]
    precision: Float64[np.ndarray, "n"]


class BestF1(NamedTuple):
    """The highest F1 of each class and the score threshold that reaches it, from class 1.

    NaN for a class without objects; F1 0 and no threshold (NaN) where nothing is found.
    """

    f1: Float64[np.ndarray, "F"]
    threshold: Float64[np.ndarray, "F"]

    @property
    def operating_threshold(self) -> Float64[np.ndarray, "F"]:
        """The thresholds, .5 where there is none."""
        return np.where(np.isnan(self.threshold), 0.5, self.threshold)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How often detections of about one score are right.

    Attributes:
        edges: of the bins of scores.
        score: mean score in each bin, NaN in an empty one.
        precision: share of hits in each bin, NaN in an empty one.
        count: detections in each bin.
        error: mean distance of precision and score, weighted by count (the expected calibration
            error of Guo et al., arXiv 1706.04599); NaN without detections.
    """

    edges: Float64[np.ndarray, "E"]
    score: Float64[np.ndarray, "b"]
    precision: Float64[np.ndarray, "b"]
    count: Int[np.ndarray, "b"]
    error: float


def precision_recall(ranked: RankedDetections, label: int) -> Curve:
    """The curve of a class with objects: one point for each score that there is."""
    counted = _counted(ranked, label)
    scores, hits = ranked.scores[counted], np.cumsum(ranked.hit[counted])
    last = np.append(scores[1:] != scores[:-1], True)[: len(scores)]  # of its score
    found = np.arange(1, len(scores) + 1)[last]
    objects = ranked.num_ground_truth[label - 1]
    return Curve(scores[last], hits[last] / objects, hits[last] / found)


def best_f1(ranked: RankedDetections) -> BestF1:
    """The highest harmonic mean of precision and recall of each class."""
    best = np.full((2, len(ranked.num_ground_truth)), np.nan)
    for k in np.flatnonzero(ranked.num_ground_truth):
        curve = precision_recall(ranked, int(k) + 1)
        both = curve.precision + curve.recall
        f1 = np.divide(
            2 * curve.precision * curve.recall, both, out=np.zeros_like(both), where=both > 0
        )
        best[0, k] = f1.max(initial=0)
        if f1.any():
            best[1, k] = curve.scores[np.argmax(f1)]
    return BestF1(best[0], best[1])


def calibration(ranked: RankedDetections, label: int | None = None, bins: int = 10) -> Calibration:
    """How far the scores of a class, or of all, are the probabilities of a hit."""
    counted = ranked.counts if label is None else _counted(ranked, label)
    scores, hit = ranked.scores[counted], ranked.hit[counted]
    of_bin = np.clip((scores * bins).astype(int), 0, bins - 1)
    count = np.bincount(of_bin, minlength=bins)
    unknown = np.full(bins, np.nan)
    score = np.divide(
        np.bincount(of_bin, scores, minlength=bins), count, out=unknown.copy(), where=count > 0
    )
    precision = np.divide(
        np.bincount(of_bin, hit, minlength=bins), count, out=unknown, where=count > 0
    )
    gaps = np.abs(precision - score)[count > 0]
    error = float(np.average(gaps, weights=count[count > 0])) if len(scores) else float("nan")
    return Calibration(np.linspace(0, 1, bins + 1), score, precision, count, error)


def _counted(ranked: RankedDetections, label: int) -> Bool[np.ndarray, "n"]:
    """The detections of a class that are hits or false positives."""
    counted = np.zeros_like(ranked.counts)
    of_class = ranked.of_class(label)
    counted[of_class] = ranked.counts[of_class]
    return counted
