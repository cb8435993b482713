"""A training run from start, or from where it stopped, to its last evaluation."""

import contextlib
import signal
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict
from rich.console import Console

from ssd_jax import config as config_lib
from ssd_jax import processes
from ssd_jax.evaluation import report
from ssd_jax.evaluation.evaluator import Evaluation, compile_predict, evaluate
from ssd_jax.recipe import build_model, build_predict
from ssd_jax.schedules import with_schedule
from ssd_jax.sharding import make_mesh, place, shardings, state_shardings
from ssd_jax.training import checkpoints as checkpoint_lib
from ssd_jax.training.checkpoints import Checkpoints, Meta
from ssd_jax.training.faults import Faults
from ssd_jax.training.fitted_priors import with_fitted_priors
from ssd_jax.training.initial import Initial, load_initial
from ssd_jax.training.inputs import load_batches, load_splits, look_over
from ssd_jax.training.interruption import Interrupted, Interruption
from ssd_jax.training.log import open_log
from ssd_jax.training.optimizer import build_optimizer
from ssd_jax.training.pictures import build_draw
from ssd_jax.training.profile import StepTrace
from ssd_jax.training.progress import Progress
from ssd_jax.training.state import init_state
from ssd_jax.training.step import build_train_step, compile_train_step, to_device
from ssd_jax.visualize import write_image

SHEET = "detections.png"

# Fields that may differ when a run goes on: they change neither the network nor its data.
FREE_TO_CHANGE = (
    *("train.", "evaluate.", "detect.", "optimizer.", "mesh."),
    *("data.workers", "data.cache"),
)


