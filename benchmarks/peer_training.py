"""Trains torchvision's SSD on what one of our recipes trains on, and scores it by our metric.

    python benchmarks/peer_training.py --config configs/custom_voc.py --config.data.root=BCCD \
        --config.data.train=trainval --config.model.width=0.125 --config.model.size=200 \
        --config.train.batch_size=8 --config.train.steps=700 --config.optimizer.rate=0.005

The flags are train.py's, so that both see as many images of the same size with networks of the same
width. Of torchvision are the transforms (its references' preset `ssd`), the anchors, the matcher,
the loss and the whole detector around a VGG16 of the recipe's width and batch norm; the priors are
the recipe's sizes, clipped as torchvision clips, and match from the recipe's IoU. SGD or AdamW,
decay, warm-up and schedule follow the recipe. A recipe that sets what is not done here (`DONE`),
such as an average of the weights, is refused. Its detections (score .01, NMS .45, 200 an image) are
scored as evaluate.py scores ours.
Adds a line to benchmarks/results/peer_training.json. Needs torch and torchvision of one release.
"""

import json
import math
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS
from ml_collections import ConfigDict
from rich.console import Console
from torch import nn
from torchvision import tv_tensors
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.transforms import v2

from ssd_jax import cli
from ssd_jax import config as config_lib
from ssd_jax.console import progress_bar
from ssd_jax.data import Dataset, Example, load_dataset
from ssd_jax.data.images import decode_example
from ssd_jax.evaluation.results import ImageDetections, ImageGroundTruth, SplitResults
from ssd_jax.evaluation.scores import score
from ssd_jax.model import VGG_STAGES, scaled
from ssd_jax.priors import PriorSpec, extra_convolutions
from ssd_jax.recipe import build_priors

CONFIG = cli.define_config()
FILE = RESULTS / "peer_training.json"
MEAN = (0.48235, 0.45882, 0.40784)  # of torchvision's SSD300
METRICS = ("voc07", "voc")
DONE: dict[str, tuple[Any, ...]] = {  # the values of the recipe's fields that are followed here
    "init": ("scratch",),
    "schedule": ("full",),
    "data.difficult": ("train",),
    "data.crowd": ("drop",),
    "data.background": ("keep",),
    "data.undecodable": ("error",),
    "model.head_batch_norm": (False,),
    "model.dtype": ("float32",),
    "priors.preset": ("voc", "coco"),
    "optimizer.kind": ("sgd", "adamw"),
    "optimizer.schedule": ("step", "cosine"),
    "optimizer.bias_rate": (1.0,),
    "optimizer.clip_norm": (0.0,),
    "optimizer.rates": ((),),
    "optimizer.frozen": ((),),
    "optimizer.frozen_statistics": ((),),
    "train.accumulate": (1,),
    "ema.decay": (0.0,),
}
EXTRA_CHANNELS = ((256, 512), (128, 256))  # of the first extra level, and of the others


class Vgg(nn.Module):
    """VGG16 and SSD's extra layers, of any width, as the backbone of torchvision's SSD."""

    def __init__(self, spec: PriorSpec, width: float, batch_norm: bool) -> None:
        super().__init__()

        def unit(inputs: int, outputs: int, kernel: Any = 3, **options: Any) -> nn.Sequential:
            convolution = nn.Conv2d(inputs, outputs, kernel, bias=not batch_norm, **options)
            nn.init.xavier_uniform_(convolution.weight)
            if not batch_norm:
                nn.init.zeros_(convolution.bias)
            norm = [nn.BatchNorm2d(outputs)] if batch_norm else []
            return nn.Sequential(convolution, *norm, nn.ReLU())

        stages, channels = [], 3
        for widths in VGG_STAGES:
            layers = []
            for count in widths:
                layers.append(unit(channels, scaled(count, width), padding=1))
                channels = scaled(count, width)
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)
        fc = scaled(1024, width)
        self.fc = nn.Sequential(unit(channels, fc, padding=6, dilation=6), unit(fc, fc, 1))
        self.scale = nn.Parameter(torch.full((channels,), 20.0 * width**0.5))
        self.out_channels, inputs, extras = [channels, fc], fc, []
        for level, shape in enumerate(extra_convolutions(spec.image_size)):
            narrow, wide = (scaled(c, width) for c in EXTRA_CHANNELS[min(level, 1)])
            options = {"stride": shape.stride, "padding": shape.padding}
            extras.append(
                nn.Sequential(unit(inputs, narrow, 1), unit(narrow, wide, shape.kernel, **options))
            )
            self.out_channels.append(inputs := wide)
        self.extras = nn.ModuleList(extras)

    def forward(self, x: torch.Tensor) -> OrderedDict[str, torch.Tensor]:
        """The feature maps by their levels."""
        features = []
        for number, stage in enumerate(self.stages, start=1):
            x = stage(x)
            if number == 4:
                features.append(self.scale.view(1, -1, 1, 1) * nn.functional.normalize(x))
            if number < 5:
                x = nn.functional.max_pool2d(x, 2, 2, ceil_mode=number == 3)
        x = self.fc(nn.functional.max_pool2d(x, 3, 1, 1))
        features.append(x)
        for extra in self.extras:
            x = extra(x)
            features.append(x)
        return OrderedDict((str(level), feature) for level, feature in enumerate(features))


