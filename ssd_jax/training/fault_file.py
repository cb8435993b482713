"""The file of a step whose numbers were not finite: what doing it again needs, nothing pickled."""

import dataclasses
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from ssd_jax import config as config_lib
from ssd_jax.training.names import name_of


@dataclasses.dataclass(frozen=True)
class Fault:
    """All that doing one step again needs.

    Attributes:
      step: the step, counted from 1 as figures are: its batch is number step - 1.
      state_step: the number of steps that the variables have seen. step - 1, but where the step
        was skipped and others were done before it was noticed.
      config: the whole recipe.
      class_names: without background.
      batch: the global batch.
      variables: params and batch_stats as they were learnt.
    """

    step: int
    state_step: int
    config: ConfigDict
    class_names: tuple[str, ...]
    batch: Mapping[str, Any]
    variables: Any

    def save(self, path: Path) -> None:
        """Writes arrays and text, nothing pickled."""
        described = {
            "step": self.step,
            "state_step": self.state_step,
            "config": json.loads(config_lib.to_json(self.config)),
            "class_names": self.class_names,
        }
        arrays = {"description": np.array(json.dumps(described))}
        arrays |= {f"batch/{name}": np.asarray(value) for name, value in self.batch.items()}
        for leaf_path, leaf in jax.tree_util.tree_leaves_with_path(self.variables):
            arrays[f"variables/{name_of(leaf_path)}"] = np.asarray(leaf)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> "Fault":
        """The inverse of `save`.

        Raises:
          OSError: the file cannot be read.
          ValueError: it is no such file.
        """
        if not zipfile.is_zipfile(path):
            path.stat()  # says so where there is no file
            raise ValueError(f"{path} is no .npz that a training run of ssd_jax wrote")
        batch: dict[str, np.ndarray] = {}
        learnt: dict[str, np.ndarray] = {}
        with np.load(path, allow_pickle=False) as arrays:
            if "description" not in arrays:
                raise ValueError(f"{path} is no .npz that a training run of ssd_jax wrote")
            described = json.loads(str(arrays["description"]))
            for name in arrays.files:
                kind, _, rest = name.partition("/")
                if kind == "batch":
                    batch[rest] = arrays[name]
                elif kind == "variables":
                    learnt[rest] = arrays[name]
        return cls(
            described["step"],
            described["state_step"],
            config_lib.from_json(json.dumps(described["config"])),
            tuple(described["class_names"]),
            batch,
            {"batch_stats": {}, **traverse_util.unflatten_dict(learnt, sep="/")},
        )
