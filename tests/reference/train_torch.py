"""Training an SSD in plain PyTorch from ssd_jax's parameters: the network, its loss, SGD.

Layer by layer from the paper; weights lie as PyTorch has them ([O, I, H, W]) in a dict by name:
'backbone.conv1_1.conv.kernel' and so on. Matching is `tests.reference.matching`'s, in Python.
"""

import numpy as np
import torch
import torch.nn.functional as F

from tests.reference import matching
from tests.reference.boxes import encode
from tests.reference.ssd_torch import EXTRAS, VGG_LAYERS

BATCH_NORM_MOMENTUM, BATCH_NORM_EPSILON = 0.9, 1e-5


def to_torch(flat):
    """name -> array as here to name -> tensor as in PyTorch; those of parameters learn."""
    tensors = {}
    for name, array in flat.items():
        tensor = torch.from_numpy(np.array(array))
        if name.endswith("kernel"):
            tensor = tensor.permute(3, 2, 0, 1).contiguous()
        tensors[name] = tensor.requires_grad_()
    return tensors


def to_arrays(tensors):
    """The way back."""
    return {
        name: (
            tensor.detach().permute(2, 3, 1, 0) if name.endswith("kernel") else tensor.detach()
        ).numpy()
        for name, tensor in tensors.items()
    }


def forward(weights, statistics, images, num_classes, size):
    """(loc [B, P, 4], conf [B, P, C]) in training; `statistics` of batch norm are moved on.

    Images are [B, size, size, 3]. Without batch norm `statistics` is empty.
    """

    def convolve(x, conv, norm, **options):
        x = F.conv2d(x, weights[f"{conv}.kernel"], weights.get(f"{conv}.bias"), **options)
        if f"{norm}.mean" in statistics:
            move_on(statistics, norm, x.detach())
            affine = weights[f"{norm}.scale"], weights[f"{norm}.bias"]
            x = F.batch_norm(x, None, None, *affine, training=True, eps=BATCH_NORM_EPSILON)
        return x

    def unit(x, name, **options):
        return F.relu(convolve(x, f"{name}.conv", f"{name}.bn", **options))

    x = images.permute(0, 3, 1, 2)
    for stage, layers in enumerate(VGG_LAYERS, start=1):
        for layer in range(1, layers + 1):
            x = unit(x, f"backbone.conv{stage}_{layer}", padding=1)
        if stage == 4:
            length = (x.pow(2).sum(dim=1, keepdim=True) + 1e-10).sqrt()
            features = [x / length * weights["l2norm.scale"][None, :, None, None]]
        if stage == 5:
            x = F.max_pool2d(x, kernel_size=3, stride=1, padding=1)
        else:
            x = F.max_pool2d(x, kernel_size=2, stride=2, ceil_mode=stage == 3)
    x = unit(x, "backbone.fc6", padding=6, dilation=6)
    x = unit(x, "backbone.fc7")
    features.append(x)
    for level, (_, stride, padding) in enumerate(EXTRAS[size], start=6):
        x = unit(x, f"extras.conv{level}_1")
        x = unit(x, f"extras.conv{level}_2", stride=stride, padding=padding)
        features.append(x)

    def predict(kind, outputs):
        maps = []
        for level, feature in enumerate(features):
            name = f"heads.{kind}_{level}"
            y = convolve(feature, name, f"{name}_bn", padding=1)
            maps.append(y.permute(0, 2, 3, 1).reshape(len(images), -1, outputs))
        return torch.cat(maps, dim=1)

    return predict("loc", 4), predict("conf", num_classes)


def move_on(statistics, name, x):
    """A step of the running statistics; the variance over n, where PyTorch's own is over n - 1."""
    for kind, new in (
        ("mean", x.mean(dim=(0, 2, 3))),
        ("var", x.var(dim=(0, 2, 3), unbiased=False)),
    ):
        statistics[f"{name}.{kind}"].lerp_(new, 1 - BATCH_NORM_MOMENTUM)


