"""SSD in plain PyTorch calls, layer by layer from the paper, taking ssd_jax's parameters."""

import numpy as np
import torch
import torch.nn.functional as F

VGG_LAYERS = (2, 2, 3, 3, 3)
# (kernel, stride, padding) of the second convolution of each extra level
EXTRAS = {
    300: ((3, 2, 1), (3, 2, 1), (3, 1, 0), (3, 1, 0)),
    512: ((3, 2, 1), (3, 2, 1), (3, 2, 1), (3, 2, 1), (4, 1, 1)),
}


def _convolve(x, parameters, **options):
    weight = torch.from_numpy(np.array(parameters["kernel"])).permute(3, 2, 0, 1)
    bias = torch.from_numpy(np.array(parameters["bias"]))
    return F.conv2d(x, weight, bias, **options)


def ssd(parameters, images: np.ndarray, num_classes: int, size: int):
    """(loc [B, P, 4], conf [B, P, C]) of images [B, size, size, 3] without batch norm."""
    backbone, extras, heads = (parameters[name] for name in ("backbone", "extras", "heads"))
    x = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)
    for stage, layers in enumerate(VGG_LAYERS, start=1):
        for layer in range(1, layers + 1):
            x = F.relu(_convolve(x, backbone[f"conv{stage}_{layer}"]["conv"], padding=1))
        if stage == 4:
            length = (x.pow(2).sum(dim=1, keepdim=True) + 1e-10).sqrt()
            scale = torch.from_numpy(np.array(parameters["l2norm"]["scale"]))
            features = [x / length * scale[None, :, None, None]]
        if stage == 5:
            x = F.max_pool2d(x, kernel_size=3, stride=1, padding=1)
        else:
            x = F.max_pool2d(x, kernel_size=2, stride=2, ceil_mode=stage == 3)
    x = F.relu(_convolve(x, backbone["fc6"]["conv"], padding=6, dilation=6))
    x = F.relu(_convolve(x, backbone["fc7"]["conv"]))
    features.append(x)
    for level, (_, stride, padding) in enumerate(EXTRAS[size], start=6):
        x = F.relu(_convolve(x, extras[f"conv{level}_1"]["conv"]))
        x = F.relu(_convolve(x, extras[f"conv{level}_2"]["conv"], stride=stride, padding=padding))
        features.append(x)

    def predict(kind, outputs):
        maps = [
            _convolve(feature, heads[f"{kind}_{level}"], padding=1).permute(0, 2, 3, 1)
            for level, feature in enumerate(features)
        ]
        return torch.cat([m.reshape(len(images), -1, outputs) for m in maps], dim=1).numpy()

    return predict("loc", 4), predict("conf", num_classes)
