"""XLA's compiling: how long it takes, and the cache on disk that spares it the next time."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import jax
from absl import flags

from ssd_jax import processes
from ssd_jax.download import cache_folder

logger = logging.getLogger(__name__)

_COMPILED = "/jax/core/compile/backend_compile_duration"
_CACHE_HIT = "/jax/compilation_cache/cache_hits"


def define_cache() -> Any:
    """Defines `--compilation_cache FOLDER`."""
    return flags.DEFINE_string(
        "compilation_cache",
        None,
        "Where compiled programs are kept, so that the next start is fast; '' keeps none "
        "[$JAX_COMPILATION_CACHE_DIR, or compiled in $SSD_JAX_CACHE or ~/.cache/ssd_jax].",
    )


def enable_cache(folder: str | None) -> None:
    """Keeps what is compiled from now on in a folder; None is the usual one, '' is nowhere.

    On GPUs the timings by which kernels are chosen are kept too. Several processes keep it in a
    folder that they share or nowhere: JAX writes on the first one alone, and where that has found a
    program and the others compile it, they wait for its share of the timings for ever.
    """
    if folder is None:
        folder = jax.config.values["jax_compilation_cache_dir"] or str(cache_folder() / "compiled")
    if not folder:
        jax.config.update("jax_compilation_cache_dir", None)
        return
    path = Path(folder).expanduser().resolve()
    if processes.are_several():
        try:
            processes.check_shared(path)
        except OSError as fault:
            logger.warning("what is compiled is not kept: %s", fault)
            jax.config.update("jax_compilation_cache_dir", None)
            return
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update(
        "jax_persistent_cache_enable_xla_caches", "xla_gpu_per_fusion_autotune_cache_dir"
    )


@dataclasses.dataclass(frozen=True)
class Compiling:
    """What XLA has compiled in some time.

    Attributes:
      seconds: that it took, reading the cache included.
      cached: whether something was read from the cache.
    """

    seconds: float
    cached: bool


class CompileTimer:
    """Adds up how long XLA compiles, from when it is made."""

    def __init__(self) -> None:
        self._seconds, self._hits = 0.0, 0
        jax.monitoring.register_event_duration_secs_listener(self._compiled)
        jax.monitoring.register_event_listener(self._met)

    def close(self) -> None:
        """Counts no more."""
        jax.monitoring.unregister_event_duration_listener(self._compiled)
        jax.monitoring.unregister_event_listener(self._met)

    def since_last(self) -> Compiling:
        """What was compiled since the last call."""
        compiling = Compiling(self._seconds, self._hits > 0)
        self._seconds, self._hits = 0.0, 0
        return compiling

    def _compiled(self, event: str, duration_secs: float, **_: Any) -> None:
        if event == _COMPILED:
            self._seconds += duration_secs

    def _met(self, event: str, **_: Any) -> None:
        if event == _CACHE_HIT:
            self._hits += 1
