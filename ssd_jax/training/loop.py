"""A training run from start, or from where it stopped, to its last evaluation."""

import contextlib
import signal
from collections.abc import Callable
from pathlib import Path

import jax
from ml_collections import ConfigDict
from rich.console import Console

from ssd_jax import processes
from ssd_jax.evaluation import report
from ssd_jax.evaluation.evaluator import Evaluation, detect, evaluate
from ssd_jax.training.checkpoints import Checkpoints
from ssd_jax.training.faults import Faults
from ssd_jax.training.inputs import load_batches
from ssd_jax.training.interruption import Interrupted, Interruption
from ssd_jax.training.log import open_log
from ssd_jax.training.pictures import build_draw
from ssd_jax.training.profile import StepTrace
from ssd_jax.training.progress import Progress, is_turn
from ssd_jax.training.setup import Setup, set_up
from ssd_jax.training.state import TrainState
from ssd_jax.training.step import to_device
from ssd_jax.training.workdir import SHEET, hold, remove
from ssd_jax.visualize import write_image


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
      overwrite: start anew, deleting the run that is there once this one is ready to start.
      console: where progress goes; standard output if None.
      devices: to train on; all there are if None.
      profile: steps to write a trace of, to WORKDIR/profile.

    Returns:
      The evaluation of the last step; None if a SIGTERM ended the run before, after a step that
      is saved.

    Raises:
      ValueError: the config does not fit the data, or the run that is gone on with; or another
        program trains in `workdir`.
      FloatingPointError: the loss or a gradient is not finite any more.
      OSError: the disk is full, or not the processes' own in common.
      KeyboardInterrupt: Ctrl-C ended the run after a step that is saved.
    """
    if not processes.is_first():
        console = Console(quiet=True)
    elif console is None:
        console = Console(soft_wrap=True, markup=False)  # names in brackets are no markup
    with hold(workdir, console):
        return _train(config, workdir, overwrite, devices, console, profile)


def _train(
    config: ConfigDict,
    workdir: Path,
    overwrite: bool,
    devices: list[jax.Device] | None,
    console: Console,
    profile: int,
) -> Evaluation | None:
    """`train` in a folder that is this program's own."""
    setup, state = set_up(config, workdir, overwrite, devices, console)
    config, start, rows = setup.config, setup.start, setup.rows
    with contextlib.ExitStack() as resources:
        # A signal ends the program at once while a cache fills: nothing is lost by it.
        batches = load_batches(config, setup.train_data, start, rows, console)
        interruption = resources.enter_context(Interruption())
        faults = Faults(config, setup.train_data, workdir, console)
        names = setup.meta.class_names
        draw = build_draw(config, setup.model, names) if processes.is_first() else None
        log = resources.enter_context(open_log(config, workdir, start))
        # Only now: what is wrong with the settings has stopped the run before.
        if overwrite:
            processes.first_before_others(lambda: remove(workdir))
        checkpoints = Checkpoints(workdir, config.train.keep, config.train.keep_every)
        resources.callback(checkpoints.close)
        if setup.old:
            state = checkpoints.restore_state(start, like=state)
            console.print(f"going on from step {start} of {config.train.steps} in {workdir}")
        progress = Progress(config, start, log, console, faults, draw)
        resources.callback(progress.close)
        trace = resources.enter_context(StepTrace(workdir, start, profile, console))
        evaluation = None

        if setup.old and setup.old.mean_ap is None and _is_due(config, start):  # interrupted
            try:
                evaluation = _evaluate(setup, state, interruption.raise_if_asked)
            except Interrupted:
                _tell_stop(interruption, start, config, workdir, console)
                return None
            progress.evaluated(evaluation)
            checkpoints.add_score(start, evaluation.mean, setup.meta)
        for batch in progress.batches(batches):
            state, metrics = setup.train_step(state, to_device(batch, rows))
            step = progress.stepped(state, metrics)
            trace.stepped(step, metrics)

            stopping = interruption.asked()
            due = _is_due(config, step)
            if stopping or due or is_turn(step, config.train.checkpoint_every):
                progress.check()
                # Before it is evaluated: whatever ends an evaluation, the steps are not lost.
                checkpoints.save(state, setup.meta)
                evaluation = None
                if due and not stopping:
                    try:
                        evaluation = _evaluate(setup, state, interruption.raise_if_asked)
                        progress.evaluated(evaluation)
                        checkpoints.add_score(step, evaluation.mean, setup.meta)
                    except Interrupted:
                        stopping = True
                progress.resume()
            if stopping:
                checkpoints.wait()
                _tell_stop(interruption, step, config, workdir, console)
                return None

    if evaluation is None:  # every step was done before
        evaluation = _evaluate(setup, state)
    if processes.is_first():
        write_image(workdir / SHEET, report.picture_sheet(evaluation))
    console.print(report.table(evaluation.results, evaluation.scores))
    console.print(f"checkpoints, {SHEET} and figures are in {workdir}")
    return evaluation


def _is_due(config: ConfigDict, step: int) -> bool:
    """Whether the state after a step is evaluated."""
    return is_turn(step, config.train.eval_every) or step == config.train.steps


def _tell_stop(
    interruption: Interruption, step: int, config: ConfigDict, workdir: Path, console: Console
) -> None:
    """Says what stopped a run and where; Ctrl-C goes on to the caller as KeyboardInterrupt."""
    console.print(
        f"stopped by {interruption.cause}: step {step} of {config.train.steps} is saved in "
        f"{workdir}; the same command goes on from there"
    )
    if interruption.signal == signal.SIGINT:
        raise KeyboardInterrupt


def _evaluate(
    setup: Setup, state: TrainState, after_batch: Callable[[], None] = lambda: None
) -> Evaluation:
    detected = detect(
        setup.config,
        setup.predict,
        state.variables,
        setup.eval_data,
        setup.mesh,
        lambda done, total: after_batch(),
    )
    return evaluate(setup.config, detected)
