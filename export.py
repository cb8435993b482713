"""Writes a trained detector to one file that runs elsewhere, NMS included (docs/export.md).

python export.py --ckpt runs/shapes --format onnx
python export.py --ckpt runs/shapes --format stablehlo --batch 1 --out shapes.stablehlo
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags
from rich.console import Console

from ssd_jax import cli, hub
from ssd_jax.detector import Detector
from ssd_jax.export.write import FORMATS, write

CKPT = flags.DEFINE_string(
    "ckpt", None, "The run's folder, as given to train.py, or hf://OWNER/NAME."
)
STEP = flags.DEFINE_integer("step", None, "The checkpoint to export [the newest].")
BEST = flags.DEFINE_bool("best", False, "Export the checkpoint of the highest mAP.")
FORMAT = flags.DEFINE_enum("format", None, FORMATS, "What to write.")
BATCH = flags.DEFINE_string("batch", "dynamic", "Images a call takes: a number, or any.")
OUT = flags.DEFINE_string("out", None, "The file [CKPT/model.FORMAT, here if CKPT is hf://...].")


def main(arguments: Sequence[str]) -> None:
    """Exports by the flags."""
    if arguments:
        raise ValueError(f"unexpected {' '.join(arguments)}: options start with --")
    if CKPT.value is None:
        raise ValueError("--ckpt is missing: give a run's folder, such as --ckpt runs/shapes")
    if FORMAT.value is None:
        raise ValueError(f"--format is missing: give one of {', '.join(FORMATS)}")
    if BATCH.value != "dynamic" and not BATCH.value.isdigit():
        raise ValueError(f"--batch is {BATCH.value!r}: give a number, or 'dynamic' for any")
    batch = None if BATCH.value == "dynamic" else int(BATCH.value)
    detector = Detector.from_checkpoint(CKPT.value, step=STEP.value, best=BEST.value)
    folder = Path() if hub.is_address(CKPT.value) else Path(CKPT.value)
    out = Path(OUT.value or folder / f"model.{FORMAT.value}")
    write(detector, out, format=FORMAT.value, batch=batch)
    Console(soft_wrap=True, markup=False).print(
        f"{out}, {out.stat().st_size / 1e6:.1f} MB, {len(detector.class_names)} classes\n"
        f"python detect.py --model {out} PICTURE\n"
        f"python evaluate.py --ckpt {CKPT.value} --model {out}"
        + (" --out evaluation" if hub.is_address(CKPT.value) else ""),
        highlight=False,
    )


if __name__ == "__main__":
    cli.run(main)
