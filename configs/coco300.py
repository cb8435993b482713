"""SSD300 on COCO 2017: the original recipe, tested on val2017.

    python train.py --config configs/coco300.py
    python train.py --config configs/coco300.py --config.data.root=COCO
    python train.py --config configs/coco300.py --config.data.archives=FOLDER_OF_ZIPS

Without `root` (annotations/instances_train2017.json, annotations/instances_val2017.json, train2017/
and val2017/) or `archives` (annotations_trainval2017.zip, train2017.zip, val2017.zip) it downloads
those zips, 20 GB; they are read as they are.

400,000 steps of 32 images from a VGG16 pretrained on ImageNet, which it downloads
(--config.init=FILE takes one that is there, docs/weights.md). Published: COCO AP (IoU .5 to .95)
25.1 on test-dev2015, of a network trained on trainval35k, whose images are those of train2017.
Training prints COCO AP on val2017, evaluate.py its twelve figures.

Behind each value is its source: a section of the paper (arXiv 1512.02325v5), or
examples/ssd/ssd_coco.py of the original program ("script"). OURS is
not in the original.
"""

from ml_collections import ConfigDict

from configs import voc300


def get_config() -> ConfigDict:
    """The recipe of SSD300 on VOC, line by line with its sources, but for what follows."""
    config = voc300.get_config()
    config.data.kind = "coco"  # section 3.4
    config.data.train = "train2017"  # section 3.4: trainval35k, the same images
    config.data.eval = "val2017"  # script: minival, the same images
    config.data.canvas = 640  # OURS: the longest side of COCO's images
    # Script: train_on_diff_gt = False; a crowd is read as difficult. Its crops look at it, though.
    config.data.crowd = "drop"

    # Section 3.4: 7 % before min_ratio 15: 21 45 99 153 207 261, 315 pixels.
    config.priors.preset = "coco"

    config.optimizer.boundaries = (280_000, 360_000)  # script: stepvalue
    config.train.steps = 400_000  # script: max_iter
    config.train.eval_every = 20_000  # OURS: 20 evaluations in all

    config.evaluate.best_metric = "coco"  # section 3.4, table 5
    config.evaluate.inclusive_pixels = False  # as pycocotools
    return config
