"""What the step minimises is what the config says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssd_jax.losses import multibox_loss
from ssd_jax.priors import prior_boxes
from ssd_jax.recipe import build_model, build_stages
from ssd_jax.training.objective import Samples, apply_training, build_samples, row_keys
from ssd_jax.training.state import initial_variables
from ssd_jax.training.step import build_gradients
from tests.reference import boxes
from tests.reference import matching as reference
from tests.small import small_config

CLASSES = ("cat", "dog")

pytestmark = pytest.mark.usefixtures("compiled_in_haste", "loose_dtypes")


@pytest.fixture
def config():
    """Without anything random."""
    config = small_config("")
    config.model.batch_norm = False
    config.augment.mirror_probability = 0.0
    return config


def random_batch(rows: int) -> dict[str, np.ndarray]:
    """Pairs of boxes that nearly are one, so that both have the same best prior."""
    rng = np.random.default_rng(0)
    centres, sides = rng.uniform(0.3, 0.7, (rows, 4, 2)), rng.uniform(0.1, 0.5, (rows, 4, 2))
    corners = np.concatenate([centres - sides / 2, centres + sides / 2], axis=2)
    corners[:, 1] = corners[:, 0] + 0.003
    return {
        "image": rng.integers(0, 256, (rows, 160, 160, 3)).astype(np.uint8),
        "size": rng.integers(100, 161, (rows, 2)).astype(np.int32),
        "boxes": corners.astype(np.float32),
        "labels": rng.integers(1, 3, (rows, 4)).astype(np.int32),
    }


@pytest.mark.parametrize("bipartite", ["greedy", "argmax"])
def test_samples_are_matched_and_normalised_by_the_config(config, bipartite):
    config.model.mean, config.model.std = (10.0, 20.0, 30.0), (58.0, 57.0, 56.0)
    config.priors.variances = (0.2, 0.3)
    config.matching.threshold, config.matching.bipartite = 0.3, bipartite
    model, batch = build_model(config, CLASSES), random_batch(3)
    samples = jax.jit(build_samples(config, model.priors))(row_keys(0, 0, 3), batch)

    priors = prior_boxes(model.priors)
    match = {"greedy": reference.greedy, "argmax": reference.argmax}[bipartite]
    corners = [boxes.corners(prior) for prior in priors]
    for row in range(3):
        truths = batch["boxes"][row].tolist()
        owners = match([[boxes.iou(truth, one) for one in corners] for truth in truths], 0.3)
        assert len(set(owners)) > 2
        labels = [batch["labels"][row, n] if n >= 0 else 0 for n in owners]
        np.testing.assert_array_equal(samples.label_targets[row], labels)
        offsets = [
            boxes.encode(truths[n], prior, (0.2, 0.3)) if n >= 0 else (0, 0, 0, 0)
            for n, prior in zip(owners, priors, strict=True)
        ]
        np.testing.assert_allclose(samples.loc_targets[row], offsets, rtol=1e-4, atol=1e-4)

    # As the detector will see them.
    images = build_stages(config, model).preprocess(batch["image"], batch["size"])
    np.testing.assert_allclose(samples.images, images, atol=1e-3)
    assert float(jnp.abs(images).max()) < 5


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_loss_is_mined_by_the_config(config, accumulate):
    config.loss.neg_pos_ratio, config.loss.min_negatives = 2.0, 7
    config.train.accumulate = accumulate
    model = build_model(config, CLASSES)
    rng = np.random.default_rng(1)
    count = len(prior_boxes(model.priors))
    labels = rng.choice(3, (4, count), p=(0.98, 0.01, 0.01)).astype(np.int32)
    labels[2] = 0
    samples = Samples(
        images=jnp.asarray(rng.normal(0, 60, (4, 96, 96, 3)), jnp.float32),
        loc_targets=jnp.asarray(rng.normal(0, 1, (4, count, 4)), jnp.float32),
        label_targets=jnp.asarray(labels),
    )
    variables = initial_variables(model, 0)
    gradients = jax.jit(build_gradients(config, model))
    _, _, metrics = gradients(variables["params"], {}, samples)
    outputs = jax.jit(lambda variables: apply_training(config, model, variables, samples.images))
    (loc, conf), _ = outputs({**variables, "batch_stats": {}})
    expected = multibox_loss(loc, conf, *samples[1:], neg_pos_ratio=2.0, min_negatives=7)
    assert int(metrics["negatives"]) == sum(max(7, 2 * np.sum(row > 0)) for row in labels)
    np.testing.assert_allclose((metrics["loc"], metrics["conf"]), expected, rtol=1e-5)
