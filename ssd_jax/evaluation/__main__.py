"""Scores anybody's detections.

    python -m ssd_jax.evaluation GROUND_TRUTH DETECTIONS
    python -m ssd_jax.evaluation instances_val2017.json results.json --metrics coco
    python -m ssd_jax.evaluation VOCdevkit/VOC2007 results/Main --split test --metrics voc07,voc

GROUND_TRUTH is a COCO json or a folder in VOC's layout; DETECTIONS the devkit's
comp4_det_test_CLASS.txt, one of them or their folder, or for a COCO json a COCO result json.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from rich.console import Console

from ssd_jax import cli
from ssd_jax.evaluation import report
from ssd_jax.evaluation.detection_files import read_detections
from ssd_jax.evaluation.scores import METRICS, check_metrics, score
from ssd_jax.evaluation.truth_files import read_ground_truth

NAMES = flags.DEFINE_list("metrics", list(METRICS), f"Some of {','.join(METRICS)}.")
SPLIT = flags.DEFINE_string("split", "test", "List of a VOC folder's ImageSets/Main to score on.")
INCLUSIVE_PIXELS = flags.DEFINE_bool(
    "inclusive_pixels", None, "VOC's IoU with the last pixel in the box [for a VOC folder]."
)
THRESHOLD_INCLUSIVE = flags.DEFINE_bool(
    "threshold_inclusive", True, "VOC: an IoU of just .5 is a hit, as the devkit has it."
)
JSON = flags.DEFINE_string("json", None, "File to write the figures to.")


def main(arguments: Sequence[str]) -> None:
    """Scores by the arguments."""
    if len(arguments) != 2:
        raise ValueError("give two arguments: GROUND_TRUTH (json or VOC folder) and DETECTIONS")
    check_metrics(NAMES.value)
    truth_path, found_path = map(Path, arguments)
    if truth_path.is_dir() and found_path.suffix == ".json":
        raise ValueError(
            f"{found_path} tells images by numbers, which those of {truth_path} do not have: give "
            "the devkit's files (comp4/), or as GROUND_TRUTH the ground_truth.json beside it, with "
            "--inclusive_pixels if VOC's IoU is wanted"
        )
    truth = read_ground_truth(truth_path, SPLIT.value)
    results = dataclasses.replace(truth, detections=read_detections(found_path, truth))
    inclusive = INCLUSIVE_PIXELS.value
    scores = score(
        results,
        NAMES.value,
        inclusive_pixels=truth_path.is_dir() if inclusive is None else inclusive,
        threshold_inclusive=THRESHOLD_INCLUSIVE.value,
    )
    console = Console(soft_wrap=True, markup=False)
    console.print(f"{len(results)} images", highlight=False)
    console.print(report.table(results, scores))
    for line in (report.left_out(results, scores), report.coco_line(scores)):
        if line:
            console.print(line, highlight=False)
    if JSON.value:
        report.write_json(Path(JSON.value), report.figures(results, scores))


if __name__ == "__main__":
    cli.run(main)
