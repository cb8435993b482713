"""Times the loader alone, against the same augmentation on the host.

    python benchmarks/input.py --root VOCdevkit/VOC2007

Measures images a second of the loader (read, decode, pad: all that the host does) with threads,
worker processes and a cache; of SSD's augmentation with OpenCV, as ssd.pytorch does it, in the
original's order and in the fastest known; and of PyTorch's DataLoader with torchvision's
transforms, where installed. Images a core are images by seconds of processor time, of all
processes: waiting for other programs on the machine does not count. Writes input.json to
benchmarks/results, or where --results says.
"""

import argparse
import datetime
import functools
import importlib.metadata
import itertools
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import grain
import numpy as np
import psutil
from absl import flags
from common import RESULTS, importable, processor
from opencv_augment import as_in_caffe, as_in_ssd_pytorch, fused
from rich.console import Console
from rich.table import Table

from ssd_jax.data import Dataset, train_batches
from ssd_jax.data.folder import VocFolder
from ssd_jax.data.images import decode_example

BATCH, CANVAS, SIDE, SLOTS = 32, 500, 300, 64
BAR = 5.0
SSD_PYTORCH, CAFFE = "OpenCV, ssd.pytorch's way", "OpenCV, Caffe's order"


def ours(dataset: Dataset, workers: int, cache: str) -> Iterator[Any]:
    """The loader of ssd_jax."""
    return train_batches(
        dataset,
        batch_size=BATCH,
        canvas_size=CANVAS,
        slots=SLOTS,
        seed=0,
        stop_step=10**6,
        workers=workers,
        cache=cache,
    )


def opencv(dataset: Dataset, workers: int, augment: Callable) -> Iterator[Any]:
    """Decoding and augmentation on the host, in the threads or workers that `ours` has."""
    rows = grain.MapDataset.range(len(dataset)).shuffle(seed=0).repeat(10**4)
    load = functools.partial(load_augmented, dataset=dataset, augment=augment)
    batches = rows.batch(BATCH).map(load)
    threads = 1 if workers else os.cpu_count() or 1
    loaded = batches.to_iter_dataset(grain.ReadOptions(num_threads=threads))
    if workers:
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
        loaded = loaded.mp_prefetch(options)
    return iter(loaded)


def load_augmented(rows: np.ndarray, *, dataset: Dataset, augment: Callable) -> dict[str, Any]:
    """A batch of augmented pictures."""
    images = np.empty((len(rows), SIDE, SIDE, 3), np.float32)
    boxes = np.zeros((len(rows), SLOTS, 4), np.float32)
    labels = np.zeros((len(rows), SLOTS), np.int32)
    for i, row in enumerate(rows.tolist()):
        example = dataset.source[row]
        picture = decode_example(example)
        rng = np.random.default_rng([row, i])
        images[i], moved, kept = augment(picture, example["boxes"], SIDE, rng)
        boxes[i, : kept.sum()] = moved[kept]
        labels[i, : kept.sum()] = example["labels"][kept]
    return {"image": images, "boxes": boxes, "labels": labels}


