"""Reads the .h5 files in which Keras keeps the weights of its applications."""

from pathlib import Path

import h5py
import numpy as np


def read_keras(path: Path) -> dict[str, list[np.ndarray]]:
    """Layer -> [kernel, bias] of every layer that has weights.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no HDF5 file, cut short, or not Keras's weights.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        with h5py.File(path, "r") as file:
            groups = file["model_weights"] if "model_weights" in file else file
            names = [_text(name) for name in groups.attrs["layer_names"]]
            weights = {
                name: [_text(w) for w in groups[name].attrs["weight_names"]] for name in names
            }
            return {
                name: [np.asarray(groups[name][w], np.float32) for w in of_layer]
                for name, of_layer in weights.items()
                if of_layer
            }
    except (OSError, KeyError) as fault:
        raise ValueError(f"{path} is no whole file of Keras weights: {fault}") from fault


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name
