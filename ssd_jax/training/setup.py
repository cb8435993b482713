"""What a training run is made of: its config looked over, its data, network and first state."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict
from rich.console import Console

from ssd_jax import config as config_lib
from ssd_jax import processes
from ssd_jax.data import Dataset
from ssd_jax.evaluation.evaluator import compile_predict
from ssd_jax.evaluation.scores import check_metrics
from ssd_jax.model import SSD
from ssd_jax.recipe import Predict, build_model, build_predict
from ssd_jax.schedules import with_schedule
from ssd_jax.sharding import make_mesh, place, shardings, state_shardings
from ssd_jax.training.added_norm import with_added_norm
from ssd_jax.training.checkpoints import Meta, newest_whole
from ssd_jax.training.fitted_priors import with_fitted_priors
from ssd_jax.training.initial import Initial, load_initial
from ssd_jax.training.inputs import load_splits, look_over
from ssd_jax.training.objective import batch_shapes
from ssd_jax.training.optimizer import build_optimizer
from ssd_jax.training.state import TrainState, init_state
from ssd_jax.training.step import TrainStep, build_train_step, compile_train_step

# Where the data lies and how it is read: no part of what is trained.
OF_THE_MACHINE = (
    *("data.workers", "data.cache"),
    *("data.data_dir", "data.voc_root", "data.archives"),
    *("data.root", "data.annotations", "data.images"),
)
# Fields that may differ when a run goes on: how it is trained, evaluated and stored, and where its
# data lies, but neither the network, nor the data, nor what the optimizer remembers.
FREE_TO_CHANGE = (
    *("train.", "evaluate.", "detect.", "optimizer.", "mesh."),
    "data.undecodable",  # what is left out from here on has been in no batch before
    *OF_THE_MACHINE,
)
FIXED = ("optimizer.kind",)
# Of these, what nothing but more steps has a use for.
OF_STEPS = ("optimizer.", "train.batch_size", "train.accumulate", "train.steps")


@dataclasses.dataclass(frozen=True)
class Setup:
    """A run, ready for its first step.

    Attributes:
      config: the whole recipe, with what it leaves to the data and the initial weights.
      meta: what its checkpoints say of it.
      start: the step that it goes on from; 0 where it starts.
      old: what the checkpoint of that step says; None where it starts.
      train_data: the split to train on.
      eval_data: the split to evaluate.
      mesh: the devices.
      model: the network.
      train_step: compiled.
      predict: the compiled detector.
    """

    config: ConfigDict
    meta: Meta
    start: int
    old: Meta | None
    train_data: Dataset
    eval_data: Dataset
    mesh: jax.sharding.Mesh
    model: SSD
    train_step: TrainStep
    predict: Predict

    @property
    def rows(self) -> jax.sharding.NamedSharding:
        """How batches lie on the devices."""
        return shardings(self.mesh)[1]


def set_up(
    config: ConfigDict,
    workdir: Path,
    overwrite: bool,
    devices: list[jax.Device] | None,
    console: Console,
) -> tuple[Setup, TrainState]:
    """The run and the state that it starts with; arguments as of `ssd_jax.training.loop.train`.

    A run that goes on restores its own state into that one.

    Raises:
      ValueError: the config does not fit the data, or the run that is gone on with.
    """
    config = with_schedule(config)
    check_metrics([config.evaluate.best_metric])
    if config.train.keep < 1:
        raise ValueError(
            f"config.train.keep is {config.train.keep}: at least the newest checkpoint is kept"
        )
    mesh = make_mesh(devices, config.mesh.fsdp)
    if config.train.batch_size % mesh.size:
        raise ValueError(
            f"config.train.batch_size is {config.train.batch_size}, "
            f"not a multiple of the {mesh.size} devices"
        )
    parts = max(1, config.train.accumulate)
    if config.train.batch_size % parts == 0 and config.train.batch_size // parts % mesh.size:
        raise ValueError(
            f"config.train.accumulate is {parts}: the parts of a batch of "
            f"{config.train.batch_size} have to be multiples of the {mesh.size} devices"
        )
    train_data, eval_data = processes.first_before_others(lambda: load_splits(config))
    class_names = train_data.class_names
    console.print(
        f"{train_data.name}: {len(train_data)} images to train on, {len(eval_data)} to evaluate, "
        f"{len(class_names)} classes"
    )
    start, old = (0, None) if overwrite else newest_whole(workdir)
    initial = None if old else load_initial(config)
    config = with_preprocessing(config, old, initial, console)
    config = with_fitted_priors(config, train_data.source.objects, old, console)
    meta = Meta(config, class_names, train_images=len(train_data))
    if old:
        check_goes_on(old, meta, start, console)
    model = build_model(config, class_names)
    look_over(config, train_data, eval_data, model.priors, console)
    late = [step for step in config.optimizer.boundaries if step >= config.train.steps]
    if config.optimizer.schedule == "step" and late:
        console.print(
            f"warning: the rate does not fall at config.optimizer.boundaries {late}: the run ends "
            f"at step {config.train.steps}"
        )

    def adapt(fresh: Any) -> Any:
        if initial is None:
            return fresh
        weights = with_added_norm(initial, config, model, train_data, mesh, console)
        return weights.adapt(fresh, class_names, model.priors, console)

    optimizer = build_optimizer(config)
    if config.init == "scratch" and not old:
        if config.optimizer.frozen:
            console.print(
                "warning: config.optimizer.frozen keeps random weights: config.init is scratch"
            )
        if any(factor < 1 for _, factor in config.optimizer.rates):
            console.print(
                "warning: config.optimizer.rates holds back random weights: config.init is scratch"
            )
    state = init_state(model, optimizer, config.seed, adapt, average=config.ema.decay > 0)
    placement = state_shardings(mesh, state)
    state = place(state, placement)
    step = build_train_step(config, model, optimizer, mesh)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    console.print(
        f"SSD{config.model.size}: {parameters:,} parameters, {model.priors.num_priors} priors, "
        f"on {mesh.size} {mesh.devices.flat[0].device_kind}"
    )
    train_step = compile_train_step(step, mesh, placement)
    if overwrite:  # what it cannot be traced with is told before the old run is removed
        jax.eval_shape(train_step, state, batch_shapes(config))
    setup = Setup(
        config=config,
        meta=meta,
        start=start,
        old=old,
        train_data=train_data,
        eval_data=eval_data,
        mesh=mesh,
        model=model,
        train_step=train_step,
        predict=compile_predict(build_predict(config, model), mesh),
    )
    return setup, state


def with_preprocessing(
    config: ConfigDict, old: Meta | None, initial: Initial | None, console: Console
) -> ConfigDict:
    """The config with the mean and std that the weights expect; says if they were others.

    A run that goes on has them in its checkpoint: it needs the initial weights no more.
    """
    before, config = config, config.copy_and_resolve_references()
    if initial:
        initial.preprocessing.configure(config)
        for name, (was, value) in config_lib.differences(before, config).items():
            console.print(f"{initial.source}: config.{name} is {value}, as it expects, not {was}")
    elif old and config.init == old.config.init != "scratch":
        config.model.mean, config.model.std = old.config.model.mean, old.config.model.std
        for name, (was, value) in config_lib.differences(before, config).items():
            console.print(f"the run's checkpoint: config.{name} is {value}, not {was}")
    return config


def check_goes_on(old: Meta, new: Meta, start: int, console: Console) -> None:
    """Says in what a run that goes on differs from its checkpoint: fields, and how many images.

    Raises:
      ValueError: in one that makes it another run, that a run which is done has no use for, or
        that ends it before the step where it is.
    """
    was_done, wanted = start >= old.config.train.steps, new.config.train.steps
    if wanted < start and not was_done:
        raise ValueError(
            f"config.train.steps is {wanted}, but the run in this workdir is at step {start} "
            f"already: give {start} to evaluate that and end, or more"
        )
    is_done = start >= wanted
    if old.class_names != new.class_names:
        raise ValueError(
            f"the run in this workdir has classes {old.class_names}, the data has "
            f"{new.class_names}: use --overwrite or another --workdir"
        )
    for name, (before, after) in config_lib.differences(old.config, new.config).items():
        if name in FIXED or not name.startswith(FREE_TO_CHANGE):
            raise ValueError(
                f"config.{name} is {after!r}, but the run in this workdir has {before!r}: "
                "set it so, or use --overwrite or another --workdir"
            )
        ends_here = name == "train.steps" and not was_done
        if is_done and name.startswith(OF_STEPS) and not ends_here:
            raise ValueError(
                f"config.{name} is {after!r}, it was {before!r}, but the run in this workdir is "
                f"done, at step {start}: use --overwrite or another --workdir"
            )
        console.print(f"config.{name} is now {after!r}, it was {before!r}")
    if old.train_images not in (None, new.train_images):
        console.print(
            f"warning: the data has {new.train_images} images to train on, it had "
            f"{old.train_images}: from here on they come in another order"
        )