def train(
    config: ConfigDict,
    workdir: Path,
    *,
    overwrite: bool = False,
    console: Console | None = None,
    devices: list[jax.Device] | None = None,
    profile: int = 0,
) -> Evaluation | None:
    """Trains to `config.train.steps`, going on from the newest whole checkpoint of `workdir`.

    Of several processes, joined by `ssd_jax.processes.connect`, each calls this with the same
    arguments; the first one prints and writes, all of them write checkpoints.

    Args:
      config: a whole config, as `ssd_jax.config.base` makes one.
      workdir: where checkpoints, figures and pictures go.
      overwrite: start anew, deleting the checkpoints that are there.
      console: where progress goes; standard output if None.
      devices: to train on; all there are if None.
      profile: steps to write a trace of, to WORKDIR/profile.

    Returns:
      The evaluation of the last step; None if a SIGTERM ended the run before, after a step that
      is saved.

    Raises:
      ValueError: the config does not fit the data, or the run that is gone on with.
      FloatingPointError: the loss or a gradient is not finite any more.
      OSError: the disk is full, or not the processes' own in common.
      KeyboardInterrupt: Ctrl-C ended the run after a step that is saved.
    """
    console = (console or Console(soft_wrap=True)) if processes.is_first() else Console(quiet=True)
    config = with_schedule(config)
    mesh = make_mesh(devices, config.mesh.fsdp)
    _, rows = shardings(mesh)
    if config.train.batch_size % mesh.size:
        raise ValueError(
            f"config.train.batch_size is {config.train.batch_size}, "
            f"not a multiple of the {mesh.size} devices"
        )

    train_data, eval_data = processes.first_before_others(lambda: load_splits(config))
    console.print(
        f"{train_data.name}: {len(train_data)} images to train on, {len(eval_data)} to evaluate, "
        f"{len(train_data.class_names)} classes"
    )
    class_names = train_data.class_names

    # Whatever may be wrong is met before anything in the workdir is touched.
    old = None if overwrite else checkpoint_lib.latest_meta(workdir)
    initial = None if old else load_initial(config)
    config = with_preprocessing(config, old, initial)
    config = with_fitted_priors(config, train_data.source.objects, old, console)
    meta = Meta(config, class_names)
    if old:
        check_goes_on(old, meta, console)
    model = build_model(config, class_names)
    look_over(config, train_data, eval_data, model.priors, console)
    optimizer = build_optimizer(config)
    predict = compile_predict(build_predict(config, model), mesh)

    def adapt(fresh: Any) -> Any:
        return initial.adapt(fresh, class_names, model.priors, console) if initial else fresh

    state = init_state(model, optimizer, config.seed, adapt, average=config.ema.decay > 0)
    placement = state_shardings(mesh, state)
    state = place(state, placement)
    step_fn = compile_train_step(build_train_step(config, model, optimizer), mesh, placement)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    console.print(
        f"SSD{config.model.size}: {parameters:,} parameters, {model.priors.num_priors} priors, "
        f"on {mesh.size} {mesh.devices.flat[0].device_kind}"
    )

    processes.check_shared(workdir)
    if overwrite:
        processes.first_before_others(lambda: checkpoint_lib.remove(workdir))
    with contextlib.ExitStack() as resources:
        checkpoints = Checkpoints(workdir, config.train.keep, config.train.keep_every)
        resources.callback(checkpoints.close)
        start = checkpoints.latest or 0
        if old:
            state = checkpoints.restore_state(start, like=state)
            console.print(f"going on from step {start} of {config.train.steps} in {workdir}")
        log = open_log(config, workdir, start)
        resources.callback(log.close)
        faults = Faults(config, train_data, workdir, console)
        draw = build_draw(config, model, class_names) if processes.is_first() else None
        progress = Progress(config, start, log, console, faults, draw)
        resources.callback(progress.close)
        trace = resources.enter_context(StepTrace(workdir, start, profile, console))
        interruption = resources.enter_context(Interruption())
        evaluation = None

        for batch in progress.batches(load_batches(config, train_data, start, rows, console)):
            state, metrics = step_fn(state, to_device(batch, rows))
            step = progress.stepped(state, metrics)
            trace.stepped(step, metrics)

            stopping = interruption.asked()
            due = step % config.train.eval_every == 0 or step == config.train.steps
            if stopping or due or step % config.train.checkpoint_every == 0:
                progress.check()
                evaluation = None
                if due and not stopping:
                    try:
                        evaluation = evaluate(
                            config,
                            predict,
                            state.variables,
                            eval_data,
                            mesh,
                            lambda done, total: interruption.raise_if_asked(),
                        )
                        progress.evaluated(evaluation)
                    except Interrupted:
                        stopping = True
                checkpoints.save(state, meta, evaluation.mean if evaluation else None)
                progress.pause()
            if stopping:
                checkpoints.wait()
                console.print(
                    f"stopped by {interruption.cause}: step {step} of {config.train.steps} is "
                    f"saved in {workdir}; the same command goes on from there"
                )
                if interruption.signal == signal.SIGINT:
                    raise KeyboardInterrupt
                return None

    if evaluation is None:  # every step was done before
        evaluation = evaluate(config, predict, state.variables, eval_data, mesh)
    if processes.is_first():
        write_image(workdir / SHEET, report.picture_sheet(evaluation))
    console.print(report.table(evaluation.results, evaluation.scores))
    console.print(f"checkpoints, {SHEET} and figures are in {workdir}")
    return evaluation


def with_preprocessing(config: ConfigDict, old: Meta | None, initial: Initial | None) -> ConfigDict:
    """The config with the mean and std that the initial weights expect.

    A run that goes on has them in its checkpoint: it needs the initial weights no more.
    """
    config = config.copy_and_resolve_references()
    if initial:
        initial.preprocessing.configure(config)
    elif old and config.init == old.config.init != "scratch":
        config.model.mean, config.model.std = old.config.model.mean, old.config.model.std
    return config


def check_goes_on(old: Meta, new: Meta, console: Console) -> None:
    """Says in which fields a run that goes on differs from its checkpoint.

    Raises:
      ValueError: in one that makes it another run.
    """
    if old.class_names != new.class_names:
        raise ValueError(
            f"the run in this workdir has classes {old.class_names}, the data has "
            f"{new.class_names}: use --overwrite or another --workdir"
        )
    for name, (before, after) in config_lib.differences(old.config, new.config).items():
        if not name.startswith(FREE_TO_CHANGE):
            raise ValueError(
                f"config.{name} is {after!r}, but the run in this workdir has {before!r}: "
                "set it so, or use --overwrite or another --workdir"
            )
        console.print(f"config.{name} is now {after!r}, it was {before!r}")
