"""What the augmentation makes of objects and colours, as distributions, against the literal one.

Geometry's parameters are compared in tests/test_augment.py, other programs' crops in
tests/test_crops.py. Here it is what comes out. The draws are fixed by their seeds; all comparisons
of a test together would fail one in a thousand of other seeds (Bonferroni).
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from configs import voc300
from ssd_jax.augment import apply_to_boxes, sample_parameters
from ssd_jax.photometric import distort
from ssd_jax.recipe import build_augmentation
from tests.reference import augment as reference

OPTIONS = build_augmentation(voc300.get_config())
OURS, THEIRS = 20_000, 3_000
CHANCE = 1e-3

BOXES = np.array(
    [[0.1, 0.2, 0.25, 0.3], [0.15, 0.1, 0.95, 0.9], [0.6, 0.1, 0.7, 0.6], [0, 0, 0, 0]], np.float32
)
LABELS = np.array([3, 1, 2, 0], np.int32)
# A skin tone, a dark blue, a saturated green, a bright grey and black.
COLOURS = np.array(
    [[[214, 160, 140], [20, 30, 90], [10, 250, 40], [220, 222, 221], [0, 0, 0]]], np.float32
)


def draw_ours():
    """(parameters, boxes [K, 4, 4], labels [K, 4], colours [K, 1, 5, 3])."""

    def one(key):
        boxes, labels = jnp.asarray(BOXES), jnp.asarray(LABELS)
        parameters = sample_parameters(key, boxes, labels, OPTIONS)
        colours = distort(jnp.asarray(COLOURS), parameters.photometric)
        return parameters, *apply_to_boxes(boxes, labels, parameters), colours

    keys = jax.random.split(jax.random.key(20), OURS)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(keys))


def draw_theirs():
    """(mirrored [K], boxes [K, 4, 4], labels [K, 4], colours [K, 1, 5, 3])."""
    rng = np.random.default_rng(21)
    drawn = []
    for _ in range(THEIRS):
        ratio, offset, crop, _ = reference.draw_geometry(rng, BOXES, LABELS)
        mirrored = rng.uniform() < 0.5
        moved = reference.move_boxes(BOXES, LABELS, ratio, offset, crop, mirrored)
        colours = reference.distort(COLOURS, *reference.draw_photometric(rng))
        drawn.append((mirrored, *moved, colours))
    return [np.stack(column) for column in zip(*drawn, strict=True)]


def same_counts(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Chance of counts this far apart if both are draws of one distribution of small integers."""
    counts = [np.bincount(values, minlength=int(ours.max()) + 1) for values in (ours, theirs)]
    met = np.sum(counts, axis=0) > 0
    return stats.chi2_contingency([each[met] for each in counts]).pvalue


def test_what_comes_out_is_distributed_as_what_the_literal_one_gives():
    parameters, boxes, labels, colours = draw_ours()
    mirrored, their_boxes, their_labels, their_colours = draw_theirs()
    chances = {
        "mirrored": same_counts(parameters.mirror.astype(int), mirrored.astype(int)),
        "objects kept": same_counts(np.sum(labels > 0, axis=1), np.sum(their_labels > 0, axis=1)),
        # Which of the three are kept together, as a number of three bits.
        "which are kept": same_counts(
            (labels[:, :3] > 0) @ np.array([1, 2, 4]),
            (their_labels[:, :3] > 0) @ np.array([1, 2, 4]),
        ),
    }
    for slot in range(3):
        a, b = boxes[labels[:, slot] > 0, slot], their_boxes[their_labels[:, slot] > 0, slot]
        for name, measure in {
            "width": lambda box: box[:, 2] - box[:, 0],
            "height": lambda box: box[:, 3] - box[:, 1],
            "left": lambda box: box[:, 0],
            "top": lambda box: box[:, 1],
        }.items():
            # Rounded: untouched objects are many values equal but for single precision.
            both = (np.round(measure(box.astype(np.float64)), 4) for box in (a, b))
            chances[f"{name} of {slot}"] = stats.ks_2samp(*both).pvalue
    for pixel in range(COLOURS.shape[1]):
        for channel in range(3):
            # To a tenth: untouched and saturated colours are many equal values in both.
            a, b = (np.round(c[:, 0, pixel, channel], 1) for c in (colours, their_colours))
            chances[f"channel {channel} of colour {pixel}"] = stats.ks_2samp(a, b).pvalue
    lowest = min(chances, key=chances.get)
    assert chances[lowest] > CHANCE / len(chances), f"{lowest}: {chances[lowest]:.2e}"


def test_the_comparison_can_fail():
    """A hue of 18 degrees instead of 36, and 1 crop in 10 left out, are told apart."""
    rng = np.random.default_rng(3)
    hue = rng.uniform(-36, 36, OURS), rng.uniform(-18, 18, THEIRS)
    assert stats.ks_2samp(*hue).pvalue < CHANCE / 100
    kept = rng.binomial(3, 0.7, OURS), rng.binomial(3, 0.73, THEIRS)
    assert same_counts(*kept) < CHANCE / 10
