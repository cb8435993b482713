"""The report: one HTML file with its data, pictures, style and script in it."""

import dataclasses
import importlib.resources
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ssd_jax.evaluation.coco import SIZES
from ssd_jax.evaluation.confusion import confusion_matrix
from ssd_jax.evaluation.curves import Calibration, Curve, calibration, precision_recall
from ssd_jax.evaluation.errors import KINDS, Errors, classify_errors
from ssd_jax.evaluation.evaluator import Evaluation
from ssd_jax.evaluation.gallery import choose_items, gallery_content
from ssd_jax.evaluation.scores import METRICS
from ssd_jax.evaluation.speed import Speed
from ssd_jax.evaluation.voc import SETTINGS

_CURVE_POINTS = 101


def render_page(
    evaluation: Evaluation,
    metrics: Mapping[str, Any],
    *,
    speeds: list[Speed],
    device: str,
) -> str:
    """The report of an evaluation as HTML that needs nothing else, not even a network.

    Args:
        evaluation: whose figures and pictures to show.
        metrics: the content of metrics.json.
        speeds: rows of the speed table.
        device: what was measured on.
    """
    results, scores = evaluation.results, evaluation.scores
    verdict = {name: metrics[name] for name in SETTINGS}
    errors = classify_errors(results, scores.ranked, **verdict)
    items, pictures = gallery_content(
        results, choose_items(results, scores.ranked, errors), evaluation.picture
    )
    matrix = confusion_matrix(results, scores.best_f1.operating_threshold, **verdict)
    labels = range(1, results.num_classes)
    content = {
        **metrics,
        "names": ["background", *results.class_names],
        "titles": {metric: METRICS[metric] for metric in scores.metrics},
        "curves": [
            _curve(precision_recall(scores.ranked, label))
            if scores.ranked.num_ground_truth[label - 1]
            else None
            for label in labels
        ],
        "confusion": matrix.tolist(),
        "errors": _errors(errors),
        "sizes": _sizes(evaluation),
        "calibration": [
            _calibration(calibration(scores.ranked, label)) for label in (None, *labels)
        ],
        "speeds": [dataclasses.asdict(speed) for speed in speeds],
        "device": device,
        "items": items,
        "pictures": pictures,
    }
    return _fill(content)


def _fill(content: dict[str, Any]) -> str:
    """The page with its style, script and data in their places."""
    files = importlib.resources.files("ssd_jax.evaluation") / "page"
    # No name of a class or file may end the script that it stands in.
    data = json.dumps(content, allow_nan=False).replace("<", "\\u003c")
    html = (files / "report.html").read_text(encoding="utf-8")
    for place, text in (
        ("/* style */", (files / "report.css").read_text(encoding="utf-8")),
        ("/* script */", (files / "report.js").read_text(encoding="utf-8")),
        ("/* data */", data),  # the last: nothing is filled into it
    ):
        html = html.replace(place, text, 1)
    return html


def _curve(curve: Curve) -> list[list[float]]:
    """Recall, precision and score of some points spread evenly over the ranking."""
    chosen = np.unique(np.linspace(0, max(0, len(curve.scores) - 1), _CURVE_POINTS).astype(int))
    # Where recall changes matter more than where only the tail of false positives grows.
    steps = np.searchsorted(curve.recall, np.linspace(0, 1, _CURVE_POINTS))
    chosen = np.unique(np.concatenate([chosen, steps[steps < len(curve.scores)]]))
    chosen = chosen[chosen < len(curve.scores)]
    points = np.stack([curve.recall, curve.precision, curve.scores], axis=1)[chosen]
    return np.round(points, 4).tolist()


def _errors(errors: Errors) -> list[dict[str, Any]]:
    return [
        {
            "kind": kind,
            "cost": None if math.isnan(errors.cost[k]) else float(errors.cost[k]),
            "count": errors.count[k].tolist(),
        }
        for k, kind in enumerate(KINDS)
    ]


def _sizes(evaluation: Evaluation) -> dict[str, Any] | None:
    """COCO's AP by size: of all classes and of each."""
    coco = evaluation.scores.coco
    if coco is None:
        return None
    return {
        size: [_known(coco.figures[f"AP_{size}"]), *map(_known, coco.ap_by_size[size])]
        for size in SIZES
    }


def _calibration(bins: Calibration) -> dict[str, Any]:
    return {
        "score": [_known(value) for value in bins.score],
        "precision": [_known(value) for value in bins.precision],
        "count": bins.count.tolist(),
        "error": _known(bins.error),
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 5)
