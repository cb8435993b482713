"""Optional dependencies."""

import importlib
from typing import Any


def import_extra(name: str, need: str) -> Any:
    """The module `name`, which the package of that name has.

    Args:
      name: of both.
      need: who needs it, for the error: 'the Hub needs huggingface_hub'.

    Raises:
      ValueError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        raise ValueError(f"{need}: pip install {name}") from missing
