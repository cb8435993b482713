"""The SSDs of other programs in PyTorch, written from their descriptions, with their names.

Each is a module whose `state_dict()` has the names of its program's files, `features(images)` and
`forward(images)` -> (loc [B, P, 4], conf [B, P, C]); `images` as the program's network takes them,
[B, 3, H, W].
"""

import torch
import torch.nn.functional as F
from torch import nn

WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
BOXES = {300: (4, 6, 6, 6, 4, 4), 512: (4, 6, 6, 6, 6, 4, 4)}
SOURCES = {300: (512, 1024, 512, 256, 256, 256), 512: (512, 1024, 512, 256, 256, 256, 256)}
# (in, narrow, out, kernel, stride, padding) of each extra pair
EXTRAS = {
    300: (
        (1024, 256, 512, 3, 2, 1),
        (512, 128, 256, 3, 2, 1),
        (256, 128, 256, 3, 1, 0),
        (256, 128, 256, 3, 1, 0),
    ),
    512: (
        (1024, 256, 512, 3, 2, 1),
        (512, 128, 256, 3, 2, 1),
        (256, 128, 256, 3, 2, 1),
        (256, 128, 256, 3, 2, 1),
        (256, 128, 256, 4, 1, 1),
    ),
}


def vgg(ceil_mode=lambda stage: stage == 3):
    """VGG16 without its last pool, then pool5, fc6 and fc7: 35 modules with ReLUs."""
    layers, channels = [], 3
    for stage, widths in enumerate(WIDTHS, start=1):
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        if stage < 5:
            layers.append(nn.MaxPool2d(2, 2, ceil_mode=ceil_mode(stage)))
    layers += [nn.MaxPool2d(3, 1, padding=1), nn.Conv2d(512, 1024, 3, padding=6, dilation=6)]
    layers += [nn.ReLU(), nn.Conv2d(1024, 1024, 1), nn.ReLU()]
    return layers


