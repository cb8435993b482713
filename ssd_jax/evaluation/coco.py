"""COCO's average precision and recall, by faster-coco-eval, and the format it takes them in."""

import dataclasses
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from jaxtyping import Float64

from ssd_jax.evaluation.results import ImageDetections, SplitResults

FIGURES = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large"),
)
SIZES = ("small", "medium", "large")
"""Areas below 32^2, from there to 96^2, and above, pixels^2."""

_DECIMALS = 6  # of a box' sides, pixels: takes away what a difference of corners adds to them


@dataclasses.dataclass(frozen=True)
class CocoResult:
    """COCO's figures over IoU .50, .55, .. .95, in 0..1; NaN where no object decides them.

    Attributes:
        figures: the twelve of `FIGURES`.
        ap: AP of class i + 1.
        ap_by_size: AP of class i + 1 among objects of a size of `SIZES`.
    """

    figures: dict[str, float]
    ap: Float64[np.ndarray, "F"]
    ap_by_size: dict[str, Float64[np.ndarray, "F"]]


def coco_ap(results: SplitResults) -> CocoResult:
    """AP and AR as pycocotools has them: at most 100 detections an image, area as annotated.

    Objects that VOC calls difficult are taken as crowds, so as to count for nothing either way.
    """
    numbered = _renumbered(results)
    truth = COCO(to_instances(numbered))
    run = COCOeval_faster(truth, truth.loadRes(to_results(numbered)), "bbox")
    run.evaluate()
    run.accumulate()
    run.summarize()
    figures = np.array(run.stats[: len(FIGURES)], np.float64)
    precision = np.asarray(run.eval["precision"], np.float64)  # [IoU, recall, class, size, dets]
    by_size = _mean_where_known(precision[..., -1])
    return CocoResult(
        figures=dict(zip(FIGURES, np.where(figures < 0, np.nan, figures).tolist(), strict=True)),
        ap=by_size[:, 0],
        ap_by_size={size: by_size[:, 1 + i] for i, size in enumerate(SIZES)},
    )


def _renumbered(results: SplitResults) -> SplitResults:
    """Images numbered in the order of their ids, which decides ties, and categories by label.

    The evaluation keeps ids as doubles, which do not tell large ones apart.
    """
    number_of = {image_id: i for i, image_id in enumerate(sorted(results.image_ids), start=1)}
    return dataclasses.replace(
        results,
        image_ids=[number_of[image_id] for image_id in results.image_ids],
        category_ids=tuple(range(1, results.num_classes)),
    )


def _mean_where_known(precision: Float64[np.ndarray, "T R F A"]) -> Float64[np.ndarray, "F A"]:
    """Means over IoUs and recalls; NaN where all is -1, which says that there is no object."""
    known = precision > -1
    count = known.sum(axis=(0, 1))
    total = np.where(known, precision, 0).sum(axis=(0, 1))
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def to_instances(results: SplitResults) -> dict[str, Any]:
    """The objects in the format of COCO's instance annotations.

    Difficult objects are marked `iscrowd`, which is the one way for COCO's code to pass them over,
    and `difficult`.
    """
    annotations: list[dict[str, Any]] = []
    for image_id, truth in zip(results.image_ids, results.ground_truth, strict=True):
        for row, bbox in enumerate(_xywh(truth.boxes)):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": results.category_ids[truth.labels[row] - 1],
                    "bbox": bbox,
                    "area": round(float(truth.area[row]), _DECIMALS),
                    "iscrowd": int(truth.ignored[row]),
                    "difficult": int(truth.difficult[row]),
                }
            )
    return {
        "images": [
            {"id": image_id, "file_name": name, "height": height, "width": width}
            for image_id, name, (height, width) in zip(
                results.image_ids, results.image_names, results.image_sizes, strict=True
            )
        ],
        "categories": [
            {"id": number, "name": name}
            for number, name in zip(results.category_ids, results.class_names, strict=True)
        ],
        "annotations": annotations,
    }


def to_results(results: SplitResults) -> list[dict[str, Any]]:
    """The detections in COCO's result format: bbox [x, y, width, height] in pixels."""
    return [
        entry
        for image_id, found in zip(results.image_ids, results.detections, strict=True)
        for entry in image_results(found, image_id, results.category_ids)
    ]


def image_results(
    found: ImageDetections, image_id: int, category_ids: tuple[int, ...]
) -> list[dict[str, Any]]:
    """The detections of one image in COCO's result format."""
    return [
        {"image_id": image_id, "category_id": category_ids[label - 1], "bbox": bbox, "score": score}
        for bbox, score, label in zip(
            _xywh(found.boxes), found.scores.tolist(), found.labels.tolist(), strict=True
        )
    ]


def _xywh(boxes: np.ndarray) -> list[list[float]]:
    corners = boxes.astype(np.float64)
    sides = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    return np.round(sides, _DECIMALS).tolist()
