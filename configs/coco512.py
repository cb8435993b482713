"""SSD512 on COCO 2017: the recipe of the paper (section 3.4), tested on val2017.

    python train.py --config configs/coco512.py
    python train.py --config configs/coco512.py --config.data.root=COCO
    python train.py --config configs/coco512.py --config.data.archives=FOLDER_OF_ZIPS

Without `root` (annotations/instances_train2017.json, annotations/instances_val2017.json, train2017/
and val2017/) or `archives` (annotations_trainval2017.zip, train2017.zip, val2017.zip) it downloads
those zips, 20 GB; they are read as they are.

400,000 steps of 32 images from a VGG16 pretrained on ImageNet, which it downloads
(--config.init=FILE takes one that is there, docs/weights.md). Published: AP 28.8; evaluation prints
AP at IoU .5.
"""

from ml_collections import ConfigDict

from configs import coco300


def get_config() -> ConfigDict:
    """The recipe of SSD300 on COCO but for the input size; the priors follow from it."""
    config = coco300.get_config()
    config.model.size = 512
    return config
