"""A recipe's `data` section as the datasets and their check read it."""

from __future__ import annotations

import os
from typing import Any

PATHS = ("data_dir", "root", "voc_root", "archives", "annotations", "images")


class Settings:
    """The fields of a section, those that are paths with the home folder in place of a ~."""

    def __init__(self, section: Any) -> None:
        """Takes a recipe's `data` section, or whatever has its fields."""
        self._section = section

    def __getattr__(self, field: str) -> Any:
        value = getattr(self._section, field)
        return os.path.expanduser(value) if field in PATHS else value
