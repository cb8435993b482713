r"""Any dataset of TFDS that has an image and boxes, by its name.

    python train.py --config configs/custom_tfds.py --config.data.name=kitti \
        --config.data.eval=validation

What TFDS has prepared (as array_record or parquet) is read as it is; else it is prepared first, for
which some of TFDS's builders need TensorFlow. The features are found, or given where several could
be meant: --config.data.image_feature=image --config.data.boxes_feature=objects/bbox
--config.data.labels_feature=objects/type. Splits are TFDS's: --config.data.train="train[:80%]".

The network and its training are those of configs/custom_voc.py: 20,000 steps of 32 images from
random weights. No score is known of them.
"""

from ml_collections import ConfigDict

from configs import custom_voc


def get_config() -> ConfigDict:
    """The recipe of one's own data in VOC's layout, but for the dataset and the AP."""
    config = custom_voc.get_config()
    config.data.kind = "tfds"
    config.evaluate.best_metric = "voc"
    config.evaluate.inclusive_pixels = False
    return config
