"""What the compiled step sends between devices, and what of it is computed anew."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.hlo import Collective, Kernel, collectives, kernels
from ssd_jax.priors import PriorSpec
from ssd_jax.recipe import build_model
from ssd_jax.sharding import make_mesh, state_shardings
from ssd_jax.training.optimizer import build_optimizer
from ssd_jax.training.state import init_state, initial_variables
from ssd_jax.training.step import build_train_step, compile_train_step
from tests.small import small_config

CLASSES = ("cat", "dog")

pytestmark = pytest.mark.usefixtures("loose_dtypes")


def shapes_of_a_batch(rows: int) -> dict[str, jax.ShapeDtypeStruct]:
    return {
        "image": jax.ShapeDtypeStruct((rows, 160, 160, 3), jnp.uint8),
        "size": jax.ShapeDtypeStruct((rows, 2), jnp.int32),
        "boxes": jax.ShapeDtypeStruct((rows, 5, 4), jnp.float32),
        "labels": jax.ShapeDtypeStruct((rows, 5), jnp.int32),
    }


def exchanged(fsdp: int) -> tuple[PriorSpec, list[jax.ShapeDtypeStruct], list[Collective]]:
    """The network's priors and parameters, and what a step of it sends between eight devices."""
    config = small_config("")
    config.model.batch_norm = False
    config.optimizer.kind = "sgd"
    model, optimizer = build_model(config, CLASSES), build_optimizer(config)
    state = jax.eval_shape(lambda: init_state(model, optimizer, config.seed))
    mesh = make_mesh(jax.devices(), fsdp)
    step = build_train_step(config, model, optimizer, mesh)
    compiled = compile_train_step(step, mesh, state_shardings(mesh, state))
    text = compiled.lower(state, shapes_of_a_batch(8)).compile().as_text()
    return model.priors, jax.tree.leaves(state.params), collectives(text)


def test_devices_exchange_the_gradients_once_and_nothing_else_large():
    priors, parameters, found = exchanged(fsdp=1)
    large = [one for one in found if one.bytes > 100]
    gradients = 4 * sum(leaf.size for leaf in parameters)
    # The gradients of all parameters at once, and with them the two sums of the loss.
    assert [one.kind for one in large] == ["all-reduce"]
    assert gradients <= large[0].bytes <= gradients + 100
    # Kernels and biases of both heads of a level are one array each.
    arrays = len(parameters) - 2 * len(priors.feature_maps)
    assert arrays <= large[0].arrays <= arrays + 4
    assert {one.kind for one in found} == {"all-reduce"}
    assert len(found) <= 6


def test_a_split_state_is_gathered_and_features_stay_where_they_are():
    _, leaves, found = exchanged(fsdp=4)
    parameters = 4 * sum(leaf.size for leaf in leaves)
    assert {one.kind for one in found} == {"all-gather", "all-reduce"}
    gathered = sum(one.bytes for one in found if one.kind == "all-gather")
    summed = sum(one.bytes for one in found if one.kind == "all-reduce")
    assert 0.9 * parameters < gathered < 1.1 * parameters
    assert 0.9 * parameters < summed < 1.1 * parameters


def test_kernels_are_read_from_the_text():
    text = """
%body.1 (p.1: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p.1 = (s32[], f32[8]{0}) parameter(0)
  %x.1 = f32[8]{0} get-tuple-element(%p.1), index=1
  ROOT %f.1 = f32[8]{0} fusion(%x.1), kind=kLoop, calls=%c, metadata={op_name="jit(f)/add"}
}

%cond.1 (p.2: (s32[], f32[8])) -> pred[] {
  %p.2 = (s32[], f32[8]{0}) parameter(0)
  %i.2 = s32[] get-tuple-element(%p.2), index=0
  ROOT %f.2 = pred[] fusion(%i.2), kind=kLoop, calls=%d
}

ENTRY %main (a: f32[8], b: bf16[4]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  %b = bf16[4]{0} parameter(1)
  %conv = (bf16[4]{0}, u8[0]{0}) custom-call(%b, %a), custom_call_target="__cudnn$convForward"
  %t = (s32[], f32[8]{0}) tuple(%i, %a)
  %w.1 = (s32[], f32[8]{0}) while(%t), condition=%cond.1, body=%body.1
  %w.2 = (s32[], f32[8]{0}) while(%t), condition=%cond.1, body=%body.1, \
backend_config={"known_trip_count":{"n":"7"}}
  ROOT %r = f32[8]{0} copy(%a)
}
"""
    assert kernels(text, trips=3) == [
        Kernel("__cudnn$convForward", "", 1, 8 + 8 + 32),
        Kernel("fusion", "jit(f)/add", 3, 64),
        Kernel("fusion", "", 3, 1 + 4),
        Kernel("fusion", "jit(f)/add", 7, 64),
        Kernel("copy", "", 1, 64),
    ]


def test_collectives_are_read_from_the_text():
    text = """
  %a = (f32[8]{0}, bf16[3,3,3,8]{3,2,1,0}, /*index=2*/s32[]) all-reduce(%x, %y, %z), channel_id=1
  ROOT %b = pred[] all-reduce(%c), to_apply=%region
  %all-reduce.7 = f32[4]{0} add(%all-reduce.5, %b)
  %g = f32[16,4]{1,0} all-gather-start(%h), dimensions={0}
  %d = f32[16,4]{1,0} all-gather-done(%g)
"""
    assert collectives(text) == [
        Collective("all-reduce", 3, 32 + 432 + 4),
        Collective("all-reduce", 1, 1),
        Collective("all-gather", 1, 256),
    ]


def test_rematerialisation_changes_no_gradient_and_keeps_less():
    """In double precision: in single, small entries of a kernel have the rounding of large ones."""
    config = small_config("")
    kept, gradients, variables = {}, {}, None
    with jax.numpy_dtype_promotion("standard"), jax.enable_x64(True):
        images = jax.random.normal(jax.random.key(0), (2, 96, 96, 3), jnp.float64)
        for remat in (False, True):
            config.train.remat = remat
            model = build_model(config, CLASSES).clone(dtype=jnp.float64)
            variables = variables or jax.tree.map(
                lambda leaf: leaf.astype(jnp.float64),
                initial_variables(model, 1),
            )

            def loss(params, model=model, variables=variables):
                (loc, conf), _ = model.apply(
                    {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
                )
                return jnp.sum(jnp.sin(loc)) + jnp.sum(jnp.sin(conf))

            gradients[remat] = jax.jit(jax.grad(loss))(variables["params"])
            residuals = jax.eval_shape(
                lambda params, loss=loss: jax.vjp(loss, params)[1], variables["params"]
            )
            kept[remat] = sum(leaf.size for leaf in jax.tree.leaves(residuals))
    for ours, plain in zip(*map(jax.tree.leaves, (gradients[True], gradients[False])), strict=True):
        assert ours.dtype == np.float64
        np.testing.assert_allclose(ours, plain, rtol=1e-9, atol=1e-12 * np.abs(plain).max())
    assert kept[True] < kept[False] / 3
