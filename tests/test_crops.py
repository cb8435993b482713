"""The crops of other programs against their literal versions (Caffe's are in test_augment.py)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from configs.recipes import mmdetection, ssd_pytorch, torchvision
from ssd_jax.augmentation import Augmentation
from ssd_jax.crops import sample_crop
from ssd_jax.recipe import build_augmentation
from tests.reference import peers_augment as reference
from tests.reference.boxes import iou

SIZE = (200, 120)
BOXES = jnp.array(
    [[0.1, 0.2, 0.35, 0.5], [0.3, 0.25, 0.95, 0.9], [0.6, 0.1, 0.7, 0.6], [0.2, 0.2, 0.9, 0.8]],
    jnp.float32,
)
LABELS = jnp.array([1, 2, 1, 0], jnp.int32)
OBJECTS = np.asarray(BOXES)[np.asarray(LABELS) > 0]
IN_PIXELS = [np.multiply(box, [*SIZE, *SIZE]) for box in OBJECTS]


def draw(options: Augmentation, count: int):
    """(crops, samplers) of `count` keys."""
    keys = jax.random.split(jax.random.key(5), count)
    one = lambda key: sample_crop(key, BOXES, LABELS, options, jnp.float32(SIZE[0] / SIZE[1]))  # noqa: E731
    return map(np.asarray, jax.jit(jax.vmap(one))(keys))


@pytest.mark.parametrize(
    ("recipe", "literal"),
    [
        (ssd_pytorch, reference.ssd_pytorch),
        (torchvision, reference.torchvision),
        (mmdetection, reference.mmdetection),
    ],
    ids=["ssd_pytorch", "torchvision", "mmdetection"],
)
def test_crops_are_distributed_as_the_programs(recipe, literal):
    """Two-sample tests at one in a thousand over all of them (Bonferroni), of fixed draws."""
    crops, samplers = draw(build_augmentation(recipe.get_config()), 20_000)
    rng = np.random.default_rng(7)
    theirs = [literal(rng, SIZE, IN_PIXELS) for _ in range(3000)]
    their_samplers = np.array([mode for mode, _ in theirs])
    their_crops = np.array([np.divide(crop, [*SIZE, *SIZE]) for _, crop in theirs])

    counts = [np.bincount(which, minlength=7)[:7] + 1e-9 for which in (samplers, their_samplers)]
    met = np.max(counts, axis=0) > 1
    chances = {"sampler": stats.chi2_contingency([c[met] for c in counts]).pvalue}
    ours, theirs = crops[samplers > 0], their_crops[their_samplers > 0]
    for name, measure in {
        "width": lambda c: c[:, 2] - c[:, 0],
        "height": lambda c: c[:, 3] - c[:, 1],
        "aspect": lambda c: (c[:, 2] - c[:, 0]) / (c[:, 3] - c[:, 1]),
        "left": lambda c: c[:, 0],
        "top": lambda c: c[:, 1],
    }.items():
        chances[name] = stats.ks_2samp(measure(ours), measure(theirs)).pvalue
    assert min(chances.values()) > 0.001 / len(chances), chances


def test_all_objects_have_the_least_overlap_under_all():
    options = Augmentation(crop_min_ious=(0.03, 0.06), crop_overlap="all", crop_keeps_object=True)
    crops, samplers = draw(options, 2000)
    for sampler, least in ((1, 0.03), (2, 0.06)):
        chosen = crops[samplers == sampler]
        assert len(chosen) > 20
        assert min(iou(crop, box) for crop in chosen for box in OBJECTS) >= least - 1e-5


def test_crops_that_keep_an_object_hold_a_centre():
    crops, samplers = draw(Augmentation(crop_keeps_object=True), 2000)
    assert set(samplers) == set(range(7))
    for crop in crops:
        assert any(reference._holds_centre(crop, box) for box in OBJECTS)


def test_without_objects_no_crop_keeps_one():
    options = Augmentation(crop_keeps_object=True, crop_shape="sides")
    one = lambda key: sample_crop(key, BOXES, jnp.zeros(4, jnp.int32), options)  # noqa: E731
    _, samplers = jax.vmap(one)(jax.random.split(jax.random.key(0), 100))
    assert set(np.asarray(samplers)) == {0}


def test_drawn_by_sides_no_crop_is_longer_than_allowed():
    options = Augmentation(crop_shape="sides", crop_aspect=(0.8, 1.25))
    crops, samplers = draw(options, 2000)
    sides = (crops[:, 2:] - crops[:, :2])[samplers > 0] * SIZE
    aspect = sides[:, 0] / sides[:, 1]
    assert np.all((aspect > 0.8 - 1e-4) & (aspect < 1.25 + 1e-4))


@pytest.mark.usefixtures("loose_dtypes")
def test_a_key_gives_one_crop_in_single_and_in_double_precision():
    key = jax.random.key(3)
    crop, sampler = sample_crop(key, BOXES, LABELS, Augmentation())
    with jax.enable_x64(True):
        same, same_sampler = sample_crop(key, BOXES, LABELS, Augmentation())
    assert int(sampler) == int(same_sampler)
    np.testing.assert_allclose(crop, same, rtol=1e-6)
