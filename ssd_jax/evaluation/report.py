"""What an evaluation leaves: a table, its figures as JSON types, files, and a sheet of pictures."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from ssd_jax.evaluation.coco import to_instances, to_results
from ssd_jax.evaluation.detection_files import devkit_files
from ssd_jax.evaluation.evaluator import Evaluation
from ssd_jax.evaluation.results import SplitResults
from ssd_jax.evaluation.scores import Scores
from ssd_jax.evaluation.voc import mean_of_classes
from ssd_jax.visualize import contact_sheet, draw_boxes

FOLDER = "evaluation"
"""Of a run's folder: where evaluate.py writes, a folder for each way to evaluate."""

SHEET_SCORE = 0.5

TITLES = {"voc07": "VOC07", "voc": "VOC", "coco": "COCO"}


def table(results: SplitResults, scores: Scores) -> Table:
    """AP by every metric, objects, detections, best F1 and its threshold by class; the means."""
    # Texts: in strings rich would take [other] for markup.
    title = f"{results.dataset} {results.split}: average precision"
    rows = Table(title=Text(title, style="table.title"))
    rows.add_column("class")
    columns = [*(TITLES[metric] for metric in scores.metrics), "objects", "detections"]
    for column in (*columns, "best F1", "at score"):
        rows.add_column(column, justify="right")
    ranked, best = scores.ranked, scores.best_f1
    for k, name in enumerate(results.class_names):
        rows.add_row(
            Text(name),
            *(_figure(scores.ap[metric][k], "no objects") for metric in scores.metrics),
            str(ranked.num_ground_truth[k]),
            str(ranked.num_detections[k]),
            _figure(best.f1[k]),
            _figure(best.threshold[k]),
        )
    rows.add_section()
    rows.add_row(
        "mAP",
        *(_figure(scores.mean_ap[metric]) for metric in scores.metrics),
        str(int(np.sum(ranked.num_ground_truth))),
        str(int(np.sum(ranked.num_detections))),
        _figure(mean_of_classes(best.f1)),
        "",
    )
    return rows


def coco_line(scores: Scores) -> str:
    """COCO's twelve figures in one line; empty without them."""
    if scores.coco is None:
        return ""
    return "COCO  " + "  ".join(f"{n} {_figure(v)}" for n, v in scores.coco.figures.items())


def left_out(results: SplitResults, scores: Scores) -> str:
    """Names the classes without objects, which no mean counts; empty if there are none."""
    names = [
        name
        for name, count in zip(results.class_names, scores.ranked.num_ground_truth, strict=True)
        if not count
    ]
    return f"not in the means, for want of objects: {', '.join(names)}" if names else ""


def figures(results: SplitResults, scores: Scores) -> dict[str, Any]:
    """The figures of a split as JSON types; what no object decides is null."""
    ranked, best = scores.ranked, scores.best_f1
    return {
        "dataset": results.dataset,
        "split": results.split,
        "images": len(results),
        "means": {metric: _known(scores.mean_ap[metric]) for metric in scores.metrics},
        "coco": {n: _known(v) for n, v in scores.coco.figures.items()} if scores.coco else None,
        "classes": {
            name: {
                "AP": {metric: _known(scores.ap[metric][k]) for metric in scores.metrics},
                "objects": int(ranked.num_ground_truth[k]),
                "detections": int(ranked.num_detections[k]),
                "best_F1": _known(best.f1[k]),
                "best_F1_score": _known(best.threshold[k]),
            }
            for k, name in enumerate(results.class_names)
        },
    }


def metrics(
    evaluation: Evaluation,
    step: int | None,
    *,
    inclusive_pixels: bool,
    threshold_inclusive: bool,
    changes: Mapping[str, Any],
    model: str | None = None,
) -> dict[str, Any]:
    """The content of metrics.json.

    Args:
        evaluation: the figures.
        step: of the checkpoint; None where a file detected, of which it is not known.
        inclusive_pixels, threshold_inclusive: as scored.
        changes: fields of the config other than in training.
        model: the exported file that detected.
    """
    return {
        **figures(evaluation.results, evaluation.scores),
        "step": step,
        "model": model,
        "best_metric": evaluation.best_metric,
        "mAP": _known(evaluation.mean),
        "inclusive_pixels": inclusive_pixels,
        "threshold_inclusive": threshold_inclusive,
        "changes": dict(changes),
        "images_per_second": evaluation.images_per_second,
    }


def detection_files(results: SplitResults) -> dict[str, str]:
    """What was found, in the formats of COCO and VOC: path -> content."""
    return {
        "detections.json": json.dumps(to_results(results)),
        **{f"comp4/{name}": text for name, text in devkit_files(results).items()},
    }


def result_files(results: SplitResults) -> dict[str, str]:
    """What was found and what is there, in the formats of COCO and VOC: path -> content."""
    return {**detection_files(results), "ground_truth.json": json.dumps(to_instances(results))}


def write_json(path: Path, content: Any) -> None:
    """Writes a whole file or none: an interruption leaves what was there before."""
    text = json.dumps(content, indent=2 if isinstance(content, dict) else None) + "\n"
    write_files(path.parent, {path.name: text})


def write_files(folder: Path, contents: Mapping[str, str]) -> None:
    """Writes all files, each whole, and gives them their names when all are written.

    Args:
        folder: is made if there is none.
        contents: path within the folder -> text.
    """
    written = []
    for name, text in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_name(path.name + ".part")
        half.write_text(text, encoding="utf-8", errors="surrogateescape")  # names of files
        written.append((half, path))
    for half, path in written:
        os.replace(half, path)


def picture_sheet(evaluation: Evaluation, *, count: int = 24, columns: int = 6) -> np.ndarray:
    """The first images of the split with what was found at score .5, RGB uint8."""
    class_names = evaluation.dataset.class_names
    pictures = []
    for image, found in enumerate(evaluation.results.detections[:count]):
        sure = found.scores >= SHEET_SCORE
        pictures.append(
            draw_boxes(
                evaluation.picture(image),
                found.boxes[sure],
                [class_names[label - 1] for label in found.labels[sure]],
                labels=found.labels[sure],
                scores=found.scores[sure],
            )
        )
    return contact_sheet(pictures, columns=columns, cell=(300, 300))


def _figure(value: float, unknown: str = "-") -> str:
    return unknown if math.isnan(value) else f"{value:.4f}"


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
