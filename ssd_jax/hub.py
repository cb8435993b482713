"""Checkpoints on the Hugging Face Hub: fetched from it and put there, with a model card.

Needs huggingface_hub: `pip install huggingface_hub`. What is fetched are arrays and JSON, no code.
"""

import re
from pathlib import Path
from typing import Any

from ssd_jax.extras import import_extra
from ssd_jax.training.checkpoints import FOLDER

PREFIX = "hf://"


def is_address(source: str | Path) -> bool:
    """Whether it is of the form hf://owner/name."""
    return isinstance(source, str) and source.startswith(PREFIX)


def folder_of(source: str | Path) -> Path:
    """A run's folder as it is, or the one that `download` fetches; errors as there."""
    return download(str(source)) if is_address(source) else Path(source)


def download(address: str) -> Path:
    """The folder of a checkpoint from the Hub, fetched unless it is there already.

    Args:
      address: 'hf://owner/name' or 'hf://owner/name@revision'.

    Raises:
      ValueError: the address has another form, or huggingface_hub is not installed.
      OSError: the Hub cannot be reached and nothing was fetched before, or has no such repository.
    """
    match = re.fullmatch(rf"{PREFIX}([\w.-]+/[\w.-]+)(?:@(.+))?", address)
    if match is None:
        raise ValueError(f"{address!r} is no address: write hf://owner/name")
    folder = library().snapshot_download(
        match[1], revision=match[2], allow_patterns=[f"{FOLDER}/**"]
    )
    return Path(folder)


def upload(folder: Path, repository: str, *, private: bool | None = None) -> str:
    """Makes a folder the content of a repository, which is made if there is none.

    Args:
      folder: all of it is put there.
      repository: 'owner/name'.
      private: whether a new repository is; None is as the owner has it by default.

    Returns:
      The address in the browser.

    Raises:
      ValueError: huggingface_hub is not installed.
      OSError: the Hub cannot be reached, or does not let this user write there.
    """
    api = library().HfApi(library_name="ssd_jax")
    address = api.create_repo(repository, private=private, exist_ok=True)
    # What an earlier push left: two steps would be two checkpoints.
    api.upload_folder(
        repo_id=repository,
        folder_path=folder,
        delete_patterns=f"{FOLDER}/**",
        commit_message="Put a detector here",
    )
    return str(address)


def library() -> Any:
    """huggingface_hub, an optional dependency."""
    return import_extra("huggingface_hub", "the Hub needs huggingface_hub")
