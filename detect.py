"""Finds objects on pictures: draws each with its boxes and writes detections.json.

python detect.py --ckpt runs/shapes photo.jpg folder/ --out found
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags
from rich.console import Console

from ssd_jax import cli
from ssd_jax.detector import Detector
from ssd_jax.evaluation.report import write_json
from ssd_jax.pictures import read_picture
from ssd_jax.visualize import draw_boxes, write_image

CKPT = flags.DEFINE_string("ckpt", None, "The run's folder, as given to train.py.")
STEP = flags.DEFINE_integer("step", None, "The checkpoint to use [the newest].")
BEST = flags.DEFINE_bool("best", False, "Use the checkpoint of the highest mAP.")
OUT = flags.DEFINE_string("out", "detections", "Folder for the pictures and detections.json.")
THRESHOLD = flags.DEFINE_float("threshold", 0.5, "Leave out detections of a lower score.", 0, 1)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Images a call of the device.", 1)

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def pictures_in(arguments: Sequence[str]) -> list[tuple[Path, Path]]:
    """(file, its name in the output folder) of every picture; folders are searched through.

    Raises:
      FileNotFoundError: an argument is no file or folder, or a folder without pictures.
    """
    found = []
    for argument in map(Path, arguments):
        if argument.is_dir():
            inside = sorted(p for p in argument.rglob("*") if p.suffix.lower() in SUFFIXES)
            if not inside:
                raise FileNotFoundError(f"no picture ({' '.join(SUFFIXES)}) in folder {argument}")
            found += [(path, path.relative_to(argument)) for path in inside]
        elif argument.is_file():
            found.append((argument, Path(argument.name)))
        else:
            raise FileNotFoundError(f"no such file or folder: {argument}")
    names = [name for _, name in found]
    if len(set(names)) < len(names):  # the same name in two folders: tell them apart by folder
        found = [(path, Path(*path.resolve().parts[1:])) for path, _ in found]
    return found


def main(arguments: Sequence[str]) -> None:
    """Detects by the flags."""
    if CKPT.value is None:
        raise ValueError("--ckpt is missing: give a run's folder, such as --ckpt runs/shapes")
    if not arguments:
        raise ValueError("give one or more pictures or folders of pictures")
    files = pictures_in(arguments)
    console = Console(soft_wrap=True)
    detector = Detector.from_checkpoint(
        CKPT.value, step=STEP.value, best=BEST.value, batch_size=BATCH_SIZE.value
    )
    out = Path(OUT.value)
    records, faults = [], []
    with cli.progress_bar(console) as bar:
        task = bar.add_task("detecting", total=len(files))
        for first in range(0, len(files), detector.batch_size):
            pictures = []
            for path, name in files[first : first + detector.batch_size]:
                try:
                    pictures.append((path, name, read_picture(path)))
                except (OSError, ValueError) as fault:
                    faults.append(cli.one_line(fault))
            results = detector([p for *_, p in pictures], score_threshold=THRESHOLD.value)
            for (path, name, picture), result in zip(pictures, results, strict=True):
                drawn = draw_boxes(
                    picture, result.boxes, result.names, labels=result.labels, scores=result.scores
                )
                write_image(out / name, drawn)
                records.append(
                    {
                        "file": str(path),
                        "height": picture.shape[0],
                        "width": picture.shape[1],
                        "detections": [
                            {
                                "box": [round(float(v), 2) for v in box],
                                "class": found,
                                "score": round(float(score), 5),
                            }
                            for box, found, score in zip(
                                result.boxes, result.names, result.scores, strict=True
                            )
                        ],
                    }
                )
            bar.update(task, completed=min(first + detector.batch_size, len(files)))
    write_json(
        out / "detections.json", {"boxes": "xmin, ymin, xmax, ymax in pixels", "images": records}
    )
    count = sum(len(record["detections"]) for record in records)
    console.print(f"{count} objects on {len(records)} pictures; they are in {out}")
    if faults:
        raise ValueError(f"{len(faults)} of {len(files)} pictures left out: {'; '.join(faults)}")


if __name__ == "__main__":
    cli.run(main)