def check(config: ConfigDict) -> None:
    """Sees to it that the recipe asks for nothing that is not done here.

    Raises:
        ValueError: it does.
    """
    fields = dict(config_lib.flatten(config))
    for name, done in DONE.items():
        if fields[name] not in done:
            raise ValueError(
                f"config.{name} is {fields[name]!r}, torchvision is trained with "
                f"{' or '.join(map(repr, done))} only: set it so"
            )


def build_detector(config: ConfigDict, num_classes: int) -> SSD:
    """An SSD of torchvision, of the recipe's size, width, batch norm and priors."""
    spec, side = build_priors(config), config.model.size
    backbone = Vgg(spec, config.model.width, config.model.batch_norm)
    anchors = DefaultBoxGenerator(
        [list(ratios) for ratios in spec.aspect_ratios],
        scales=[size / side for size in (*spec.min_sizes, spec.max_sizes[-1])],
        steps=[step for step, _ in spec.steps],
    )
    return SSD(
        backbone,
        anchors,
        (side, side),
        num_classes,
        image_mean=list(MEAN),
        image_std=[1 / 255.0] * 3,
        iou_thresh=config.matching.threshold,
    )


def transforms() -> v2.Compose:
    """The preset `ssd` of torchvision's references."""
    return v2.Compose(
        [
            v2.RandomPhotometricDistort(),
            v2.RandomZoomOut(fill={tv_tensors.Image: [123, 117, 104], "others": 0}),
            v2.RandomIoUCrop(),
            v2.RandomHorizontalFlip(),
            v2.SanitizeBoundingBoxes(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )


def picture(example: Example) -> tv_tensors.Image:
    """The decoded picture, RGB uint8."""
    return tv_tensors.Image(torch.from_numpy(decode_example(example)).permute(2, 0, 1))


def samples(dataset: Dataset, seed: int) -> Iterator[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    """Augmented pictures with their objects, epoch after epoch, each in an order of its own."""
    transform, rng = transforms(), np.random.default_rng(seed)
    while True:
        for row in rng.permutation(len(dataset)):
            example = dataset.source[int(row)]
            image = picture(example)
            height, width = image.shape[-2:]
            boxes = example["boxes"] * np.array([width, height, width, height], np.float32)
            sound = np.all(boxes[:, 2:] > boxes[:, :2], axis=1) & ~example["crowd"]
            target = {
                "boxes": tv_tensors.BoundingBoxes(
                    torch.from_numpy(boxes[sound]), format="XYXY", canvas_size=(height, width)
                ),
                "labels": torch.from_numpy(example["labels"][sound].astype(np.int64)),
            }
            image, target = transform(image, target)
            yield image, target


def build_optimizer(config: ConfigDict, network: nn.Module) -> tuple[Any, Any]:
    """The recipe's rule in one group of parameters, and its rate along the steps."""
    settings, steps = config.optimizer, config.train.steps
    options = {"lr": settings.rate, "weight_decay": settings.weight_decay}
    if settings.kind == "sgd":
        rule: Any = torch.optim.SGD(network.parameters(), momentum=settings.momentum, **options)
    else:
        betas = (settings.momentum, 0.999)
        rule = torch.optim.AdamW(network.parameters(), betas=betas, **options)

    def factor(step: int) -> float:
        rising = min(1.0, (step + 1) / (settings.warmup_steps + 1))
        if settings.schedule == "cosine":
            return rising * (1 + math.cos(math.pi * min(1.0, step / steps))) / 2
        return rising * 0.1 ** sum(step >= boundary for boundary in settings.boundaries)

    return rule, torch.optim.lr_scheduler.LambdaLR(rule, factor)


def train(config: ConfigDict, dataset: Dataset, console: Console) -> SSD:
    """The detector after the recipe's steps."""
    torch.manual_seed(config.seed)
    network = build_detector(config, len(dataset.class_names) + 1)
    rule, rates = build_optimizer(config, network)
    network.train()
    stream = samples(dataset, config.seed)
    with progress_bar(console) as bar:
        for step in bar.track(range(1, config.train.steps + 1), description="torchvision"):
            images, targets = zip(
                *(next(stream) for _ in range(config.train.batch_size)), strict=True
            )
            losses = network(list(images), list(targets))
            loss = sum(losses.values())
            if not torch.isfinite(loss):
                raise FloatingPointError(f"the loss of step {step} is not finite: {losses}")
            rule.zero_grad()
            loss.backward()
            rule.step()
            rates.step()
            if step % config.train.log_every == 0:
                console.print(f"step {step}: loss {loss.item():.3f}")
    return network.eval()


@torch.no_grad()
def detect(network: SSD, dataset: Dataset) -> SplitResults:
    """What the detector finds on every picture of a split, in its pixels."""
    detections, truth, sizes = [], [], []
    for row in range(len(dataset)):
        example = dataset.source[row]
        image = picture(example)
        height, width = image.shape[-2:]
        (found,) = network([image.as_subclass(torch.Tensor).float() / 255])
        detections.append(
            ImageDetections(
                *(found[name].numpy().astype(float) for name in ("boxes", "scores")),
                found["labels"].numpy(),
            )
        )
        pixels = np.array([width, height, width, height], np.float64)
        marks = {name: example[name] for name in ("labels", "difficult", "crowd")}
        area = example["area"].astype(float)
        truth.append(ImageGroundTruth(boxes=example["boxes"] * pixels, area=area, **marks))
        sizes.append((height, width))
    return SplitResults(
        dataset=dataset.name,
        split=dataset.split,
        class_names=dataset.class_names,
        category_ids=dataset.category_ids,
        image_ids=list(range(len(dataset))),
        image_names=[dataset.source.name(row) for row in range(len(dataset))],
        image_sizes=sizes,
        detections=detections,
        ground_truth=truth,
    )


def main(arguments: Sequence[str]) -> None:
    """Trains and scores by the flags."""
    if arguments:
        raise ValueError(f"unexpected {' '.join(arguments)}: options start with --")
    config, console = cli.required_config(CONFIG), Console(soft_wrap=True)
    check(config)
    train_data = load_dataset(config.data, config.data.train)
    eval_data = load_dataset(config.data, config.data.eval)
    start = time.monotonic()
    network = train(config, train_data, console)
    seconds = time.monotonic() - start
    scores = score(
        detect(network, eval_data),
        list(METRICS),
        inclusive_pixels=config.evaluate.inclusive_pixels,
        threshold_inclusive=config.evaluate.threshold_inclusive,
    )
    line = {
        "dataset": f"{Path(train_data.name).name} {config.data.train} -> {config.data.eval}",
        "size": config.model.size,
        "width": config.model.width,
        "batch_norm": config.model.batch_norm,
        "steps": config.train.steps,
        "batch_size": config.train.batch_size,
        "optimizer": config.optimizer.kind,
        "rate": config.optimizer.rate,
        "seed": config.seed,
        "train_seconds": round(seconds, 1),
        **{name: round(float(scores.mean_ap[name]), 4) for name in METRICS},
    }
    lines = json.loads(FILE.read_text()) if FILE.is_file() else []
    FILE.write_text(json.dumps([*lines, line], indent=2) + "\n")
    console.print(line)


if __name__ == "__main__":
    cli.run(main)
