"""The memory of a training step by the compiler's own analysis, with and without rematerialisation.

    python benchmarks/memory.py [--quick]

Nothing of the size in question is run: the step is compiled for growing batches, and from two of
them, memory being linear in the batch, follows the largest that fits in 16, 24 and 80 GB. That is
all of a card's memory; JAX takes three quarters of it unless XLA_PYTHON_CLIENT_MEM_FRACTION says
otherwise. On a GPU the analysis counts the workspace of the kernels that cuDNN has chosen there.
What rematerialisation costs in time is measured on a batch that fits.

XLA's CPU backend merges what is computed anew with what was computed before: it neither saves nor
costs anything there. On a CPU that pass is off here, to see what the program asks for.
"""

from collections.abc import Mapping

import jax
from common import Report, main, medians, on_cpu
from ml_collections import ConfigDict
from workload import CLASS_NAMES, Training, make_batch, recipe

from ssd_jax.recipe import build_model
from ssd_jax.training.optimizer import build_optimizer
from ssd_jax.training.state import init_state
from ssd_jax.training.step import build_train_step

GB = 1e9
CPU_PASSES_OFF = "cse,cse_barrier_expander,optimization-barrier-expander"


def measure(report: Report, quick: bool) -> None:
    """Both sizes, with and without."""
    dtype = "float32" if on_cpu() else "bfloat16"
    batches = (1, 2) if quick else (4, 8) if on_cpu() else (16, 32)
    timed = min(batches) if on_cpu() else max(batches)
    steps = {}
    # Whether the analysis of a program from the cache is that of a compiled one is not promised.
    jax.config.update("jax_enable_compilation_cache", False)
    for size in (300,) if quick else (300, 512):
        for remat in (False, True):
            case = f"SSD{size}, {dtype}" + (", train.remat" if remat else "")
            compiled = {count: compile_step(size, dtype, count, remat) for count in batches}
            add_largest_batches(report, case, {n: step_bytes(c) for n, c in compiled.items()})
            if size == 300:
                steps["train.remat" if remat else "plain"] = compiled[timed]
    measure_cost(report, recipe(300, batch_size=timed, dtype=dtype), steps, quick)


def compile_step(
    size: int,
    dtype: str,
    batch_size: int,
    remat: bool,
    sharding: jax.sharding.Sharding | None = None,
) -> jax.stages.Compiled:
    """The step of the paper's recipe, for this machine's device or for that of a sharding."""
    config = recipe(size, batch_size=batch_size, dtype=dtype)
    config.train.remat = remat
    model, optimizer = build_model(config, CLASS_NAMES), build_optimizer(config)
    state = jax.eval_shape(lambda: init_state(model, optimizer, config.seed))
    arguments = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        (state, make_batch(config)),
    )
    step = jax.jit(build_train_step(config, model, optimizer), donate_argnums=0)
    options = {"xla_disable_hlo_passes": CPU_PASSES_OFF} if sharding is None and on_cpu() else {}
    return step.lower(*arguments).compile(options)


def step_bytes(compiled: jax.stages.Compiled) -> int:
    """What a step needs on the device: arguments, results that do not reuse theirs, and between."""
    sizes = compiled.memory_analysis()
    return (
        sizes.argument_size_in_bytes
        + sizes.output_size_in_bytes
        - sizes.alias_size_in_bytes
        + sizes.temp_size_in_bytes
    )


def add_largest_batches(report: Report, case: str, needed: dict[int, int]) -> None:
    """Adds what follows from the bytes that a step needs at two sizes of the batch.

    The largest batches are those of a step that has all of that memory.
    """
    few, many = needed
    an_image = (needed[many] - needed[few]) / (many - few)
    rest = needed[few] - an_image * few
    report.add(f"{case}: an image", an_image / GB, "GB")
    report.add(f"{case}: whatever the batch", rest / GB, "GB")
    for memory in (16, 24, 80):
        fits = int((memory * GB - rest) // an_image)
        report.add(f"{case}: largest batch in {memory} GB", fits, "images")


def measure_cost(
    report: Report, config: ConfigDict, steps: Mapping[str, jax.stages.Compiled], quick: bool
) -> None:
    """The time of a step with rematerialisation, by that without."""
    calls = {}
    for name, step in steps.items():
        calls[name] = Training(config)
        calls[name].step = step
    seconds = medians(calls, rounds=3 if quick else 7, at_once=1 if on_cpu() else 5)
    ratio = seconds["train.remat"] / seconds["plain"]
    case = f"SSD300, {config.model.dtype}, batch {config.train.batch_size}"
    report.add(f"{case}: train.remat's time by plain", ratio, "")


if __name__ == "__main__":
    main(__doc__, measure)
