r"""A detector of any kind, taught one's own few images in VOC's layout.

    python train.py --config configs/recipes/finetune.py --config.data.root=DIR \
        --config.init=RUN_OR_FILE

RUN_OR_FILE is a run's folder, a folder of `python -m ssd_jax.weights` or another program's file.
Of a run it is the newest checkpoint. Class heads are taken by the classes' names, the rest of the
heads starts fresh; the network's size, width, batch norm (of a run of `custom_voc` or `shapes`:
`--config.model.batch_norm=True`) and priors have to be the old one's (it is said where they are
not). From `shapes` to blood cells:

    python train.py --config configs/shapes.py
    python train.py --config configs/recipes/finetune.py --config.data.root=BCCD \
        --config.data.train=trainval --config.init=runs/shapes --config.model.size=128 \
        --config.model.width=0.125 --config.model.batch_norm=True \
        --config.priors.sizes="(22.0, 38.0, 62.0, 90.0, 116.0, 140.0)" \
        --config.optimizer.rate=0.005

So that a few images teach new classes and what was known is not forgotten:

- the backbone learns at three tenths of the rate of extras and heads. At the full rate
  (`--config.optimizer.rates="()"`) new classes are learnt better and old ones forgotten sooner;
- the steps are few, along a cosine, and the best of them is kept: `--best` of `evaluate.py`,
  `detect.py` and the others takes it, and without it they take the newest;
- the average over the steps is evaluated: single steps of few images are noisy;
- the augmentation is the original's but for the expansion, which makes most objects smaller than
  few images show them.

What that keeps, and what fixed stages or the full rate give, is in docs/results.md. Stages are
fixed by `--config.optimizer.frozen="('backbone/conv1_*', 'backbone/conv2_*')"`, and the statistics
of their batch norm by `optimizer.frozen_statistics` with the same.

To keep the old classes too, have them in the new dataset's class names and, better, some of their
images: classes that no image shows are unlearnt as background.
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

    config.augment.expand_probability = 0.0

    config.optimizer.rates = (("backbone/*", 0.3),)
    config.optimizer.kind = "adamw"
    config.optimizer.rate = 5e-4
    config.optimizer.weight_decay = 0.01
    config.optimizer.bias_rate = 1.0
    config.optimizer.warmup_steps = 50
    config.optimizer.schedule = "cosine"

    config.ema.decay = 0.99

    config.train.batch_size = 8
    config.train.steps = 1_000
    config.train.log_every = 20
    config.train.checkpoint_every = 250
    config.train.eval_every = 250
    return config
