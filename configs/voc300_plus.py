"""SSD300 on VOC07+12 with what later work showed to help.

    python train.py --config configs/voc300_plus.py
    python train.py --config configs/voc300_plus.py --config.data.voc_root=VOCdevkit
    python -m ssd_jax.training.ablate --config configs/voc300.py --choices configs/voc300_plus.py

60,000 steps of 128 images from random weights: twice the images of configs/voc300.py. Batch norm,
also in the heads, and the large batch come from ScratchDet (arXiv 1810.08425), whose VGG16 so
reached 78.7 mAP without ImageNet. No score is known of this recipe yet. The last command trains the
original recipe, and the same with each of `CHOICES` switched on by itself, from three seeds each.

From VGG16's weights: `--config.init=imagenet`. They have no batch norm; it is added so that the
network computes what it did. Which rate suits that is not known. As the original's network, without
batch norm: `--config.init=imagenet --config.model.batch_norm=False
--config.model.head_batch_norm=False --config.optimizer.rate=0.004`.
"""

from ml_collections import ConfigDict

from configs import voc300

# Each goes with the fields that it needs, so that it can be switched on by itself.
CHOICES = {
    "batch norm": {  # ScratchDet: in backbone and extras, and the higher rate that it bears
        "model.batch_norm": True,
        "init": "scratch",
        "optimizer.rate": 0.0125,
    },
    "head batch norm": {"model.head_batch_norm": True},  # ScratchDet: of the heads' outputs too
    "large batch": {  # ScratchDet: 128 images; the rate times four (arXiv 1706.02677), so .05
        "train.batch_size": 128,
        "train.steps": 30_000,
        "optimizer.rate": 0.004,
        "optimizer.boundaries": (20_000, 25_000),
        "optimizer.warmup_steps": 1_000,
    },
    "twice as long": {  # weights from nowhere need more steps (arXiv 1811.08883)
        "train.steps": 240_000,
        "optimizer.boundaries": (160_000, 200_000),
    },
    "cosine": {"optimizer.schedule": "cosine"},  # arXiv 1608.03983, one period
    "average": {"ema.decay": 0.9998},  # arXiv 1703.01780: evaluated in place of the last weights
    "bfloat16": {"model.dtype": "bfloat16"},  # faster; parameters and loss stay float32
}


def get_config() -> ConfigDict:
    """The original recipe with all choices together."""
    config = voc300.get_config()
    for fields in CHOICES.values():
        config.update_from_flattened_dict(fields)
    # Where two of them meet in a field: both factors.
    config.optimizer.rate = 0.05
    config.train.steps = 60_000
    config.train.eval_every = 5_000
    return config
