"""SSD: Single Shot MultiBox Detector (arXiv 1512.02325) in JAX and Flax."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssd_jax import export
    from ssd_jax.detector import Detector

__all__ = ["Detector", "export"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # On demand, so that `import ssd_jax.model` loads neither datasets nor checkpoints.
    if name == "Detector":
        from ssd_jax.detector import Detector

        return Detector
    if name == "export":
        return importlib.import_module("ssd_jax.export")
    raise AttributeError(f"module 'ssd_jax' has no attribute {name!r}")
