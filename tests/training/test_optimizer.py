import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssd_jax import config as config_lib
from ssd_jax.model import SSD
from ssd_jax.priors import PriorSpec
from ssd_jax.training.optimizer import build_optimizer, is_norm, learning_rate

pytestmark = pytest.mark.usefixtures("loose_dtypes")


def config_with(**fields):
    config = config_lib.base()
    config.optimizer.update(fields)
    return config


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 1e-3 / 501), (250, 1e-3 * 251 / 501), (500, 1e-3), (79_999, 1e-3), (80_000, 1e-4),
     (99_999, 1e-4), (100_000, 1e-5), (119_999, 1e-5)],
)  # fmt: skip
def test_the_papers_rates_on_voc(step, rate):
    np.testing.assert_allclose(learning_rate(config_lib.base())(step), rate, rtol=1e-5)


@pytest.mark.parametrize(("step", "rate"), [(0, 0.5), (30, 0.5 * 0.75), (45, 0.25), (90, 0.0)])
def test_cosine_falls_to_nothing(step, rate):
    config = config_with(rate=0.5, schedule="cosine", warmup_steps=0)
    config.train.steps = 90
    np.testing.assert_allclose(learning_rate(config)(step), rate, atol=1e-7)


@pytest.mark.parametrize(("step", "rate"), [(0, 0.5), (30, 0.5 * 4 / 9), (90, 0.0)])
def test_polynomial_is_a_power_of_what_is_left(step, rate):
    config = config_with(rate=0.5, schedule="polynomial", power=2.0, warmup_steps=0)
    config.train.steps = 90
    np.testing.assert_allclose(learning_rate(config)(step), rate, atol=1e-7)


def test_unknown_schedule_is_named():
    with pytest.raises(ValueError, match=r"config\.optimizer\.schedule is 'linear'; .*cosine"):
        learning_rate(config_with(schedule="linear"))


def params():
    return {
        "conv": {"kernel": jnp.array([1.0, -2.0]), "bias": jnp.array([0.5])},
        "l2norm": {"scale": jnp.array([20.0])},
    }


@pytest.mark.parametrize(
    ("bias_rate", "decay_biases"), [(2.0, False), (1.0, True)], ids=["paper", "one_group"]
)
def test_sgd_has_its_groups_and_couples_the_decay(bias_rate, decay_biases):
    """Against SGD written out: v = .9 v + g + 5e-4 w; w -= rate v.

    Biases learn at 2x and do not decay, batch norm does not decay (caffe: model_libs.py). One group
    of all parameters is what PyTorch's programs have.
    """
    rate, momentum, decay = 0.1, 0.9, 5e-4
    settings = {"bias_rate": bias_rate, "decay_biases": decay_biases}
    optimizer = build_optimizer(config_with(rate=rate, warmup_steps=0, boundaries=(), **settings))
    plain, undecayed = (1, True), (1, decay_biases)
    groups = {
        ("conv", "kernel"): plain,
        ("conv", "bias"): (bias_rate, decay_biases),
        ("l2norm", "scale"): plain,
        ("conv_bn", "scale"): undecayed,
        ("conv_bn", "bias"): undecayed,
    }
    ours = params() | {"conv_bn": {"scale": jnp.array([2.0, 3.0]), "bias": jnp.array([4.0, 5.0])}}
    state = optimizer.init(ours)
    theirs = {(layer, name): np.array(ours[layer][name]) for layer, name in groups}
    velocity = {name: np.zeros_like(value) for name, value in theirs.items()}
    for step in range(4):
        gradients = {
            name: np.array([0.3, step, 2.0 - step][: value.size]) for name, value in theirs.items()
        }
        for name, (multiple, is_decayed) in groups.items():
            decayed = decay * theirs[name] if is_decayed else 0
            velocity[name] = momentum * velocity[name] + gradients[name] + decayed
            theirs[name] = theirs[name] - rate * multiple * velocity[name]
        tree = {
            layer: {name: jnp.asarray(gradients[layer, name], jnp.float32) for name in leaves}
            for layer, leaves in ours.items()
        }
        updates, state = optimizer.update(tree, state, ours)
        ours = jax.tree.map(jnp.add, ours, updates)
    for (layer, name), expected in theirs.items():
        np.testing.assert_allclose(ours[layer][name], expected, rtol=1e-5)


def test_norms_are_those_of_the_network():
    spec = PriorSpec.for_image_size(96)
    model = SSD(3, spec, width=0.125, batch_norm=True, head_batch_norm=True)
    image = jnp.zeros((1, 96, 96, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), image)

    def layers(tree) -> set[tuple]:
        return {path[:-1] for path, leaf in jax.tree_util.tree_leaves_with_path(tree) if leaf}

    assert layers(is_norm(variables["params"])) == layers(
        jax.tree.map(lambda _: True, variables["batch_stats"])
    )


