"""Weights of one network for another: what fits is taken, class heads by the classes' names."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ssd_jax.weights.layout import first_few

_FIRST = ("params", "backbone", "conv1_1")


def transfer(
    fresh: Any,
    source: Any,
    class_names: Sequence[str],
    source_names: Sequence[str] = (),
) -> tuple[Any, list[str]]:
    """The fresh variables with all of the source's that fit in their place.

    Layers are taken by name where their shapes agree. Of the class heads each class takes its own
    outputs, and background its own, where the names agree.

    Args:
      fresh: the new network's variables.
      source: another's, or a part of them such as a backbone.
      class_names: the new network's, without background.
      source_names: the other's; of a backbone none.

    Returns:
      The variables, and what was taken and what was not, in lines to print.

    Raises:
      ValueError: the networks differ in width or batch norm: nothing useful fits.
    """
    new, old = flatten_dict(fresh), flatten_dict(source)
    _check_kind(new, old)
    taken, odd = {}, []
    for path, leaf in old.items():
        if path not in new:
            odd.append(f"{'.'.join(path[1:-1])} (not in this network)")
        elif path[-2].startswith("conf_"):
            merged = _class_rows(new[path], leaf, class_names, source_names)
            if merged is None:
                odd.append(f"{'.'.join(path[1:-1])} (other boxes a cell)")
            else:
                taken[path] = merged
        elif new[path].shape != leaf.shape:
            odd.append(f"{'.'.join(path[1:-1])} {list(leaf.shape)} for {list(new[path].shape)}")
        else:
            taken[path] = np.asarray(leaf)
    lines = [f"taken: {len(taken)} of the {len(new)} parameters of this network"]
    if odd:
        lines.append(f"left out, as they do not fit: {first_few(list(dict.fromkeys(odd)))}")
    if source_names:
        kept = [name for name in class_names if name in source_names]
        rest = [name for name in class_names if name not in source_names]
        lines.append(f"classes taken by name: {len(kept)} of {len(class_names)}" + _colon(kept))
        if rest:
            lines.append(f"classes that start fresh: {len(rest)}" + _colon(rest))
        # Torchvision's 'N/A' are never found.
        others = [n for n in source_names if n not in class_names and not n.startswith("N/A ")]
        if others:
            lines.append(
                f"classes left out: {len(others)}: {first_few(others)}; until it is trained anew, "
                "what was found as these is found as others"
            )
    starting = {".".join(path[1:-1]) for path in new if path not in taken}
    if starting:
        lines.append(f"layers that start fresh: {len(starting)}" + _colon(sorted(starting)))
    return unflatten_dict({**new, **taken}), lines


def has_batch_norm(flat: Iterable[tuple[str, ...]]) -> bool:
    """Whether paths of a network's variables, or of a part of it, are of layers with batch norm."""
    return any(path[-2] == "bn" for path in flat)


def _colon(names: list[str]) -> str:
    return f": {', '.join(names)}" if names else ""


def _check_kind(new: dict, old: dict) -> None:
    """A ValueError if the first layers are of different kinds."""
    normed = [has_batch_norm(flat) for flat in (old, new)]
    if normed[0] != normed[1]:
        having = ("has no", "has")
        raise ValueError(
            f"the network of the weights {having[normed[0]]} batch norm, this one "
            f"{having[normed[1]]}: set --config.model.batch_norm={normed[0]}, or "
            "--config.init=scratch"
        )
    kernel = (*_FIRST, "conv", "kernel")
    channels = [flat[kernel].shape[-1] for flat in (old, new)]
    if channels[0] != channels[1]:
        raise ValueError(
            f"the weights' conv1_1 has {channels[0]} channels, this network's {channels[1]}: set "
            f"--config.model.width={channels[0] / 64:g}, or --config.init=scratch"
        )


def _class_rows(
    fresh: Any, source: Any, class_names: Sequence[str], source_names: Sequence[str]
) -> np.ndarray | None:
    """A class head's kernel or bias [..., A * C]; None if the boxes a cell, A, differ."""
    new_classes, old_classes = len(class_names) + 1, len(source_names) + 1
    new = np.array(fresh).reshape(*fresh.shape[:-1], -1, new_classes)
    old = np.asarray(source).reshape(*source.shape[:-1], -1, old_classes)
    if new.shape[:-1] != old.shape[:-1]:
        return None
    new[..., 0] = old[..., 0]
    place = {name: label for label, name in enumerate(source_names, start=1)}
    for label, name in enumerate(class_names, start=1):
        if name in place:
            new[..., label] = old[..., place[name]]
    return new.reshape(fresh.shape)
