"""The peers in PyTorch: a plain SSD network with its step, and torchvision's ssd300_vgg16."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import literal_torch
import numpy as np
import torch
import torch.nn.functional as F
from common import on_cpu
from torch import Tensor, nn

from ssd_jax.model import SSD, VGG_STAGES
from ssd_jax.priors import extra_convolutions, prior_boxes

MEAN = (123.0, 117.0, 104.0)
# Kernels are chosen by timing them, as by ssd.pytorch and XLA.
torch.backends.cudnn.benchmark = True
SGD = {"lr": 1e-6, "momentum": 0.9, "weight_decay": 5e-4}  # too low a rate to diverge


def device() -> torch.device:
    """Of the kind that JAX computes on."""
    return torch.device("cpu" if on_cpu() else "cuda")


def autocast() -> Any:
    """bfloat16 where autocast chooses it, on a GPU; float32 on a CPU."""
    return contextlib.nullcontext() if on_cpu() else torch.autocast("cuda", torch.bfloat16)


class PlainSSD(nn.Module):
    """SSD of the same layers as ours, channels last, as one would write it in PyTorch."""

    def __init__(self, model: SSD) -> None:
        super().__init__()
        self.num_classes = model.num_classes
        self.stages = nn.ModuleList()
        channels = 3
        for widths in VGG_STAGES:
            layers: list[nn.Module] = []
            for width in widths:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            self.stages.append(nn.Sequential(*layers))
        self.fc = nn.Sequential(
            *(nn.Conv2d(512, 1024, 3, padding=6, dilation=6), nn.ReLU(inplace=True)),
            *(nn.Conv2d(1024, 1024, 1), nn.ReLU(inplace=True)),
        )
        self.scale = nn.Parameter(torch.full((512,), 20.0))
        self.extras = nn.ModuleList()
        sources, channels = [512, 1024], 1024
        for level, shape in enumerate(extra_convolutions(model.priors.image_size)):
            narrow, wide = (256, 512) if level == 0 else (128, 256)
            second = nn.Conv2d(narrow, wide, shape.kernel, shape.stride, shape.padding)
            relu = nn.ReLU(inplace=True)
            self.extras.append(nn.Sequential(nn.Conv2d(channels, narrow, 1), relu, second, relu))
            sources.append(wide)
            channels = wide
        pairs = list(zip(sources, model.priors.boxes_per_cell, strict=True))
        self.loc = nn.ModuleList(nn.Conv2d(c, 4 * n, 3, padding=1) for c, n in pairs)
        self.conf = nn.ModuleList(
            nn.Conv2d(c, model.num_classes * n, 3, padding=1) for c, n in pairs
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets [B, P, 4] and class logits [B, P, C] of images [B, 3, H, W]."""
        for stage, layers in enumerate(self.stages, start=1):
            x = layers(x)
            if stage == 4:
                length = (x.float().square().sum(dim=1, keepdim=True) + 1e-10).sqrt()
                features = [(x / length * self.scale[:, None, None]).to(x.dtype)]
            if stage == 5:
                x = F.max_pool2d(x, 3, stride=1, padding=1)
            else:
                x = F.max_pool2d(x, 2, ceil_mode=stage == 3)
        x = self.fc(x)
        features.append(x)
        for layers in self.extras:
            x = layers(x)
            features.append(x)
        return self.predict(self.loc, features, 4), self.predict(
            self.conf, features, self.num_classes
        )

    @staticmethod
    def predict(heads: nn.ModuleList, features: list[Tensor], outputs: int) -> Tensor:
        """The heads' outputs, a row a prior."""
        maps = [head(x).permute(0, 2, 3, 1) for head, x in zip(heads, features, strict=True)]
        return torch.cat([m.reshape(len(m), -1, outputs) for m in maps], dim=1).float()


def images_of(batch: Mapping[str, Any], side: int) -> Tensor:
    """The pictures of a batch [B, 3, side, side], channels last, minus the mean."""
    pictures = torch.from_numpy(np.array(batch["image"])).permute(0, 3, 1, 2).float()
    pictures = F.interpolate(pictures, (side, side), mode="bilinear")
    pictures = pictures - torch.tensor(MEAN)[:, None, None]
    return pictures.contiguous(memory_format=torch.channels_last).to(device())


def truth_of(batch: Mapping[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """Boxes [N, 4] and classes [N], a tensor an image."""
    boxes = torch.from_numpy(np.array(batch["boxes"])).to(device())
    labels = torch.from_numpy(np.array(batch["labels"])).long().to(device())
    return list(boxes), list(labels)


class PlainStep:
    """A training step of the plain network, with ssd.pytorch's matching and mining."""

    def __init__(self, model: SSD, batch: Mapping[str, Any]) -> None:
        self.network = PlainSSD(model).to(device(), memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.network.parameters(), **SGD)
        self.images = images_of(batch, model.priors.image_size[0])
        self.truth = truth_of(batch)
        self.priors = torch.from_numpy(np.array(prior_boxes(model.priors))).to(device())

    def __call__(self) -> Tensor:
        """One step; its loss."""
        with autocast():
            loc, conf = self.network(self.images)
        loss = literal_torch.multibox_loss(loc, conf, *self.truth, self.priors)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()


class TorchvisionStep:
    """A training step of torchvision's ssd300_vgg16.

    Compiled means its network, the backbone and the heads: its matching loops over images in
    Python, with shapes that depend on the data.
    """

    def __init__(self, batch: Mapping[str, Any], *, compiled: bool) -> None:
        from torchvision.models.detection import ssd300_vgg16

        network = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=21)
        self.network = network.to(device(), memory_format=torch.channels_last).train()
        if compiled:
            # For this batch size alone: once another was met, it would be compiled for any.
            self.network.backbone = torch.compile(self.network.backbone, dynamic=False)
            self.network.head = torch.compile(self.network.head, dynamic=False)
        self.optimizer = torch.optim.SGD(self.network.parameters(), **SGD)
        mean = torch.tensor(MEAN, device=device())[:, None, None]
        self.images = list((images_of(batch, 300) + mean) / 255)
        self.targets = [
            {"boxes": 300 * boxes, "labels": labels}
            for boxes, labels in zip(*truth_of(batch), strict=True)
        ]

    def __call__(self) -> Tensor:
        """One step; its loss."""
        with autocast():
            losses = self.network(self.images, self.targets)
        loss = sum(losses.values())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()
