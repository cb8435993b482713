"""Where a run's weights start: `config.init`."""

import dataclasses
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from rich.console import Console

from ssd_jax import hub, processes
from ssd_jax.detector import load_checkpoint
from ssd_jax.priors import PriorSpec
from ssd_jax.recipe import build_priors, prior_flags
from ssd_jax.weights.download import fetch_vgg16
from ssd_jax.weights.files import read_weights
from ssd_jax.weights.imported import Imported, Preprocessing
from ssd_jax.weights.transfer import transfer


@dataclasses.dataclass(frozen=True)
class Initial:
    """Weights to start from.

    Attributes:
      variables: a network's or a part of them.
      preprocessing: what they expect.
      source: where they are from, for messages.
      class_names: of a whole detector, without background.
      priors: of a whole detector.
    """

    variables: Any
    preprocessing: Preprocessing
    source: str
    class_names: tuple[str, ...] = ()
    priors: PriorSpec | None = None

    def adapt(
        self, fresh: Any, class_names: tuple[str, ...], priors: PriorSpec, console: Console
    ) -> Any:
        """The fresh variables of a network for these classes, with what fits taken; says what.

        Raises:
          ValueError: nothing fits, as of `ssd_jax.weights.transfer.transfer`.
        """
        try:
            variables, lines = transfer(fresh, self.variables, class_names, self.class_names)
        except ValueError as fault:
            raise ValueError(f"config.init, {self.source}: {fault}") from fault
        for line in lines:
            console.print(f"{self.source}: {line}", highlight=False)
        if self.priors is not None and self.priors != priors:
            own = prior_flags(self.priors)
            if self.priors.image_size != priors.image_size:
                own = f"--config.model.size={self.priors.image_size[0]} {own}"
            console.print(
                f"{self.source}: its priors are others, so boxes start off; its own are {own}",
                highlight=False,
            )
        return variables


def load_initial(config: ConfigDict) -> Initial | None:
    """The weights that `config.init` names; None for 'scratch'.

    Of several processes all call this together: restoring a checkpoint waits for all of them.

    Raises:
      FileNotFoundError: it names no file or folder.
      OSError, ValueError: they cannot be downloaded or read.
    """
    if config.init == "scratch":
        return None
    if config.init == "imagenet":
        return _from_file(processes.first_before_others(fetch_vgg16))
    path = processes.first_before_others(lambda: hub.folder_of(config.init))
    if path.is_dir():
        variables, meta, step = load_checkpoint(path)
        preprocessing = Preprocessing(tuple(meta.config.model.mean), tuple(meta.config.model.std))
        source = f"step {step} of {config.init}"
        return Initial(
            variables, preprocessing, source, meta.class_names, build_priors(meta.config)
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"config.init is {config.init!r}: neither 'scratch', 'imagenet', a file or folder, "
            "nor hf://owner/name"
        )
    return _from_file(path)


def _from_file(path: Path) -> Initial:
    weights = read_weights(path)
    source = f"{weights.source} in {path.name}"
    if isinstance(weights, Imported):
        return Initial(
            weights.variables,
            weights.preprocessing,
            source,
            weights.class_names,
            weights.priors,
        )
    return Initial(weights.variables, weights.preprocessing, source)
