"""SSD300 on COCO 2017: the recipe of the paper (section 3.4), tested on val2017.

    python train.py --config configs/coco300.py
    python train.py --config configs/coco300.py --config.data.root=COCO
    python train.py --config configs/coco300.py --config.data.archives=FOLDER_OF_ZIPS

Without `root` (annotations/instances_train2017.json, annotations/instances_val2017.json, train2017/
and val2017/) or `archives` (annotations_trainval2017.zip, train2017.zip, val2017.zip) it downloads
those zips, 20 GB; they are read as they are.

400,000 steps of 32 images from a VGG16 pretrained on ImageNet, which it downloads
(--config.init=FILE takes one that is there, docs/weights.md). Published: AP 25.1; evaluation prints
AP at IoU .5.
"""

from ml_collections import ConfigDict

from ssd_jax import config as config_lib


def get_config() -> ConfigDict:
    """The recipe."""
    config = config_lib.base()
    config.init = "imagenet"
    config.data.kind = "coco"
    config.data.train = "train2017"
    config.data.eval = "val2017"
    config.data.canvas = 640

    config.priors.preset = "coco"

    config.optimizer.boundaries = (280_000, 360_000)
    config.train.steps = 400_000
    config.train.eval_every = 20_000

    config.evaluate.best_metric = "coco"
    config.evaluate.inclusive_pixels = False
    return config
