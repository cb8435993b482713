"""SSD512 on VOC07+12: the recipe of the paper (section 3.1), tested on VOC2007 test.

    python train.py --config configs/voc512.py
    python train.py --config configs/voc512.py --config.data.voc_root=VOCdevkit

120,000 steps of 32 images from a VGG16 pretrained on ImageNet, which it downloads
(--config.init=FILE takes one that is there, docs/weights.md). Published: 79.8 mAP.
"""

from ml_collections import ConfigDict

from configs import voc300


def get_config() -> ConfigDict:
    """The recipe of SSD300 but for the input size; the priors follow from it."""
    config = voc300.get_config()
    config.model.size = 512
    return config
