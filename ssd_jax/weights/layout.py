"""Arrays between PyTorch's and Caffe's layout and ours, by a table of names; nothing else."""

from collections.abc import Mapping, Sequence

import numpy as np

from ssd_jax.weights.names import NameOf, Path, parameter

State = Mapping[str, np.ndarray]
Shape = tuple[int, ...]

SHOWN = 3


def first_few(names: Sequence[str]) -> str:
    """The first few of many names."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def without_prefix(state: State) -> State:
    """The state without the 'module.' that torch.nn.DataParallel puts before every name."""
    prefix = "module."
    if not state or not all(name.startswith(prefix) for name in state):
        return state
    return {name.removeprefix(prefix): array for name, array in state.items()}


def to_theirs(array: np.ndarray) -> np.ndarray:
    """A kernel (H, W, I, O) as (O, I, H, W); a bias or scale as it is."""
    return np.ascontiguousarray(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array)


def to_ours(array: np.ndarray) -> np.ndarray:
    """A kernel (O, I, H, W) as (H, W, I, O); a bias or scale as it is."""
    return np.ascontiguousarray(array.transpose(2, 3, 1, 0) if array.ndim == 4 else array)


def turn_bgr(flat: dict[Path, np.ndarray]) -> None:
    """Turns the first convolution of a flat tree from BGR to RGB, in place."""
    first = ("backbone", "conv1_1", "conv", "kernel")
    flat[first] = np.ascontiguousarray(flat[first][:, :, ::-1])


def rename(state: State, name_of: NameOf, expected: Mapping[Path, Shape], what: str) -> dict:
    """The state as a flat tree of ours: path -> array, float32, in our layout.

    Args:
      state: the peer's name -> array.
      name_of: a function of `ssd_jax.weights.names`.
      expected: our path -> our shape of every parameter there must be.
      what: the program and the network, for errors.

    Raises:
      ValueError: a name is missing or one too many, or a shape is not the network's.
    """
    names = {path: parameter(name_of, path) for path in expected}
    missing = [name for name in names.values() if name not in state]
    unknown = sorted(state.keys() - set(names.values()))
    if missing or unknown:
        raise ValueError(
            f"not the weights of {what}:"
            + (f" {first_few(missing)} missing" if missing else "")
            + (";" if missing and unknown else "")
            + (f" {first_few(unknown)} unknown" if unknown else "")
        )
    return {path: _array(state[name], expected[path], name) for path, name in names.items()}


def _array(array: np.ndarray, shape: Shape, name: str) -> np.ndarray:
    """One array in our layout; a ValueError names it and both shapes, in the peer's layout."""
    array = np.asarray(array, np.float32)
    if len(shape) == 1 and array.size == array.shape[-1]:  # old Caffe: (1, 1, 1, n)
        array = array.reshape(-1)
    theirs = tuple(shape[i] for i in (3, 2, 0, 1)) if len(shape) == 4 else shape
    if array.shape != theirs:
        raise ValueError(f"{name} has shape {list(array.shape)}, expected {list(theirs)}")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} holds numbers that are not finite")
    return to_ours(array)
