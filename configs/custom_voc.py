r"""One's own data in VOC's layout, straight from the files.

    python train.py --config configs/custom_voc.py --config.data.root=DIR

DIR holds JPEGImages/, Annotations/*.xml and ImageSets/Main/train.txt and test.txt (other splits:
--config.data.train=trainval --config.data.eval=val). The class names are gathered from the
annotations, or given: --config.data.class_names="('cat', 'dog')". The mAP that training prints, and
that ranks checkpoints, is VOC07's over inclusive pixels, as the devkit has it; other ones:
--config.evaluate.best_metric=voc (or coco) --config.evaluate.inclusive_pixels=False.

From random weights, so with batch norm. 20,000 steps of 32 images at full size are for a GPU, and
no score is known of them. On a CPU a narrow network finds cells in BCCD (VOC layout, 292 images to
train on), mAP .838, .826 and .838 on its test split from seeds 0, 1 and 2, by what takes 4 to 5
minutes on 2 busy cores:

    python train.py --config configs/custom_voc.py --config.data.root=BCCD \
        --config.data.train=trainval --config.model.width=0.125 --config.model.size=200 \
        --config.train.batch_size=8 --config.train.steps=700 \
        --config.optimizer.kind=muon --config.optimizer.rate=0.02 \
        --config.augment.expand_probability=0.0 --config.augment.photometric_probability=0.0
"""

from ml_collections import ConfigDict

from ssd_jax import config as config_lib


def get_config() -> ConfigDict:
    """The recipe."""
    config = config_lib.base()
    config.data.kind = "voc_folder"
    config.data.train = "train"
    config.data.eval = "test"
    config.data.canvas = 640

    config.model.batch_norm = True

    config.optimizer.kind = "adamw"
    config.optimizer.rate = 0.001
    config.optimizer.weight_decay = 0.01
    config.optimizer.bias_rate = 1.0
    config.optimizer.warmup_steps = 100
    config.optimizer.schedule = "cosine"

    config.train.steps = 20_000
    config.train.log_every = 20
    config.train.checkpoint_every = 500
    config.train.eval_every = 1_000
    return config
