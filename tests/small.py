"""The smallest recipe that still runs through everything."""

import jax
import numpy as np
from ml_collections import ConfigDict

from ssd_jax import Detector
from ssd_jax import config as config_lib
from ssd_jax.engine import JaxEngine
from ssd_jax.recipe import build_model


def small_config(data_dir: str) -> ConfigDict:
    """SSD of 96 pixels and width 1/8 on 32 pictures of `shapes`, to be learnt by heart."""
    config = config_lib.base()
    config.data.kind = "shapes/small"
    config.data.train = "train[:32]"
    config.data.eval = "train[:32]"
    config.data.data_dir = data_dir
    config.data.canvas = 160
    config.model.size = 96
    config.model.width = 0.125
    config.model.batch_norm = True
    config.augment.photometric_probability = 0.0
    config.augment.expand_probability = 0.0
    config.augment.crop_probability = 0.0
    config.augment.interpolations = ("linear",)
    config.optimizer.kind = "adamw"
    config.optimizer.rate = 0.004
    config.optimizer.weight_decay = 0.0
    config.optimizer.bias_rate = 1.0
    config.optimizer.warmup_steps = 10
    config.optimizer.schedule = "step"
    config.optimizer.boundaries = ()  # so that runs of other lengths are one compiled program
    config.train.batch_size = 8
    config.train.steps = 200
    config.train.log_every = 20
    config.train.checkpoint_every = 100
    config.train.eval_every = 200
    config.train.pictures = 0
    config.evaluate.batch_size = 20
    config.evaluate.best_metric = "voc"
    config.evaluate.inclusive_pixels = False
    return config


def untrained_detector(config: ConfigDict, class_names: tuple[str, ...]) -> Detector:
    """A detector of random weights, at 96 pixels."""
    model = build_model(config, class_names)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 96, 96, 3), np.float32))
    random = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: random.uniform(0.1, 1, leaf.shape).astype(leaf.dtype), shapes
    )
    return Detector(JaxEngine(config, class_names, variables))
