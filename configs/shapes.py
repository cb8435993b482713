"""A small VGG-SSD on the embedded dataset `shapes`.

python train.py --config configs/shapes.py
"""

from ml_collections import ConfigDict

from ssd_jax import config as config_lib


def get_config() -> ConfigDict:
    """The recipe."""
    config = config_lib.base()
    config.data.kind = "shapes"
    config.data.train = "train"
    config.data.eval = "test"
    config.data.canvas = 160

    config.model.size = 128
    config.model.width = 0.125
    config.model.batch_norm = True

    # Larger against the cells than at 300 pixels they would be, so that some priors fit every box.
    config.priors.sizes = (22.0, 38.0, 62.0, 90.0, 116.0, 140.0)

    config.augment.expand_probability = 0.3
    config.augment.max_expand = 2.0

    config.optimizer.rate = 0.01
    config.optimizer.warmup_steps = 50
    config.optimizer.schedule = "cosine"

    config.train.steps = 700
    config.train.log_every = 20
    config.train.checkpoint_every = 200
    config.train.eval_every = 350

    config.evaluate.eleven_point = False
    config.evaluate.inclusive_pixels = False
    return config