def test_adamws_first_step_has_the_size_of_the_rate_and_decays_apart():
    config = config_with(
        kind="adamw", rate=0.1, warmup_steps=0, boundaries=(), weight_decay=0.01, bias_rate=1.0
    )
    optimizer = build_optimizer(config)
    gradients = {
        "conv": {"kernel": jnp.array([5.0, -7.0]), "bias": jnp.array([3.0])},
        "l2norm": {"scale": jnp.array([-2.0])},
    }
    updates, _ = optimizer.update(gradients, optimizer.init(params()), params())
    # -rate (sign(g) + decay w); no decay of the bias
    np.testing.assert_allclose(
        updates["conv"]["kernel"], [-0.1 * (1 + 0.01), -0.1 * (-1 - 0.02)], rtol=1e-5
    )
    np.testing.assert_allclose(updates["conv"]["bias"], [-0.1], rtol=1e-5)
    np.testing.assert_allclose(updates["l2norm"]["scale"], [-0.1 * (-1 + 0.2)], rtol=1e-5)


def test_muon_turns_every_direction_of_a_kernel_alike():
    config = config_with(
        kind="muon", rate=0.1, adam_rate=0.5, warmup_steps=0, boundaries=(), weight_decay=0.0,
        bias_rate=1.0,
    )  # fmt: skip
    optimizer = build_optimizer(config)
    kernel = np.random.default_rng(0).normal(size=(3, 3, 2, 5)).astype(np.float32)
    gradients = {"conv": {"kernel": jnp.asarray(kernel), "bias": jnp.array([3.0, -0.1])}}
    weights = {"conv": {"kernel": jnp.ones((3, 3, 2, 5)), "bias": jnp.zeros(2)}}
    updates, _ = optimizer.update(gradients, optimizer.init(weights), weights)
    left, singular_values, right = np.linalg.svd(kernel.reshape(18, 5), full_matrices=False)
    assert singular_values.max() > 1.5 * singular_values.min()
    turned = left.T @ np.asarray(updates["conv"]["kernel"]).reshape(18, 5) @ right.T
    # Newton-Schulz with Muon's coefficients brings singular values to about .7 to 1.2, not to 1.
    assert np.all((np.diag(turned) < -0.1 * 0.65) & (np.diag(turned) > -0.1 * 1.25))
    np.testing.assert_allclose(turned - np.diag(np.diag(turned)), 0, atol=1e-4)
    # Adam's first step has the size of its rate.
    np.testing.assert_allclose(updates["conv"]["bias"], [-0.05, 0.05], rtol=1e-5)


def plain_sgd(**fields):
    """Updates are -rate times the gradients, all ones, and the decay."""
    return config_with(
        rate=0.1, momentum=0.0, weight_decay=0.0, bias_rate=1.0, warmup_steps=0, boundaries=(),
        **fields,
    )  # fmt: skip


def updates_of(config, gradients):
    optimizer = build_optimizer(config)
    return optimizer.update(gradients, optimizer.init(params()), params())[0]


def test_the_first_rate_that_fits_counts_and_frozen_stands_even_against_decay():
    config = plain_sgd(rates=(("conv/b*", 3.0), ("conv/*", 0.5)), frozen=("l2norm/*",))
    config.optimizer.weight_decay = 0.1
    updates = updates_of(config, jax.tree.map(jnp.ones_like, params()))
    np.testing.assert_allclose(
        updates["conv"]["kernel"], [-0.05 * (1 + 0.1), -0.05 * (1 - 0.2)], rtol=1e-6
    )
    np.testing.assert_allclose(updates["conv"]["bias"], [-0.3], rtol=1e-6)
    np.testing.assert_array_equal(updates["l2norm"]["scale"], [0.0])


def test_long_gradients_are_clipped_all_together_and_short_ones_not():
    ones = jax.tree.map(jnp.ones_like, params())  # four numbers: a length of 2
    clipped = updates_of(plain_sgd(clip_norm=0.5), ones)
    jax.tree.map(lambda x: np.testing.assert_allclose(x, -0.1 / 4, rtol=1e-6), clipped)
    kept = updates_of(plain_sgd(clip_norm=2.5), ones)
    jax.tree.map(lambda x: np.testing.assert_allclose(x, -0.1, rtol=1e-6), kept)


def test_a_run_can_go_on_with_other_clipping_freezing_and_rates():
    plain = build_optimizer(plain_sgd()).init(params())
    other = build_optimizer(
        plain_sgd(clip_norm=1.0, frozen=("conv/*",), rates=(("l2norm/*", 0.5),))
    ).init(params())
    assert jax.tree.structure(plain) == jax.tree.structure(other)


@pytest.mark.parametrize(
    ("field", "value"), [("frozen", ("backbon/*",)), ("rates", (("backbon/*", 2.0),))]
)
def test_a_pattern_that_fits_nothing_is_named(field, value):
    with pytest.raises(
        ValueError, match=rf"config\.optimizer\.{field} .*'backbon/\*'.* conv/bias, conv/kernel"
    ):
        build_optimizer(plain_sgd(**{field: value})).init(params())


@pytest.mark.parametrize("rates", [("backbone/*", 0.1), (("backbone/*",),)])
def test_rates_that_are_no_pairs_are_told(rates):
    with pytest.raises(ValueError, match=r"config\.optimizer\.rates is .* pairs of a pattern"):
        build_optimizer(plain_sgd(rates=rates))
