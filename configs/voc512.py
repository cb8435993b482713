"""SSD512 on VOC07+12: the recipe of the paper (section 3.1), tested on VOC2007 test.

    python train.py --config configs/voc512.py
    python train.py --config configs/voc512.py --config.data.voc_root=VOCdevkit

120,000 steps of 32 images. Published: 79.8 mAP, from a VGG16 pretrained on ImageNet. This recipe
starts from random weights as yet, so expect less.
"""

from ml_collections import ConfigDict

from ssd_jax import config as config_lib


def get_config() -> ConfigDict:
    """The recipe of SSD300 but for the input size; the priors follow from it."""
    config = config_lib.base()
    config.model.size = 512
    return config
