"""Reads .pth files: tensors only, never code."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ssd_jax.extras import import_extra

# The first version whose `weights_only` holds.
_SAFE = (2, 6)

# Where training programs keep the tensors besides the rest of a checkpoint.
_PLACES = ("state_dict", "model")


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a file, by name, as float32 arrays.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: PyTorch is not installed, or too old to read strangers' files; or the file is
        broken, holds objects other than tensors and plain values (such a pickle could run any code
        when read, so it is not), or no tensors by name.
    """
    torch = import_extra("torch", f"reading {path} needs PyTorch")
    if tuple(int(number) for number in torch.__version__.split(".")[:2]) < _SAFE:
        raise ValueError(
            f"PyTorch {torch.__version__} can be made to run code by a file (CVE-2025-32434): "
            "pip install 'torch>=2.6'"
        )
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as fault:
        raise ValueError(
            f"{path} is refused: it holds other objects than tensors, which could run code when "
            "read. If you trust where it is from, save its tensors alone: c = torch.load(FILE, "
            "weights_only=False), then torch.save(c['state_dict'], NEW_FILE), or of c['model'], or "
            "of c.state_dict() where c is a whole network"
        ) from fault
    except (RuntimeError, EOFError, OSError, KeyError) as fault:
        raise ValueError(f"{path} is no whole file of PyTorch: {fault}") from fault
    return _tensors(content, path)


def _tensors(content: Any, path: Path) -> dict[str, np.ndarray]:
    import torch

    for place in _PLACES:
        if isinstance(content, Mapping) and isinstance(content.get(place), Mapping):
            content = content[place]
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{path} holds no tensors by name but a {type(content).__name__}")
    odd = [str(name) for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if odd:
        raise ValueError(f"{path} holds {odd[0]!r}, which is no tensor, among its tensors")
    return {str(name): value.detach().to(torch.float32).numpy() for name, value in content.items()}
