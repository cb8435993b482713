"""Trains an SSD.

    python train.py --config configs/shapes.py
    python train.py --config configs/voc300.py --config.train.batch_size=16 --workdir runs/mine

A run goes on where it stopped; --overwrite starts it anew. Over several machines the same command
runs on each: see docs/training.md.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from ssd_jax import cli, compilation
from ssd_jax.training.interruption import STOPPED
from ssd_jax.training.loop import train
from ssd_jax.training.memory import limit_arenas

CONFIG = cli.define_config()
connect_processes = cli.define_processes()
CACHE = compilation.define_cache()
WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder [runs/NAME of the config].")
PROFILE = flags.DEFINE_integer("profile", 0, "Trace so many steps, to WORKDIR/profile.", 0)
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Delete the run in workdir and start anew.")


def main(arguments: Sequence[str]) -> None:
    """Trains by the flags."""
    if arguments:
        raise ValueError(f"unexpected {' '.join(arguments)}: options start with --")
    limit_arenas()
    connect_processes()
    config = cli.required_config(CONFIG)
    compilation.enable_cache(CACHE.value)
    name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    workdir = Path(WORKDIR.value or f"runs/{name}")
    if train(config, workdir, overwrite=OVERWRITE.value, profile=PROFILE.value) is None:
        sys.exit(STOPPED)


if __name__ == "__main__":
    cli.run(main)
