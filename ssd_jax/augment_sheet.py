"""Draws a sheet of augmented training samples with their boxes: `python -m ssd_jax.augment`."""

import itertools
from collections.abc import Sequence

import jax
import numpy as np
from absl import flags

from ssd_jax import cli
from ssd_jax.augment import augment
from ssd_jax.data import Policies, load_dataset, train_batches
from ssd_jax.recipe import build_augmentation
from ssd_jax.training.objective import BATCH_FIELDS, row_keys
from ssd_jax.training.step import to_device
from ssd_jax.visualize import check_can_write, contact_sheet, draw_boxes, write_image

CONFIG = cli.define_config()
OUT = flags.DEFINE_string("out", "augmented.png", "The picture to write.")
SAMPLES = flags.DEFINE_integer("samples", 24, "How many samples to draw, of those of a batch.", 1)
STEP = flags.DEFINE_integer("step", 0, "The training step to draw the samples of.", 0)
COLUMNS = 6


def main(arguments: Sequence[str]) -> None:
    """Draws what the training step `--step` of the config would see.

    Expansion fills with the recipe's mean; with `init`, training takes that of the weights.
    """
    if arguments:
        raise ValueError(f"unexpected {' '.join(arguments)}: options start with --")
    check_can_write(OUT.value)
    config = cli.required_config(CONFIG)
    dataset = load_dataset(config.data, config.data.train)
    batch = next(
        train_batches(
            dataset,
            batch_size=config.train.batch_size,
            canvas_size=config.data.canvas,
            slots=config.data.slots,
            seed=config.seed,
            start_step=STEP.value,
            stop_step=STEP.value + 1,
            policies=Policies.from_settings(config.data),
        )
    )
    mean, std = tuple(config.model.mean), tuple(config.model.std)
    size = (config.model.size, config.model.size)
    options = build_augmentation(config)

    @jax.jit
    @jax.vmap
    def augmented(key, *sample):
        return augment(key, *sample, image_size=size, mean=mean, std=std, options=options)

    keys = row_keys(config.seed, STEP.value, config.train.batch_size)
    on_device = to_device(batch, jax.sharding.SingleDeviceSharding(jax.devices()[0]))
    images, boxes, labels = jax.tree.map(
        np.asarray, augmented(keys, *(on_device[name] for name in BATCH_FIELDS))
    )
    colours = images * np.array(std, np.float32) + np.array(mean, np.float32)
    pixels = np.clip(np.rint(colours), 0, 255).astype(np.uint8)
    drawn = []
    for picture, corners, classes in itertools.islice(
        zip(pixels, boxes, labels, strict=True), SAMPLES.value
    ):
        real = classes > 0
        names = [dataset.class_names[label - 1] for label in classes[real]]
        drawn.append(
            draw_boxes(picture, corners[real] * config.model.size, names, labels=classes[real])
        )
    write_image(OUT.value, contact_sheet(drawn, columns=COLUMNS, cell=(300, 300)))
    print(f"{len(drawn)} samples of step {STEP.value} are in {OUT.value}")
