"""All the figures of a split from one pass over its results."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from ssd_jax.evaluation.coco import CocoResult, coco_ap
from ssd_jax.evaluation.curves import BestF1, best_f1
from ssd_jax.evaluation.results import SplitResults
from ssd_jax.evaluation.voc import RankedDetections, ap_of_ranked, rank_detections

METRICS = {
    "voc07": "VOC07: mean of 11 points, IoU .5",
    "voc": "VOC10 on: area under the curve, IoU .5",
    "coco": "COCO: mean over IoU .5 to .95",
}


@dataclasses.dataclass(frozen=True)
class Scores:
    """The figures of a split.

    Attributes:
        ranked: every detection with the devkit's verdict at IoU .5.
        ap: by metric, AP of each class from class 1; NaN without objects.
        mean_ap: by metric, over the classes with objects; NaN where none has any.
        coco: COCO's, if asked for.
        best_f1: at IoU .5, of each class.
    """

    ranked: RankedDetections
    ap: dict[str, Float64[np.ndarray, "F"]]
    mean_ap: dict[str, float]
    coco: CocoResult | None
    best_f1: BestF1

    @property
    def metrics(self) -> list[str]:
        """The names of the metrics that there are."""
        return list(self.ap)


def score(
    results: SplitResults,
    metrics: Sequence[str],
    *,
    inclusive_pixels: bool,
    threshold_inclusive: bool,
) -> Scores:
    """Scores the detections of a split.

    Args:
        results: the objects and the detections.
        metrics: names of `METRICS`.
        inclusive_pixels, threshold_inclusive: of the VOC metrics, see `voc.rank_detections`.

    Raises:
        ValueError: no such metric, or a detection that no metric can take.
    """
    check_metrics(metrics)
    ranked = rank_detections(
        results.detections,
        results.ground_truth,
        num_classes=results.num_classes,
        inclusive_pixels=inclusive_pixels,
        threshold_inclusive=threshold_inclusive,
    )
    coco = coco_ap(results) if "coco" in metrics else None
    ap, mean_ap = {}, {}
    for metric in metrics:
        if coco and metric == "coco":
            ap[metric], mean_ap[metric] = coco.ap, coco.figures["AP"]
        else:
            voc = ap_of_ranked(ranked, eleven_point=metric == "voc07")
            ap[metric], mean_ap[metric] = voc.ap, voc.mean_ap
    return Scores(ranked, ap, mean_ap, coco, best_f1(ranked))


def check_metrics(metrics: Sequence[str]) -> None:
    """Raises a ValueError unless all are names of `METRICS`, and at least one."""
    unknown = [name for name in metrics if name not in METRICS]
    if unknown or not metrics:
        raise ValueError(
            f"no metric {', '.join(unknown) or 'given'}: there are {', '.join(METRICS)}"
        )
