"""What suppression is timed on, and how far a peer may differ."""

import jax
import jax.numpy as jnp
import nms as benchmark
import numpy as np
import pytest

from ssd_jax.detection import nms


@pytest.fixture
def boxes() -> np.ndarray:
    return benchmark.crowded(np.random.default_rng(0), 3, 400)


def test_crowded_boxes_are_boxes(boxes):
    assert boxes.shape == (3, 400, 4) and boxes.dtype == np.float32
    assert (boxes[..., 2:] > boxes[..., :2]).all()


def test_of_the_ten_boxes_round_each_of_forty_objects_few_stay(boxes):
    every = jnp.ones(400, bool)
    stay = jax.vmap(lambda boxes: nms(boxes, every, benchmark.IOU))(boxes)
    counts = stay.sum(axis=1)
    # Objects that overlap each other may be one less, boxes far from the best one more.
    assert ((counts >= 30) & (counts <= 80)).all(), counts


def test_classes_have_orders_of_their_own(boxes):
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    # In the order in which they are made the next lies round the same object nine times of ten.
    near = np.linalg.norm(np.diff(centre, axis=1), axis=-1) < 0.05
    assert (near.mean(axis=1) < 0.2).all()


@pytest.mark.parametrize("differ", [0, 1, 2])
def test_a_peer_may_differ_by_less_than_one_in_a_thousand(report, differ):
    ours = np.zeros((2, 1000), bool)
    theirs = ours.copy()
    theirs[0, :differ] = True
    if differ == 2:
        with pytest.raises(ValueError, match="a chain: 2 of 2000 boxes"):
            benchmark.check_alike(report, "a chain", ours, theirs)
    else:
        benchmark.check_alike(report, "a chain", ours, theirs)
    assert len(report.notes) == (1 if differ == 1 else 0)