def torchvision_loader(dataset: Dataset, workers: int) -> Iterator[Any]:
    """PyTorch's DataLoader with the transforms of torchvision's own recipe for SSD."""
    import torch
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    transforms = v2.Compose(
        [
            v2.RandomPhotometricDistort(),
            v2.RandomZoomOut(fill=[123, 117, 104]),
            v2.RandomIoUCrop(),
            v2.RandomHorizontalFlip(),
            v2.Resize((SIDE, SIDE)),
            v2.ToDtype(torch.float32),
            v2.SanitizeBoundingBoxes(),
        ]
    )

    class Pictures(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 10**6

        def __getitem__(self, number: int):
            example = dataset.source[number % len(dataset)]
            picture = decode_example(example)
            height, width = picture.shape[:2]
            image = tv_tensors.Image(torch.from_numpy(picture).permute(2, 0, 1))
            scaled = example["boxes"] * np.float32([width, height, width, height])
            boxes = tv_tensors.BoundingBoxes(scaled, format="XYXY", canvas_size=(height, width))
            labels = torch.from_numpy(example["labels"].copy())
            return transforms(image, {"boxes": boxes, "labels": labels})

    loader = torch.utils.data.DataLoader(
        Pictures(),
        batch_size=BATCH,
        num_workers=workers,
        collate_fn=lambda samples: (torch.stack([s[0] for s in samples]), [s[1] for s in samples]),
    )
    return iter(loader)


def measure(batches: Iterator[Any], seconds: float) -> dict[str, float]:
    """Images a second and a core over some seconds, after two batches that warm up."""
    for _ in itertools.islice(batches, 2):
        pass
    started, before, count = time.perf_counter(), processor_seconds(), 0
    for _ in batches:
        count += BATCH
        if time.perf_counter() - started > seconds:
            break
    elapsed, used = time.perf_counter() - started, processor_seconds() - before
    if close := getattr(batches, "close", None):
        close()
    return {"images_per_second": count / elapsed, "images_per_core_second": count / used}


def processor_seconds() -> float:
    """Processor time of this process and its children so far."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def contenders(dataset: Dataset) -> list[tuple[str, str, Callable[[], Iterator[Any]]]]:
    """(name, workers, what starts its batches) of each."""
    rows: list[tuple[str, str, Callable[[], Iterator[Any]]]] = []
    for workers in (0, 1, 2):
        label = str(workers) if workers else "threads"
        rows.append(("ssd_jax", label, functools.partial(ours, dataset, workers, "none")))
    rows.append(("ssd_jax, cache=host", "threads", functools.partial(ours, dataset, 0, "host")))
    for name, augment in (
        (SSD_PYTORCH, as_in_ssd_pytorch),
        (CAFFE, as_in_caffe),
        ("OpenCV, one warp", fused),
    ):
        for workers in (0, 2):
            label = str(workers) if workers else "threads"
            rows.append((name, label, functools.partial(opencv, dataset, workers, augment)))
    if not importable("torchvision"):
        print("torchvision is not there, or not for this PyTorch: its DataLoader is left out")
    else:
        rows += [
            ("DataLoader, torchvision", str(n), functools.partial(torchvision_loader, dataset, n))
            for n in (0, 2)
        ]
    return rows


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", required=True, help="a folder in VOC's layout")
    parser.add_argument("--split", default="trainval+test")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    options = parser.parse_args()
    flags.FLAGS.mark_as_parsed()  # grain reads absl's flags when it starts workers
    cv2.setNumThreads(1)
    source = VocFolder(options.root, options.split)
    dataset = Dataset(options.root, options.split, source, source.class_names)
    results = []
    for name, workers, start in contenders(dataset):
        figures = measure(start(), options.seconds)
        results.append({"name": name, "workers": workers, **figures})
        print(f"{name}, {workers}: {figures['images_per_second']:.0f} images/s", flush=True)

    host = {
        name: max(r["images_per_core_second"] for r in results if r["name"] == name)
        for name in (SSD_PYTORCH, CAFFE)
    }
    table = Table(title=f"{len(dataset)} images of {options.root}, batches of {BATCH}")
    table.add_column("loader")
    for column in (
        "workers",
        "images/s",
        "images/s a core",
        "times ssd.pytorch's",
        "times Caffe's",
    ):
        table.add_column(column, justify="right")
    for result in results:
        core = result["images_per_core_second"]
        result["times_ssd_pytorch"], result["times_caffe"] = (
            core / host[SSD_PYTORCH],
            core / host[CAFFE],
        )
        table.add_row(
            result["name"],
            result["workers"],
            f"{result['images_per_second']:.0f}",
            f"{core:.0f}",
            f"{result['times_ssd_pytorch']:.1f}",
            f"{result['times_caffe']:.1f}",
        )
    Console().print(table)
    uncached = [r for r in results if r["name"] == "ssd_jax"]
    for name, times in ((SSD_PYTORCH, "times_ssd_pytorch"), (CAFFE, "times_caffe")):
        reached = max(result[times] for result in uncached)
        print(f"the bar is {BAR:.0f} times host-side augmentation; against {name}: {reached:.1f}")
    packages = ["numpy", "grain", "opencv-python-headless", "jax", "torch", "torchvision"]
    installed = {one.name for one in importlib.metadata.distributions()}
    report = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": f"{os.cpu_count()} x {processor()}",
        "versions": {
            name: importlib.metadata.version(name) for name in packages if name in installed
        },
        "python": platform.python_version(),
        "batch": BATCH,
        "canvas": CANVAS,
        "input": SIDE,
        "results": results,
    }
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / "input.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
