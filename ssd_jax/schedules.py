"""Shorter training of the VOC recipes: `--config.schedule=fast`.

The full schedule shows the network 3.84 million images, 232 times VOC07+12. `fast` shows it 1.6
million, 97 times, at four times the batch and the rate, along a cosine, computed in bfloat16, with
the decoded images kept on the accelerator and one evaluation at the end. At 1000 images a second
SSD300 would so take less than 30 minutes, and SSD512, three times the work an image, three times as
long: that is reckoned, for no GPU has timed either. What it gives up: more than half of the images
and of the random crops among them, so some mAP (how much is not measured yet); the curve of mAP on
the way; and 12.4 GB of the accelerator's memory for the images.
"""

from collections.abc import Collection
from typing import Any

from ml_collections import ConfigDict

from ssd_jax import config as config_lib

FAST: dict[str, Any] = {
    "data.cache": "device",
    "model.dtype": "bfloat16",
    "optimizer.rate": 4e-3,
    "optimizer.schedule": "cosine",
    "optimizer.warmup_steps": 1_000,
    "train.batch_size": 128,
    "train.steps": 12_500,
    "train.eval_every": 12_500,
}


def with_schedule(config: ConfigDict, given: Collection[str] = ()) -> ConfigDict:
    """The config with the fields that its `schedule` sets; that says 'full' then.

    Args:
      config: a whole config; it is not changed.
      given: fields, such as 'train.batch_size', that were set besides the schedule, and stay.

    Raises:
      ValueError: the schedule is unknown, or made for other data or another recipe.
    """
    config = config.copy_and_resolve_references()
    if config.schedule == "full":
        return config
    if config.schedule != "fast":
        raise ValueError(f"config.schedule is {config.schedule!r}; it must be 'full' or 'fast'")
    if config.data.kind != "voc":
        raise ValueError(
            f"config.schedule='fast' is made for VOC07+12, and config.data.kind is "
            f"{config.data.kind!r}: set config.train.steps and its neighbours instead"
        )
    original, met = (dict(config_lib.flatten(each)) for each in (config_lib.base(), config))
    fields = [name for name in FAST if name not in given]
    other = [name for name in fields if met[name] != original[name]]
    if other:
        raise ValueError(
            f"config.schedule='fast' is made for configs/voc300.py and configs/voc512.py; this "
            f"recipe sets config.{other[0]} to {met[other[0]]!r}"
        )
    config.update_from_flattened_dict({name: FAST[name] for name in fields})
    config.schedule = "full"
    return config
