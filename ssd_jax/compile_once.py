"""Compiling a function of batches once for each shape, whichever threads call it first."""

import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Int32, UInt8


class CompileOnce:
    """A function of (weights, images, sizes), compiled when images of a shape come first.

    jit alone compiles twice where two threads come first at the same time.
    """

    def __init__(self, function: Callable[[Any, Any, Any], Any]):
        self._function = jax.jit(function)
        self._compiled: dict[tuple[int, ...], Any] = {}
        self._compiling = threading.Lock()

    def __call__(
        self,
        weights: Any,
        images: UInt8[np.ndarray, "B H W 3"],
        sizes: Int32[np.ndarray, "B 2"],
    ) -> Any:
        """What the function returns, as NumPy arrays."""
        with self._compiling:
            if images.shape not in self._compiled:
                lowered = self._function.lower(weights, images, sizes)
                self._compiled[images.shape] = lowered.compile()
        return jax.tree.map(np.asarray, self._compiled[images.shape](weights, images, sizes))
