"""SSD512 on VOC07+12: the original recipe, tested on VOC2007 test.

    python train.py --config configs/voc512.py
    python train.py --config configs/voc512.py --config.data.voc_root=VOCdevkit
    python train.py --config configs/voc512.py --config.schedule=fast

120,000 steps of 32 images from a VGG16 pretrained on ImageNet, which it downloads
(--config.init=FILE takes one that is there, docs/weights.md). Published: 79.8 mAP.

All but the input's size is configs/voc300.py's, line by line with its sources. The original program
rounds the priors' sizes down to whole pixels at this size (35, 76, 153, 230, 307, 384, 460, 537),
where the paper's and these are 35.84, 76.8 and so on; to have its own:
`--config.priors.sizes="(35, 76, 153, 230, 307, 384, 460, 537)"`.
"""

from ml_collections import ConfigDict

from configs import voc300


def get_config() -> ConfigDict:
    """The recipe of SSD300 but for the input size."""
    config = voc300.get_config()
    # Section 3.1, SSD512. Priors, from min_ratio 15, max_ratio 90 and 7 % before them: 35.84 76.8
    # 153.6 230.4 307.2 384 460.8, 537.6 pixels; aspect ratios 2 / 2,3 x4 / 2 / 2.
    config.model.size = 512
    return config
