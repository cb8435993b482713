"""Optional dependencies."""

import importlib
from typing import Any


def import_extra(name: str, purpose: str) -> Any:
    """The module `name`.

    Raises:
      ValueError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        raise ValueError(f"{purpose} need {name}: pip install {name}") from missing
