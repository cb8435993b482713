"""Does a step whose numbers were not finite again: `python -m ssd_jax.training.replay FILE`.

FILE is what training wrote when it met the step, WORKDIR/faults/step_N.npz. Prints where the
numbers go wrong: the image, the prior, the layer and the gradient.
"""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ssd_jax import cli
from ssd_jax.training.diagnosis import diagnose, image_names
from ssd_jax.training.fault_file import Fault


def main(arguments: Sequence[str]) -> None:
    """Replays the file."""
    if len(arguments) != 1:
        raise ValueError("give one file: python -m ssd_jax.training.replay FILE")
    fault = Fault.load(Path(arguments[0]))
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"step {fault.step}, batch of {len(fault.batch['image'])} images:")
    for name in image_names(fault.batch, limit=len(fault.batch["image"])):
        console.print(f"  {name}")
    if fault.state_step != fault.step - 1:
        console.print(
            f"the weights are those after step {fault.state_step}: the step was skipped, and met "
            "after others had been done"
        )
    found = diagnose(fault)
    console.print(", ".join(f"{name} {value:.6g}" for name, value in found.losses.items()))
    for line in found.inputs:
        console.print(line)
    console.print(found.layer or "the outputs of all layers are finite")
    console.print("largest terms of the loss, before the division by the positives:")
    for line in found.terms:
        console.print(f"  {line}")
    if found.gradients:
        console.print(f"gradients that are not finite, {len(found.gradients)}:")
        for name in found.gradients:
            console.print(f"  {name}")
    else:
        console.print("all gradients are finite; the longest are of:")
        for name in found.largest_gradients:
            console.print(f"  {name}")
    if not found.repeats:
        console.print(
            "nothing is wrong this time: the update made the weights not finite, or the "
            "device's rounding was another"
        )


if __name__ == "__main__":
    cli.run(main)
