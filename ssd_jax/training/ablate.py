r"""Which of a recipe's choices help: each switched on by itself, over seeds.

    python -m ssd_jax.training.ablate --config configs/voc300.py --choices configs/voc300_plus.py
    python -m ssd_jax.training.ablate --config configs/shapes.py --choices mine.py --seeds 5
    python -m ssd_jax.training.ablate --config configs/voc300.py --choices configs/voc300_plus.py \
        --only "cosine,average"

The file of choices has a dictionary `CHOICES`, name -> fields of the config -> values, as
configs/voc300_plus.py. The recipe as it is and with each choice is trained from every seed, in
OUT/CHOICE/SEED; the table with 95% intervals goes to the terminal and to OUT/table.md. Started
again it goes on where it stopped, and more seeds or choices join those that are there. --only
trains some of the choices ("the recipe" is one too), so that several machines can share an ablation
in one OUT; the table then has what is done.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags
from rich.console import Console

from ssd_jax import cli, compilation
from ssd_jax.training.ablation import ablate, load_choices
from ssd_jax.training.memory import limit_arenas

CONFIG = cli.define_config()
CACHE = compilation.define_cache()
CHOICES = flags.DEFINE_string("choices", None, "A Python file with a dictionary CHOICES.")
SEEDS = flags.DEFINE_integer("seeds", 3, "Runs of each choice, from seeds 0, 1 and so on.", 1)
ONLY = flags.DEFINE_list("only", [], "Some of the choices, or 'the recipe' [all].")
OUT = flags.DEFINE_string("out", "runs/ablate", "Folder of the runs and the results.")


def main(arguments: Sequence[str]) -> None:
    """Ablates by the flags."""
    if arguments:
        raise ValueError(f"unexpected {' '.join(arguments)}: options start with --")
    limit_arenas()
    if CHOICES.value is None:
        raise ValueError("--choices is missing: give a Python file with a dictionary CHOICES")
    config = cli.required_config(CONFIG)
    compilation.enable_cache(CACHE.value)
    choices = load_choices(Path(CHOICES.value))
    console = Console(soft_wrap=True, markup=False)
    ablate(config, choices, SEEDS.value, Path(OUT.value), console, ONLY.value)


if __name__ == "__main__":
    cli.run(main)
