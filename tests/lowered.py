"""Runs, on a CPU, what is lowered for a GPU: the branches that CPUs do not take."""

from collections.abc import Callable
from typing import Any

import jax
from jax.export import DisabledSafetyCheck, export


def for_a_gpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as `jax.jit` would hand it to a GPU's compiler, given to the CPU's."""

    def call(*args: Any) -> Any:
        exported = export(
            jax.jit(function),
            platforms=["cuda"],
            disabled_checks=[
                DisabledSafetyCheck.platform(),
                DisabledSafetyCheck.custom_call("LayoutConstraint"),
            ],
        )(*args)
        return jax.jit(exported.call)(*args)

    return call
