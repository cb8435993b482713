import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssd_jax.model import SSD, L2Norm, ssd300, ssd512
from ssd_jax.priors import COCO300, VOC300, VOC512, PriorSpec, prior_boxes
from ssd_jax.training.state import initial_variables

SPEC96 = PriorSpec.for_image_size(96)


def images_of(model: SSD, batch: int = 2, seed: int = 0) -> jax.Array:
    shape = (batch, *model.priors.image_size, 3)
    return jax.random.uniform(jax.random.key(seed), shape, minval=-123.0, maxval=151.0)


def abstract_outputs(model: SSD):
    images = jax.ShapeDtypeStruct((2, *model.priors.image_size, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    return variables, jax.eval_shape(model.apply, variables, images)


def count(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_ssd300_has_the_papers_parameters_and_priors():
    variables, (loc, conf) = abstract_outputs(ssd300(21))
    assert count(variables) == 26_285_486
    assert loc.shape == (2, 8732, 4)
    assert conf.shape == (2, 8732, 21)


def test_ssd512_has_the_papers_priors():
    _, (loc, conf) = abstract_outputs(ssd512(21))
    assert loc.shape == (2, 24_564, 4)
    assert conf.shape == (2, 24_564, 21)


@pytest.mark.parametrize(
    ("model", "places"),
    [(ssd300(), (38, 19, 10, 5, 3, 1)), (ssd512(), (64, 32, 16, 8, 4, 2, 1))],
    ids=["300", "512"],
)
def test_feature_maps_are_the_papers(model, places):
    channels = (512, 1024, 512, *[256] * (len(places) - 3))
    images = jax.ShapeDtypeStruct((1, *model.priors.image_size, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    maps = jax.eval_shape(lambda v, x: model.apply(v, x, method="features"), variables, images)
    assert [m.shape for m in maps] == [(1, n, n, c) for n, c in zip(places, channels, strict=True)]


@pytest.mark.parametrize("size", [96, 128, 320, (96, 160), (200, 120)])
def test_any_input_size_gives_an_output_a_prior(size):
    model = SSD(4, PriorSpec.for_image_size(size), width=0.125, batch_norm=True)
    _, (loc, conf) = abstract_outputs(model)
    priors = len(prior_boxes(model.priors))
    assert loc.shape == (2, priors, 4)
    assert conf.shape == (2, priors, 4)


@pytest.mark.parametrize(("factory", "size"), [(ssd300, 300), (ssd512, 512)])
def test_forward_pass_equals_pytorch(factory, size):
    pytest.importorskip("torch", reason="compares with PyTorch, an optional extra")
    from tests.reference.ssd_torch import ssd

    model = factory(6, width=0.125)
    images = images_of(model)
    variables = initial_variables(model, 1)
    # Biases that are not zero, so that one left out or misplaced shows.
    params = jax.tree.map(
        lambda p: (
            p + jnp.broadcast_to(jnp.linspace(0.0, 0.1, p.shape[-1]), p.shape) if p.ndim == 1 else p
        ),
        variables["params"],
    )
    loc, conf = jax.jit(model.apply)({"params": params}, images)
    expected_loc, expected_conf = ssd(params, np.asarray(images), 6, size)
    # float32 sums over some thousand terms, in another order
    for ours, theirs in ((loc, expected_loc), (conf, expected_conf)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def test_full_ssd300_forward_pass_equals_pytorch():
    pytest.importorskip("torch", reason="compares with PyTorch, an optional extra")
    from tests.reference.ssd_torch import ssd

    model = ssd300(21)
    images = images_of(model, batch=1)
    variables = initial_variables(model, 1)
    loc, conf = jax.jit(model.apply)(variables, images)
    expected_loc, expected_conf = ssd(variables["params"], np.asarray(images), 21, 300)
    for ours, theirs in ((loc, expected_loc), (conf, expected_conf)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def test_initial_weights_are_xavier_uniform_and_biases_zero():
    model = SSD(21, SPEC96, width=0.25)
    params = initial_variables(model, 0)["params"]
    kernel = np.asarray(params["backbone"]["fc6"]["conv"]["kernel"])
    fan_in, fan_out = 9 * kernel.shape[2], 9 * kernel.shape[3]
    limit = np.sqrt(6 / (fan_in + fan_out))
    assert 0.99 * limit < np.abs(kernel).max() <= limit
    np.testing.assert_allclose(kernel.std(), limit / np.sqrt(3), rtol=0.01)
    assert not np.any(params["heads"]["conf_0"]["bias"])


@pytest.mark.parametrize(("width", "scale"), [(1.0, 20.0), (0.25, 10.0)])
def test_l2norm_starts_at_20_for_512_channels_and_keeps_amplitudes(width, scale):
    model = SSD(3, SPEC96, width=width)
    images = jax.ShapeDtypeStruct((1, 96, 96, 3), jnp.float32)
    # The rest of the network is never computed.
    initial = jax.jit(lambda key, x: model.init(key, x)["params"]["l2norm"])
    params = initial(jax.random.key(0), jnp.zeros(images.shape))
    np.testing.assert_allclose(params["scale"], scale)
    x = jax.random.normal(jax.random.key(0), (1, 2, 2, len(params["scale"])))
    lengths = jnp.linalg.norm(L2Norm(1.0).apply({"params": params}, x), axis=-1)
    np.testing.assert_allclose(lengths, scale, rtol=1e-5)


def test_l2norm_of_an_all_zero_pixel_has_a_finite_gradient():
    norm = L2Norm(20.0)
    x = jnp.zeros((1, 2, 2, 8))
    variables = norm.init(jax.random.key(0), x)
    gradient = jax.grad(lambda x: jnp.sum(norm.apply(variables, x)))(x)
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("heads", [False, True])
def test_batch_norm_normalises_with_the_batch_then_with_running_statistics(heads):
    model = SSD(3, SPEC96, width=0.125, batch_norm=True, head_batch_norm=heads)
    images = images_of(model, batch=4)
    variables = initial_variables(model, 0)

    @jax.jit
    def train(variables):
        outputs, updates = model.apply(variables, images, train=True, mutable=["batch_stats"])
        return outputs, {**variables, **updates}

    trained, variables = train(variables)
    first = 12 * 12 * model.priors.boxes_per_cell[0]
    by_channel = np.reshape(trained[1][:, :first], (4 * 12 * 12, -1))
    assert np.allclose(by_channel.mean(axis=0), 0, atol=1e-4) == heads
    assert np.allclose(by_channel.std(axis=0), 1, atol=1e-2) == heads
    for _ in range(150):  # running statistics converge to those of the one batch
        _, variables = train(variables)
    evaluated = jax.jit(model.apply)(variables, images)
    # The running variance is flax's biased one, so both modes agree in the limit.
    for ours, expected in zip(evaluated, trained, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-2, atol=2e-2)


def test_bfloat16_keeps_parameters_and_outputs_float32():
    model = SSD(3, SPEC96, width=0.125, dtype=jnp.bfloat16)
    images = images_of(model)
    variables = initial_variables(model, 0)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}
    outputs = jax.jit(model.apply)(variables, images)
    assert [output.dtype for output in outputs] == [jnp.float32, jnp.float32]
    wide = SSD(3, SPEC96, width=0.125)
    expected = jax.jit(wide.apply)(variables, images)
    for ours, theirs in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.05 * float(np.abs(theirs).max()))


def test_wrong_image_size_is_named():
    with pytest.raises(
        ValueError, match=r"takes images \[B, 300, 300, 3\], got \[1, 299, 300, 3\]"
    ):
        jax.eval_shape(ssd300().init, jax.random.key(0), jnp.zeros((1, 299, 300, 3)))


def test_priors_of_another_network_are_refused():
    mixed = PriorSpec(
        image_size=(300, 300),
        **{
            name: getattr(VOC512, name)
            for name in ("feature_maps", "steps", "min_sizes", "max_sizes", "aspect_ratios")
        },
    )
    with pytest.raises(ValueError, match="has feature maps"):
        jax.eval_shape(ssd300(priors=mixed).init, jax.random.key(0), jnp.zeros((1, 300, 300, 3)))


def test_priors_can_be_chosen():
    assert ssd300().priors == VOC300
    assert ssd300(81, priors=COCO300).priors == COCO300


def test_parameters_are_float32_whatever_jaxs_default_is():
    with jax.enable_x64(True):
        images = jax.ShapeDtypeStruct((1, 300, 300, 3), jnp.float32)
        variables = jax.eval_shape(ssd300(batch_norm=True).init, jax.random.key(0), images)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
