"""SSD300 on VOC07+12: the recipe of the paper (section 3.1), tested on VOC2007 test.

    python train.py --config configs/voc300.py
    python train.py --config configs/voc300.py --config.data.voc_root=VOCdevkit
    python train.py --config configs/voc300.py --config.data.archives=FOLDER_OF_TARS

Without `voc_root` (an unpacked VOCdevkit with VOC2007 and VOC2012) or `archives` it downloads.
120,000 steps of 32 images from a VGG16 pretrained on ImageNet, which it downloads
(--config.init=FILE takes one that is there, docs/weights.md). Published: 77.2 mAP.
"""

from ml_collections import ConfigDict

from ssd_jax import config as config_lib


def get_config() -> ConfigDict:
    """The recipe: every other default of `ssd_jax.config.base` is this one's."""
    config = config_lib.base()
    config.init = "imagenet"
    return config
