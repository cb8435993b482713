"""What an evaluation leaves: a table, JSON, and a sheet of pictures."""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from ssd_jax.data.images import decode_image
from ssd_jax.evaluation.evaluator import Evaluation
from ssd_jax.visualize import contact_sheet, draw_boxes

SHEET_SCORE = 0.5


def table(evaluation: Evaluation) -> Table:
    """AP, ground truths and detections by class, and the mean."""
    result, names = evaluation.result, evaluation.dataset.class_names
    rows = Table(title=f"{evaluation.dataset.name} {evaluation.dataset.split}, AP at IoU .5")
    rows.add_column("class")
    for column in ("AP", "objects", "detections"):
        rows.add_column(column, justify="right")
    for index, name in enumerate(names):
        ap = result.ap[index]
        rows.add_row(
            name,
            "no objects" if math.isnan(ap) else f"{ap:.4f}",
            str(result.num_ground_truth[index]),
            str(result.num_detections[index]),
        )
    rows.add_section()
    rows.add_row(
        "mAP",
        f"{result.mean_ap:.4f}",
        str(int(np.sum(result.num_ground_truth))),
        str(int(np.sum(result.num_detections))),
    )
    return rows


def metrics(evaluation: Evaluation, step: int) -> dict[str, Any]:
    """The figures as JSON types; the AP of a class without objects is null."""
    result, dataset = evaluation.result, evaluation.dataset
    return {
        "dataset": dataset.name,
        "split": dataset.split,
        "images": len(evaluation.image_ids),
        "step": step,
        "mAP": result.mean_ap,
        "AP": {
            name: None if math.isnan(ap) else float(ap)
            for name, ap in zip(dataset.class_names, result.ap, strict=True)
        },
        "images_per_second": evaluation.images_per_second,
    }


def detections(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The detections as COCO's result format: boxes [x, y, width, height] in pixels."""
    return [
        {
            "image_id": image_id,
            "category_id": int(label),
            "bbox": [
                round(float(v), 2) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1])
            ],
            "score": round(float(score), 5),
        }
        for image_id, found in zip(evaluation.image_ids, evaluation.detections, strict=True)
        for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True)
    ]


def write_json(path: Path, content: Any) -> None:
    """Writes a whole file or none: an interruption leaves what was there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(path.name + ".part")
    half.write_text(json.dumps(content, indent=2 if isinstance(content, dict) else None) + "\n")
    os.replace(half, path)


def picture_sheet(evaluation: Evaluation, *, count: int = 24, columns: int = 6) -> np.ndarray:
    """The first images of the split with what was found at score .5, RGB uint8."""
    dataset = evaluation.dataset
    pictures = []
    for index in range(min(count, len(dataset))):
        example = dataset.source[index]
        found = evaluation.detections[index]
        sure = found.scores >= SHEET_SCORE
        pictures.append(
            draw_boxes(
                decode_image(example["image"], example["name"]),
                found.boxes[sure],
                [dataset.class_names[label - 1] for label in found.labels[sure]],
                labels=found.labels[sure],
                scores=found.scores[sure],
            )
        )
    return contact_sheet(pictures, columns=columns, cell=(300, 300))
