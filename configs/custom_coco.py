r"""One's own data with COCO's annotations (JSON), straight from the files.

    python train.py --config configs/custom_coco.py --config.data.root=DIR
    python train.py --config configs/custom_coco.py \
        --config.data.annotations=DIR/all.json --config.data.fraction=0.2

The first wants a file a split, in COCO's layout or a common export's: SPLIT/ and
annotations/instances_SPLIT.json, images/ and annotations/SPLIT.json, or the images with
SPLIT/_annotations.coco.json beside them; SPLIT is train and test, or as given:
--config.data.train=train2017 --config.data.eval=val2017. The second tests on a fifth of one file's
images, chosen by their names, so by the same ones in every run; the images lie in images/ beside
the file, or in --config.data.images=FOLDER. FOLDER is a path from data.root, without that from the
annotation file's folder, or absolute; with data.root, data.annotations too is a path from it.

The mAP that training prints, and that ranks checkpoints, is the area under the curve at IoU .5
('voc'); COCO's AP ranks them by --config.evaluate.best_metric=coco.

The network and its training are those of configs/custom_voc.py: 20,000 steps of 32 images from
random weights. No score is known of them.
"""

from ml_collections import ConfigDict

from configs import custom_voc


def get_config() -> ConfigDict:
    """The recipe of one's own data in VOC's layout, but for the files and the AP."""
    config = custom_voc.get_config()
    config.data.kind = "coco_json"
    config.evaluate.best_metric = "voc"
    config.evaluate.inclusive_pixels = False
    return config