def targets(boxes, labels, priors, threshold=0.5, variances=(0.1, 0.2)):
    """Offsets [P, 4] and classes [P] of one image by Caffe's matching; a label 0 is no object."""
    boxes, labels = boxes[labels > 0].astype(np.float64), labels[labels > 0]
    priors = priors.astype(np.float64)
    corners = np.concatenate(
        [priors[:, :2] - priors[:, 2:] / 2, priors[:, :2] + priors[:, 2:] / 2], axis=1
    )
    low = np.maximum(boxes[:, None, :2], corners[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], corners[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=-1)
    areas = [np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (boxes, corners)]
    overlaps = shared / (areas[0][:, None] + areas[1][None] - shared)
    truth = np.array(matching.greedy(overlaps.tolist(), threshold))
    offsets, classes = np.zeros((len(priors), 4), np.float32), np.zeros(len(priors), np.int64)
    for prior in np.flatnonzero(truth >= 0):
        offsets[prior] = encode(boxes[truth[prior]], priors[prior], variances)
        classes[prior] = labels[truth[prior]]
    return torch.from_numpy(offsets), torch.from_numpy(classes)


def multibox_loss(loc, conf, loc_targets, classes):
    """Smooth L1 and cross-entropy over positives and the 3 hardest negatives of each (2.2)."""
    positives = classes > 0
    total = max(1, int(positives.sum()))
    loc_loss = F.smooth_l1_loss(loc[positives], loc_targets[positives], reduction="sum")
    entropy = F.cross_entropy(conf.flatten(0, 1), classes.flatten(), reduction="none")
    entropy = entropy.view(classes.shape)
    conf_loss = entropy[positives].sum()
    for row, own in zip(entropy, positives, strict=True):
        hardest = torch.sort(row[~own], descending=True).values
        conf_loss = conf_loss + hardest[: 3 * int(own.sum())].sum()
    return loc_loss / total, conf_loss / total


def sgd(weights, rate, momentum, decay):
    """Caffe's: biases at twice the rate and without decay, batch norm without decay."""
    norms = {name.rpartition(".")[0] for name in weights if name.endswith(".scale")}
    norms = {norm for norm in norms if f"{norm}.bias" in weights}

    def group(name):
        layer, _, leaf = name.rpartition(".")
        return "norm" if layer in norms else "bias" if leaf == "bias" else "other"

    settings = {"bias": (2 * rate, 0.0), "norm": (rate, 0.0), "other": (rate, decay)}
    groups = [
        {"params": [w for n, w in weights.items() if group(n) == kind], "lr": r, "weight_decay": d}
        for kind, (r, d) in settings.items()
    ]
    groups = [each for each in groups if each["params"]]
    return torch.optim.SGD(groups, lr=rate, momentum=momentum)


def train(weights, statistics, batches, priors, *, mean, num_classes, size, rate, momentum, decay):
    """A step a batch; the losses (loc, conf) before each. Weights and statistics are moved on."""
    optimizer = sgd(weights, rate, momentum, decay)
    dtype = weights["backbone.conv1_1.conv.kernel"].dtype
    losses = []
    for batch in batches:
        images = torch.from_numpy(batch["image"].astype(np.float32) - np.float32(mean)).to(dtype)
        loc_targets, classes = map(
            torch.stack,
            zip(
                *(
                    targets(boxes, labels, priors)
                    for boxes, labels in zip(batch["boxes"], batch["labels"], strict=True)
                ),
                strict=True,
            ),
        )
        loc_targets = loc_targets.to(dtype)
        loc, conf = forward(weights, statistics, images, num_classes, size)
        loc_loss, conf_loss = multibox_loss(loc, conf, loc_targets, classes)
        optimizer.zero_grad()
        (loc_loss + conf_loss).backward()
        optimizer.step()
        losses.append((float(loc_loss.detach()), float(conf_loss.detach())))
    return losses