class L2Norm(nn.Module):
    """weight * x / (|x| + 1e-10): the epsilon outside the root, as these programs have it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((512,), 20.0))

    def forward(self, x):
        length = torch.sqrt((x * x).sum(dim=1, keepdim=True)) + 1e-10
        return self.weight.view(1, -1, 1, 1) * (x / length)


def flat_extras(size):
    layers = []
    for channels, narrow, out, kernel, stride, padding in EXTRAS[size]:
        layers.append(nn.Conv2d(channels, narrow, 1))
        layers.append(nn.Conv2d(narrow, out, kernel, stride=stride, padding=padding))
    return nn.ModuleList(layers)


def heads(size, outputs):
    convolutions = [
        nn.Conv2d(channels, boxes * outputs, 3, padding=1)
        for channels, boxes in zip(SOURCES[size], BOXES[size], strict=True)
    ]
    return nn.ModuleList(convolutions)


def predict(convolutions, features, outputs):
    maps = [c(f).permute(0, 2, 3, 1) for c, f in zip(convolutions, features, strict=True)]
    return torch.cat([m.reshape(len(m), -1, outputs) for m in maps], dim=1)


def sequential_features(layers, l2norm, extras, x):
    """From a flat list of VGG's layers (conv4_3's ReLU is number 22) and of the extras."""
    for layer in layers[:23]:
        x = layer(x)
    features = [l2norm(x)]
    for layer in layers[23:]:
        x = layer(x)
    features.append(x)
    for place, convolution in enumerate(extras):
        x = F.relu(convolution(x))
        if place % 2:
            features.append(x)
    return features


class SsdPytorch(nn.Module):
    """amdegroot/ssd.pytorch."""

    def __init__(self, size, num_classes):
        super().__init__()
        self.num_classes = num_classes
        self.vgg = nn.ModuleList(vgg())
        self.L2Norm = L2Norm()
        self.extras = flat_extras(size)
        self.loc, self.conf = heads(size, 4), heads(size, num_classes)

    def head_lists(self):
        return self.loc, self.conf

    def features(self, x):
        return sequential_features(self.vgg, self.L2Norm, self.extras, x)

    def forward(self, x):
        features = self.features(x)
        loc, conf = self.head_lists()
        return predict(loc, features, 4), predict(conf, features, self.num_classes)


class Lufficc(SsdPytorch):
    """lufficc/SSD: the same network in other drawers."""

    def __init__(self, size, num_classes):
        nn.Module.__init__(self)
        self.num_classes = num_classes
        self.backbone = nn.Module()
        self.backbone.vgg = nn.ModuleList(vgg())
        self.backbone.extras = flat_extras(size)
        self.backbone.l2_norm = L2Norm()
        self.box_head = nn.Module()
        self.box_head.predictor = nn.Module()
        self.box_head.predictor.cls_headers = heads(size, num_classes)
        self.box_head.predictor.reg_headers = heads(size, 4)

    def head_lists(self):
        predictor = self.box_head.predictor
        return predictor.reg_headers, predictor.cls_headers

    def features(self, x):
        backbone = self.backbone
        return sequential_features(backbone.vgg, backbone.l2_norm, backbone.extras, x)


class Torchvision(SsdPytorch):
    """ssd300_vgg16: VGG cut before pool4, blocks after it, `F.normalize` with one scale tensor."""

    def __init__(self, num_classes):
        nn.Module.__init__(self)
        self.num_classes = num_classes
        layers = vgg()
        self.backbone = nn.Module()
        self.backbone.scale_weight = nn.Parameter(torch.full((512,), 20.0))
        self.backbone.features = nn.Sequential(*layers[:23])
        blocks = [nn.Sequential(*layers[23:30], nn.Sequential(*layers[30:]))]
        for channels, narrow, out, kernel, stride, padding in EXTRAS[300]:
            second = nn.Conv2d(narrow, out, kernel, stride=stride, padding=padding)
            blocks.append(
                nn.Sequential(nn.Conv2d(channels, narrow, 1), nn.ReLU(), second, nn.ReLU())
            )
        self.backbone.extra = nn.ModuleList(blocks)
        self.head = nn.Module()
        self.head.classification_head = nn.Module()
        self.head.classification_head.module_list = heads(300, num_classes)
        self.head.regression_head = nn.Module()
        self.head.regression_head.module_list = heads(300, 4)

    def head_lists(self):
        return self.head.regression_head.module_list, self.head.classification_head.module_list

    def features(self, x):
        x = self.backbone.features(x)
        features = [self.backbone.scale_weight.view(1, -1, 1, 1) * F.normalize(x)]
        for block in self.backbone.extra:
            x = block(x)
            features.append(x)
        return features


class Mmdetection(SsdPytorch):
    """mmdetection 2.14 on: every pool of VGG rounds up; the last class is the background."""

    def __init__(self, size, num_classes):
        nn.Module.__init__(self)
        self.num_classes = num_classes
        self.backbone = nn.Module()
        self.backbone.features = nn.Sequential(*vgg(ceil_mode=lambda stage: True))
        self.neck = nn.Module()
        self.neck.l2_norm = L2Norm()
        extras = flat_extras(size)
        pairs = []
        for first in range(0, len(extras), 2):
            pair = nn.Sequential(nn.Module(), nn.Module())
            pair[0].conv, pair[1].conv = extras[first], extras[first + 1]
            pairs.append(pair)
        self.neck.extra_layers = nn.ModuleList(pairs)
        self.bbox_head = nn.Module()
        wrap = [[nn.Sequential(c) for c in heads(size, n)] for n in (num_classes, 4)]
        self.bbox_head.cls_convs, self.bbox_head.reg_convs = map(nn.ModuleList, wrap)

    def head_lists(self):
        lists = (self.bbox_head.reg_convs, self.bbox_head.cls_convs)
        return tuple(nn.ModuleList([wrapped[0] for wrapped in each]) for each in lists)

    def features(self, x):
        extras = [layer.conv for pair in self.neck.extra_layers for layer in pair]
        return sequential_features(self.backbone.features, self.neck.l2_norm, extras, x)


class Caffe(SsdPytorch):
    """The original: layers by name, the epsilon inside the root. Takes BGR."""

    def features(self, x):
        length = lambda y: torch.sqrt((y * y).sum(dim=1, keepdim=True) + 1e-10)  # noqa: E731
        scale = self.L2Norm.weight.view(1, -1, 1, 1)
        return sequential_features(self.vgg, lambda y: scale * y / length(y), self.extras, x)

    def blobs(self):
        """Layer -> [kernel, bias] by Caffe's names."""
        layers, place = {}, 0
        for stage, widths in enumerate(WIDTHS, start=1):
            for number in range(1, len(widths) + 1):
                layers[f"conv{stage}_{number}"] = self.vgg[place]
                place += 2
            place += 1
        layers["fc6"], layers["fc7"] = self.vgg[31], self.vgg[33]
        sources = ["conv4_3_norm", "fc7"]
        for number, convolution in enumerate(self.extras):
            name = f"conv{6 + number // 2}_{1 + number % 2}"
            layers[name] = convolution
            if number % 2:
                sources.append(name)
        for source, loc, conf in zip(sources, self.loc, self.conf, strict=True):
            layers[f"{source}_mbox_loc"], layers[f"{source}_mbox_conf"] = loc, conf
        blobs = {
            name: [layer.weight.detach().numpy(), layer.bias.detach().numpy()]
            for name, layer in layers.items()
        }
        return blobs | {"conv4_3_norm": [self.L2Norm.weight.detach().numpy()]}


@torch.no_grad()
def randomise(network, images, background, seed=0):
    """Random weights by which activations keep their size and a few hundred priors find something.

    Args:
      network: one of these.
      images: to size the heads by.
      background: its place among the classes.
      seed: of the random numbers.
    """
    random = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 4:
            deviation = (2 / (parameter.shape[1] * parameter.shape[2] * parameter.shape[3])) ** 0.5
            parameter.normal_(0, deviation, generator=random)
        elif name.endswith("bias"):
            parameter.normal_(0, 0.1, generator=random)
        else:  # the L2Norm's scale
            parameter.uniform_(10, 30, generator=random)
    features = network.features(images)
    loc, conf = network.head_lists()
    for convolutions, deviation in ((loc, 1.0), (conf, 1.5)):
        for convolution, feature in zip(convolutions, features, strict=True):
            fan_in = 9 * feature.shape[1]
            size = feature.square().mean().sqrt() * fan_in**0.5
            convolution.weight.normal_(0, 1, generator=random).mul_(deviation / size)
    for convolution in conf:
        convolution.bias.view(-1, network.num_classes)[:, background] += 6.0
    return network.eval()
