"""Weights from elsewhere: VGG16 for the backbone, whole detectors of other programs, and back.

`python -m ssd_jax.weights FILE --out DIR` makes a checkpoint of a file; docs/weights.md lists the
files.
"""

from ssd_jax.weights.detectors import (
    from_caffe,
    from_lufficc,
    from_mmdetection,
    from_ssd_pytorch,
    from_torchvision,
)
from ssd_jax.weights.exporters import to_ssd_pytorch, to_torchvision
from ssd_jax.weights.files import read_weights
from ssd_jax.weights.imported import Backbone, Imported, Preprocessing

__all__ = [
    "Backbone",
    "Imported",
    "Preprocessing",
    "from_caffe",
    "from_lufficc",
    "from_mmdetection",
    "from_ssd_pytorch",
    "from_torchvision",
    "read_weights",
    "to_ssd_pytorch",
    "to_torchvision",
]
