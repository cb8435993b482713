"""SSD512 on VOC07+12 with what later work showed to help.

    python train.py --config configs/voc512_plus.py
    python train.py --config configs/voc512_plus.py --config.data.voc_root=VOCdevkit

The choices of configs/voc300_plus.py, and at this size half its batch and half its rate. No score
is known of it yet.
"""

from ml_collections import ConfigDict

from configs import voc300_plus


def get_config() -> ConfigDict:
    """The recipe of SSD300 but for the input size and what it takes to fit one accelerator."""
    config = voc300_plus.get_config()
    config.model.size = 512
    config.train.batch_size = 64
    config.train.steps = 120_000
    config.optimizer.rate = 0.025
    return config
