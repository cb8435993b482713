"""States of full size that cost no memory: every array is one number, repeated."""

import numpy as np

from ssd_jax.priors import VOC300, VOC512
from ssd_jax.weights import names

SPECS = {300: VOC300, 512: VOC512}


def filled(shape, number):
    return np.broadcast_to(np.float32(number), shape)


def theirs(shape):
    """Our kernel's shape in PyTorch's order."""
    return tuple(shape[i] for i in (3, 2, 0, 1)) if len(shape) == 4 else shape


def state(name_of, size=300, num_classes=21):
    """A whole detector; each parameter filled with another number."""
    shapes = names.shapes(num_classes, SPECS[size])
    return {
        names.parameter(name_of, path): filled(theirs(shape), number / 64)
        for number, (path, shape) in enumerate(shapes.items(), start=1)
    }


def blobs(state):
    """A state by Caffe's names as layer -> blobs."""
    layers = {name.rpartition(".")[0] for name in state}
    kinds = ("weight", "bias")
    return {
        layer: [state[f"{layer}.{kind}"] for kind in kinds if f"{layer}.{kind}" in state]
        for layer in layers
    }
