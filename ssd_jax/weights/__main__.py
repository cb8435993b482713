"""Makes a checkpoint of another program's detector.

    python -m ssd_jax.weights ssd300_mAP_77.43_v2.pth --out runs/ssd_pytorch
    python -m ssd_jax.weights FILE --out DIR --classes person,car

DIR is then what evaluate.py and detect.py take as --ckpt, and train.py as --config.init. Which
program the file is of shows from what is in it; docs/weights.md lists them.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
from absl import flags
from rich.console import Console

from ssd_jax import cli
from ssd_jax.class_names import PRESETS, parse_names
from ssd_jax.recipe import build_model
from ssd_jax.training import checkpoints as checkpoint_lib
from ssd_jax.training.checkpoints import Checkpoints, Meta
from ssd_jax.training.optimizer import build_optimizer
from ssd_jax.training.state import init_state
from ssd_jax.weights.files import read_weights
from ssd_jax.weights.imported import Imported
from ssd_jax.weights.transfer import transfer

OUT = flags.DEFINE_string("out", None, "The folder to write the checkpoint to.")
CLASSES = flags.DEFINE_string(
    "classes",
    None,
    "The classes to have, to train it for: 'voc', 'coco', names joined by commas, or a file with a "
    "name a line [those of the file].",
)
CLASS_NAMES = flags.DEFINE_string(
    "class_names", None, "What the file's own outputs are, likewise [by their number]."
)
DATASET = flags.DEFINE_enum(
    "dataset", None, sorted(PRESETS), "Whose prior sizes it was trained with [by its classes]."
)


_DATA = {"voc": "--voc_root VOCdevkit", "coco": "--root COCO", "voc_folder": "--root FOLDER"}


def main(arguments: Sequence[str]) -> None:
    """Converts by the flags."""
    if len(arguments) != 1:
        raise ValueError(f"give one file of weights, got {len(arguments)}")
    if OUT.value is None:
        raise ValueError("--out is missing: give a folder for the checkpoint")
    path, out = Path(arguments[0]), Path(OUT.value)
    if (out / checkpoint_lib.FOLDER).exists():
        raise ValueError(f"{out} holds checkpoints already: delete them or give another --out")
    weights = read_weights(path, class_names=parse_names(CLASS_NAMES.value), dataset=DATASET.value)
    if not isinstance(weights, Imported):
        raise ValueError(
            f"{path} is {weights.source}, no detector: train one from it by "
            f"train.py --config configs/voc300.py --config.init={path}"
        )
    class_names = parse_names(CLASSES.value) or weights.class_names
    console = Console(soft_wrap=True, markup=False)
    config = weights.config(class_names)
    optimizer = build_optimizer(config)

    def adapt(fresh):
        variables, lines = transfer(fresh, weights.variables, class_names, weights.class_names)
        if class_names != weights.class_names:
            console.print("\n".join(lines), highlight=False)
        return variables

    model = build_model(config, class_names)
    state = jax.device_put(init_state(model, optimizer, config.seed, adapt))
    checkpoints = Checkpoints(out, keep=1)
    checkpoints.save(state, Meta(config, class_names))
    checkpoints.close()
    console.print(
        f"{weights.source}, {len(class_names)} classes, {model.priors.num_priors} priors: {out}\n"
        f"python detect.py --ckpt {out} PICTURE\n"
        f"python evaluate.py --ckpt {out} "
        + _DATA[config.data.kind]
        + f"\npython train.py --config RECIPE --config.init={out}",
        highlight=False,
    )


if __name__ == "__main__":
    cli.run(main)
