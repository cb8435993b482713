"""Evaluates a trained detector: per-class AP and mAP, and its detections as JSON.

    python evaluate.py --ckpt runs/shapes
    python evaluate.py --ckpt runs/shapes --best --split train

The checkpoint says which data, classes and network; the data's folders can be given anew with
--voc_root, --root and --data_dir where they lie elsewhere now.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
from absl import flags
from rich.console import Console

from ssd_jax import cli
from ssd_jax.data import load_dataset
from ssd_jax.detector import load_checkpoint
from ssd_jax.evaluation import report
from ssd_jax.evaluation.evaluator import compile_predict, evaluate
from ssd_jax.recipe import build_model, build_predict
from ssd_jax.sharding import make_mesh, shardings

CKPT = flags.DEFINE_string("ckpt", None, "The run's folder, as given to train.py.")
STEP = flags.DEFINE_integer("step", None, "The checkpoint to evaluate [the newest].")
BEST = flags.DEFINE_bool("best", False, "Evaluate the checkpoint of the highest mAP.")
SPLIT = flags.DEFINE_string("split", None, "The split [the one evaluated in training].")
OUT = flags.DEFINE_string("out", None, "Folder of the results [CKPT/evaluation/SPLIT].")
FOLDERS = {
    name: flags.DEFINE_string(name, None, f"config.data.{name}, if not as it was in training.")
    for name in ("data_dir", "voc_root", "archives", "root")
}


def main(arguments: Sequence[str]) -> None:
    """Evaluates by the flags."""
    if arguments:
        raise ValueError(f"unexpected {' '.join(arguments)}: options start with --")
    if CKPT.value is None:
        raise ValueError("--ckpt is missing: give a run's folder, such as --ckpt runs/shapes")
    workdir = Path(CKPT.value)
    variables, meta, step = load_checkpoint(workdir, step=STEP.value, best=BEST.value)
    for name, flag in FOLDERS.items():
        if flag.value is not None:
            meta.config.data[name] = flag.value
    dataset = load_dataset(meta.config.data, SPLIT.value or meta.config.data.eval)
    if dataset.class_names != meta.class_names:
        raise ValueError(
            f"the checkpoint has classes {meta.class_names}, the data has {dataset.class_names}"
        )

    console = Console(soft_wrap=True)
    mesh = make_mesh()
    replicated, _ = shardings(mesh)
    predict = compile_predict(
        build_predict(meta.config, build_model(meta.config, meta.class_names)), mesh
    )
    with cli.progress_bar(console) as bar:
        task = bar.add_task(f"evaluating step {step}", total=len(dataset))
        evaluation = evaluate(
            meta.config,
            predict,
            jax.device_put(variables, replicated),
            dataset,
            mesh,
            lambda done, _: bar.update(task, completed=done),
        )
    out = Path(OUT.value) if OUT.value else workdir / "evaluation" / dataset.split
    report.write_json(out / "metrics.json", report.metrics(evaluation, step))
    report.write_json(out / "detections.json", report.detections(evaluation))
    console.print(report.table(evaluation))
    console.print(f"step {step}  mAP {evaluation.result.mean_ap:.4f}", highlight=False)
    speed = f"{evaluation.images_per_second:.0f} images/s"
    console.print(f"{speed}; metrics.json and detections.json are in {out}")


if __name__ == "__main__":
    cli.run(main)
