"""Finds objects on pictures, videos and webcams; draws them and writes where they are.

    python detect.py --ckpt runs/shapes photo.jpg folder 'more/**/*.png' clip.mp4 --out found
    python detect.py --ckpt runs/shapes --webcam 0 --seconds 20
    python detect.py --model runs/shapes/model.onnx --runtime openvino photo.jpg
    python detect.py --ckpt hf://owner/name photo.jpg --class_threshold person=0.3,car=0.6 --crop

The folder `found` then has the drawn pictures and videos, detections.json and detections.csv with
boxes in pixels of the originals, and with --crop each object in crops/CLASS/.
"""

import contextlib
import functools
import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from rich.console import Console
from rich.progress import Progress

from ssd_jax import cli, compilation
from ssd_jax.console import one_line, progress_bar
from ssd_jax.detecting.records import Records
from ssd_jax.detecting.run import Work, detect_pictures, detect_video
from ssd_jax.detecting.sources import Source, sources_in
from ssd_jax.detecting.video import VideoReader
from ssd_jax.detector import Detector

CKPT = flags.DEFINE_string(
    "ckpt", None, "The run's folder, as given to train.py, or hf://OWNER/NAME."
)
STEP = flags.DEFINE_integer("step", None, "The checkpoint to use [the newest].")
BEST = flags.DEFINE_bool("best", False, "Use the checkpoint of the highest mAP.")
MODEL, RUNTIME = cli.define_model()
CACHE = compilation.define_cache()
OUT = flags.DEFINE_string("out", "detections", "Folder of all that is written.")
THRESHOLD = flags.DEFINE_float("threshold", 0.5, "Leave out detections of a lower score.", 0, 1)
CLASS_THRESHOLD = flags.DEFINE_multi(
    flags.ListParser(),
    flags.CsvListSerializer(","),
    "class_threshold",
    [],
    "Other thresholds of some classes: person=0.3,car=0.6.",
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Images a call of the device.", 1)
DRAW = flags.DEFINE_bool("draw", True, "Draw the pictures and videos.")
CROP = flags.DEFINE_bool("crop", False, "Cut out each object.")
WEBCAM = flags.DEFINE_integer("webcam", None, "The number of a webcam, to detect until Ctrl-C.", 0)
SECONDS = flags.DEFINE_float("seconds", None, "Stop the webcam after so many seconds.", 0)


def thresholds(class_names: Sequence[str]) -> dict[str, float]:
    """The threshold of every class by the flags; a ValueError says what is wrong with them."""
    named = {}
    for text in itertools.chain.from_iterable(CLASS_THRESHOLD.value):
        name, _, value = text.rpartition("=")
        try:
            named[name] = float(value)
        except ValueError:
            raise ValueError(
                f"--class_threshold {text}: write CLASS=SCORE, as person=0.3"
            ) from None
    return {**dict.fromkeys(class_names, THRESHOLD.value), **named}


def detect_files(work: Work, sources: Sequence[Source], bar: Progress) -> list[Exception]:
    """Detects on pictures, then on videos; returns the faults of those that cannot be used."""
    faults: list[Exception] = []
    if pictures := [source for source in sources if not source.is_video]:
        task = bar.add_task("pictures", total=len(pictures))
        faults += detect_pictures(work, pictures, lambda: bar.advance(task))
    for source in sources:
        if source.is_video:
            task = bar.add_task(str(source.name), total=None)
            try:
                with VideoReader(source.path) as video:
                    bar.update(task, total=video.count)
                    advance = functools.partial(bar.advance, task)
                    if left_out := detect_video(work, video, source, advance):
                        bar.console.print(
                            f"{source.path}: {left_out} frames, closer than its {video.rate:.4g} a "
                            "second, are not in the drawn video; detections.json has them"
                        )
            except (OSError, ValueError) as fault:
                faults.append(fault)
    return faults


def detect_webcam(work: Work, number: int, bar: Progress) -> None:
    """Detects on what a webcam shows, until Ctrl-C or for the seconds asked for."""
    name = Path(f"webcam{number}.mp4")
    task = bar.add_task(f"webcam {number}, until Ctrl-C", total=None)
    with VideoReader(number, SECONDS.value) as video, contextlib.suppress(KeyboardInterrupt):
        detect_video(work, video, Source(name, name), lambda: bar.advance(task))


def main(arguments: Sequence[str]) -> None:
    """Detects by the flags."""
    if (CKPT.value is None) == (MODEL.value is None):
        raise ValueError(
            "--ckpt is missing: give a run's folder, such as --ckpt runs/shapes, or else --model "
            "with a file of export.py"
        )
    if CKPT.value is None and (STEP.value is not None or BEST.value):
        raise ValueError("--step and --best choose a checkpoint: leave them out with --model")
    if bool(arguments) == (WEBCAM.value is not None):
        raise ValueError("give pictures, videos or folders of them, or else --webcam 0")
    compilation.enable_cache(CACHE.value)
    out = Path(OUT.value)
    sources = sources_in(arguments, out) if arguments else []
    # A webcam's frames do not wait for others; nor is a batch larger than there are pictures.
    is_batched = any(source.is_video for source in sources)
    batch_size = BATCH_SIZE.value if is_batched else max(1, min(BATCH_SIZE.value, len(sources)))
    if CKPT.value is None:
        detector = Detector.from_file(MODEL.value, runtime=RUNTIME.value, batch_size=batch_size)
    else:
        detector = Detector.from_checkpoint(
            CKPT.value, step=STEP.value, best=BEST.value, batch_size=batch_size
        )
    threshold = thresholds(detector.class_names)
    detector.minimum_scores(threshold)  # refused before the lists of an earlier call are replaced
    console = Console(soft_wrap=True, markup=False)
    cli.make_folder(out)
    with progress_bar(console) as bar:
        bar.add_task("compiling", total=None)
        detector.warm_up(batch_size)
    with Records(out) as records, progress_bar(console) as bar:
        started = time.perf_counter()
        work = Work(detector, threshold, records, out, DRAW.value, CROP.value)
        faults: list[Exception] = []
        if WEBCAM.value is None:
            faults = detect_files(work, sources, bar)
        else:
            detect_webcam(work, WEBCAM.value, bar)
        seconds = time.perf_counter() - started
    console.print(
        f"{records.objects} objects on {records.images} images, {records.images / seconds:.1f} "
        f"images/s; all is in {out}"
    )
    for fault in faults:
        print(one_line(fault), file=sys.stderr)
    if faults:
        raise ValueError(f"{len(faults)} of {len(sources)} files left out, as said above")


if __name__ == "__main__":
    cli.run(main)
