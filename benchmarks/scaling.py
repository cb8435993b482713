"""The training step at a constant batch a device on one device and on more, and what they exchange.

    python benchmarks/scaling.py [--quick]

On GPUs those that are there. On a CPU eight virtual devices, which share its cores: the step then
takes longer in proportion, and what is measured is the time of an image beyond that of one device.
"""

import jax
from common import Report, main, medians, on_cpu
from hlo import collectives
from workload import Training, recipe

LARGE = 100_000
"""Bytes above which an exchange counts as large."""
VIRTUAL_DEVICES = 8


def measure(report: Report, quick: bool) -> None:
    """One device, two, and so on to all."""
    if jax.config.jax_platforms == "cpu" or jax.config.jax_platforms is None:
        jax.config.update("jax_num_cpu_devices", VIRTUAL_DEVICES)  # before the first use of any
    devices = jax.devices()
    counts = [n for n in (1, 2, 4, 8) if n <= len(devices) and not (quick and n in (2, 4))]
    a_device = 1 if on_cpu() else 32
    trainings = {}
    for count in counts:
        config = recipe(300, batch_size=a_device * count)
        config.model.dtype = "float32" if on_cpu() else "bfloat16"
        if on_cpu():
            config.model.width = 0.125 if quick else 0.25
        trainings[count] = Training(config, devices[:count])
    seconds = medians(
        {str(count): training for count, training in trainings.items()},
        rounds=3 if quick else 7,
        at_once=1 if on_cpu() else 5,
    )
    for count in counts:
        time = seconds[str(count)] * (1e3 / count if on_cpu() else 1e3)
        name = f"{count} devices, {a_device} images each"
        report.add(name, time, "ms/image" if on_cpu() else "ms/step")
    if counts[-1] == 1:
        report.note("one device: nothing is exchanged")
    else:
        report_exchanges(report, trainings[counts[-1]])


def report_exchanges(report: Report, training: Training) -> None:
    """The collectives of the compiled step."""
    lowered = training.step.lower(training.state, training.batch)
    found = collectives(lowered.compile().as_text())
    large = [one for one in found if one.bytes > LARGE]
    report.add("large exchanges in a step", len(large), "", at_most=1)
    report.add("bytes of the largest", max((one.bytes for one in found), default=0), "bytes")
    report.add("small exchanges in a step", len(found) - len(large), "")


if __name__ == "__main__":
    main(__doc__, measure)
