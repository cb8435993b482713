"""What a `Detector` runs on: a function from canvases to detections."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Int32, UInt8
from ml_collections import ConfigDict

from ssd_jax.compile_once import CompileOnce
from ssd_jax.detection import Detections
from ssd_jax.model import SSD
from ssd_jax.recipe import build_model, build_predict


@runtime_checkable
class Engine(Protocol):
    """A network with all that is around it, preprocessing and NMS, as some runtime runs it.

    Threads may call it at the same time.
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes without background; label k is `class_names[k - 1]`."""

    @property
    def canvas(self) -> int:
        """Side S of the canvases that it takes, pixels."""

    def __call__(
        self, canvases: UInt8[np.ndarray, "B S S 3"], sizes: Int32[np.ndarray, "B 2"]
    ) -> Detections:
        """Detects objects on B pictures.

        Args:
          canvases: RGB pictures at the top left of black canvases.
          sizes: (height, width) of each picture on its canvas.

        Returns:
          Detections of NumPy arrays; the boxes are relative to the pictures.
        """


class JaxEngine:
    """The network as JAX compiles it here, once a batch size, for the device its variables are on.

    Args:
      config: the recipe that the weights were trained by.
      class_names: without background.
      variables: what `model.apply` takes.
      model: the network; None is the one that the config describes.
    """

    def __init__(
        self,
        config: ConfigDict,
        class_names: Sequence[str],
        variables: Any,
        *,
        model: SSD | None = None,
    ):
        self.config = config
        self.class_names = tuple(class_names)
        self.model = build_model(config, self.class_names) if model is None else model
        self.variables = jax.device_put(variables)
        self._predict = CompileOnce(build_predict(config, self.model))

    @property
    def canvas(self) -> int:
        """Side of the canvases, pixels: that of the training."""
        return self.config.data.canvas

    def __call__(
        self, canvases: UInt8[np.ndarray, "B S S 3"], sizes: Int32[np.ndarray, "B 2"]
    ) -> Detections:
        """As of `Engine`."""
        return self._predict(self.variables, canvases, sizes)
