"""SSD: Single Shot MultiBox Detector (arXiv 1512.02325) in JAX and Flax."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssd_jax.detector import Detector

__all__ = ["Detector"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # On demand, so that `import ssd_jax.model` loads neither datasets nor checkpoints.
    if name == "Detector":
        from ssd_jax.detector import Detector

        return Detector
    raise AttributeError(f"module 'ssd_jax' has no attribute {name!r}")
