"""SSD512 on COCO 2017: the original recipe, tested on val2017.

    python train.py --config configs/coco512.py
    python train.py --config configs/coco512.py --config.data.root=COCO
    python train.py --config configs/coco512.py --config.data.archives=FOLDER_OF_ZIPS

Without `root` (annotations/instances_train2017.json, annotations/instances_val2017.json, train2017/
and val2017/) or `archives` (annotations_trainval2017.zip, train2017.zip, val2017.zip) it downloads
those zips, 20 GB; they are read as they are.

400,000 steps of 32 images, as of the original's SSD300 (its SSD512 of COCO was released at step
360,000; its script was not to be had), from a VGG16 pretrained on ImageNet, which it downloads
(--config.init=FILE takes one that is there, docs/weights.md). Published: COCO AP (IoU .5 to .95)
28.8 on test-dev2015. Training prints COCO AP on val2017, evaluate.py its twelve figures.

All but the input's size is configs/coco300.py's, line by line with its sources. The original
program rounds the priors' sizes down to whole pixels; to have its own:
`--config.priors.sizes="(20, 51, 133, 215, 296, 378, 460, 542)"`.
"""

from ml_collections import ConfigDict

from configs import coco300


def get_config() -> ConfigDict:
    """The recipe of SSD300 on COCO but for the input size."""
    config = coco300.get_config()
    # Section 3.4. Priors, from min_ratio 10 and 4 % before it: 20.48 51.2 133.12 215.04 296.96
    # 378.88 460.8, 542.72 pixels; aspect ratios 2 / 2,3 x4 / 2 / 2.
    config.model.size = 512
    return config
