"""Which of two runs is better, class by class, and how sure that is.

    python -m ssd_jax.evaluation.compare RUN_A RUN_B

RUN is what evaluate.py wrote: the folder with detections.json and ground_truth.json, or a run's
folder with one evaluation in it. The images are drawn anew with replacement, the same for both
runs, many times; the interval holds the middle 95% of the differences in AP that come of it.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from absl import flags
from jaxtyping import Float64, Int
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ssd_jax import cli
from ssd_jax.console import progress_bar
from ssd_jax.evaluation.detection_files import read_detections
from ssd_jax.evaluation.results import SplitResults
from ssd_jax.evaluation.truth_files import read_ground_truth
from ssd_jax.evaluation.voc import SETTINGS, RankedDetections, rank_detections

SAMPLES = flags.DEFINE_integer("samples", 1000, "Times the images are drawn anew.", 2)
SEED = flags.DEFINE_integer("seed", 0, "Of the draws.")


@dataclasses.dataclass(frozen=True)
class Difference:
    """AP (area under the curve, IoU .5) of two runs; a row a class, the mean last.

    Attributes:
        ap: of both runs.
        interval: ends of the 95% interval of the second's AP less the first's.
    """

    ap: Float64[np.ndarray, "2 R"]
    interval: Float64[np.ndarray, "2 R"]


def compare(
    first: SplitResults,
    second: SplitResults,
    *,
    inclusive_pixels: bool,
    threshold_inclusive: bool,
    samples: int,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Difference:
    """Compares two runs by a paired bootstrap over images.

    Args:
        first, second: of the same images, objects and classes.
        inclusive_pixels, threshold_inclusive: as for `rank_detections`.
        samples: times the images are drawn anew.
        seed: of the draws.
        progress: called with the number of draws done.
    """
    runs = [
        rank_detections(
            run.detections,
            run.ground_truth,
            num_classes=run.num_classes,
            inclusive_pixels=inclusive_pixels,
            threshold_inclusive=threshold_inclusive,
        )
        for run in (first, second)
    ]
    objects = _objects(first)
    images = len(first)
    ap = np.stack([_weighted_ap(run, objects, np.ones(images)) for run in runs])
    rng = np.random.default_rng(seed)
    differences = np.empty((samples, ap.shape[1]))
    for i in range(samples):
        times = np.bincount(rng.integers(0, images, images), minlength=images).astype(np.float64)
        one, two = (_weighted_ap(run, objects, times) for run in runs)
        differences[i] = two - one
        progress(i + 1)
    interval = np.full((2, ap.shape[1]), np.nan)
    known = ~np.isnan(ap[0])  # a class may still have no object in some of the draws
    interval[:, known] = np.nanquantile(differences[:, known], [0.025, 0.975], axis=0)
    return Difference(ap, interval)


def _objects(results: SplitResults) -> Int[np.ndarray, "F n"]:
    """Objects that count of each class in each image."""
    return np.stack(
        [
            np.bincount(truth.labels[~truth.ignored], minlength=results.num_classes)[1:]
            for truth in results.ground_truth
        ],
        axis=1,
    )


def _weighted_ap(
    ranked: RankedDetections, objects: Int[np.ndarray, "F n"], times: Float64[np.ndarray, "n"]
) -> Float64[np.ndarray, "R"]:
    """AP of each class and their mean, were every image there so many times."""
    ap = np.full(len(objects) + 1, np.nan)
    total = objects @ times
    for k in np.flatnonzero(total):
        rows = np.arange(len(ranked.labels))[ranked.of_class(int(k) + 1)]
        weight = times[ranked.images[rows]] * ranked.counts[rows]
        hits = np.cumsum(weight * ranked.hit[rows])
        found = np.cumsum(weight)
        precision = np.divide(hits, found, out=np.zeros_like(hits), where=found > 0)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        ap[k] = np.sum(np.diff(hits, prepend=0) * envelope) / total[k]
    known = ap[:-1][total > 0]
    ap[-1] = known.mean() if len(known) else np.nan
    return ap


def read_run(path: Path) -> tuple[SplitResults, dict[str, bool]]:
    """What evaluate.py wrote, and by which of `SETTINGS` it decided on hits.

    Raises:
        FileNotFoundError: there is no evaluation, or there are several.
        ValueError: a file is broken.
    """
    places = [path, *sorted(path.glob("evaluation/*"))]
    found = [place for place in places if (place / "ground_truth.json").is_file()]
    if len(found) != 1:
        there = ", ".join(map(str, found)) or "none"
        raise FileNotFoundError(f"give one evaluation, as evaluate.py wrote it; {path} has {there}")
    truth = read_ground_truth(found[0] / "ground_truth.json", "")
    detections = read_detections(found[0] / "detections.json", truth)
    metrics = json.loads((found[0] / "metrics.json").read_bytes())
    settings = {name: bool(metrics.get(name, False)) for name in SETTINGS}
    return dataclasses.replace(truth, detections=detections), settings


def check_same_split(first: SplitResults, second: SplitResults) -> None:
    """Raises a ValueError unless two runs were evaluated on the same images and objects."""
    if first.class_names != second.class_names:
        raise ValueError(
            f"the runs have other classes: {first.class_names} and {second.class_names}"
        )
    if first.image_names != second.image_names or first.image_ids != second.image_ids:
        raise ValueError(
            f"the runs were evaluated on other images: {len(first)} and {len(second)}; "
            "evaluate both on the same split"
        )
    for name, a, b in zip(first.image_names, first.ground_truth, second.ground_truth, strict=True):
        fields = ("labels", "boxes", "ignored")
        if not all(np.array_equal(getattr(a, field), getattr(b, field)) for field in fields):
            raise ValueError(f"the runs were evaluated on other objects, as in image {name}")


def difference_table(names: Sequence[str], difference: Difference) -> Table:
    """A row a class and the mean; a star where the interval leaves out 0."""
    rows = Table(title="AP at IoU .5, area under the curve")
    rows.add_column("class")
    for column in ("A", "B", "B - A", "95% interval", ""):
        rows.add_column(column, justify="right")
    for name, one, two, low, high in zip(
        [*names, "mean"], *difference.ap, *difference.interval, strict=True
    ):
        if np.isnan(one):
            rows.add_row(Text(name), "no objects", "", "", "", "")
            continue
        sure = "*" if low > 0 or high < 0 else ""
        interval = f"{low:+.4f} to {high:+.4f}"
        rows.add_row(Text(name), f"{one:.4f}", f"{two:.4f}", f"{two - one:+.4f}", interval, sure)
    return rows


def main(arguments: Sequence[str]) -> None:
    """Compares by the arguments."""
    if len(arguments) != 2:
        raise ValueError("give two evaluations: RUN_A and RUN_B")
    (first, settings), (second, others) = (read_run(Path(path)) for path in arguments)
    check_same_split(first, second)
    for name in SETTINGS:
        if settings[name] != others[name]:
            raise ValueError(f"the runs differ in config.evaluate.{name}: set it alike")
    console = Console(soft_wrap=True, markup=False)
    with progress_bar(console) as bar:
        task = bar.add_task("drawing images anew", total=SAMPLES.value)
        difference = compare(
            first,
            second,
            **settings,
            samples=SAMPLES.value,
            seed=SEED.value,
            progress=lambda done: bar.update(task, completed=done),
        )
    console.print(difference_table(first.class_names, difference))
    console.print("* the interval leaves out 0", highlight=False)


if __name__ == "__main__":
    cli.run(main)
