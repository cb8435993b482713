"""Random weights in every program's form give its own outputs and detections here."""

import functools

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="compares with PyTorch, an optional extra")

from ssd_jax import detection  # noqa: E402
from ssd_jax.model import ssd300, ssd512  # noqa: E402
from ssd_jax.priors import prior_boxes  # noqa: E402
from ssd_jax.recipe import build_priors  # noqa: E402
from ssd_jax.weights import (  # noqa: E402
    from_caffe,
    from_lufficc,
    from_mmdetection,
    from_ssd_pytorch,
    from_torchvision,
)
from tests.reference import peers_detection, peers_torch  # noqa: E402

STEPS = {300: (8, 16, 32, 64, 100, 300), 512: (8, 16, 32, 64, 128, 256, 512)}
VOC300 = (30, 60, 111, 162, 213, 264, 315)
TORCHVISION_SCALES = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
LUFFICC512 = (35.84, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8, 537.65)


@functools.cache
def forward(size, num_classes):
    model = {300: ssd300, 512: ssd512}[size](num_classes)
    return jax.jit(model.apply)


def picture(size):
    """RGB 0..255 with large and small structure, [1, size, size, 3]."""
    random = np.random.default_rng(0)
    coarse = np.kron(random.uniform(0, 255, (10, 10, 3)), np.ones((52, 52, 1)))
    fine = random.normal(0, 30, (size, size, 3))
    return np.clip(coarse[:size, :size] + fine, 0, 255)[None].astype(np.float32)


def to_torch(images):
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32))


def state_of(network):
    return {name: value.numpy() for name, value in network.state_dict().items()}


def check(imported, network, theirs_in, rgb, size, reference, expected_priors, background=0):
    """Raw outputs, priors and detections are the program's own."""
    with torch.no_grad():
        loc, conf = (o.numpy() for o in network(theirs_in))
    mean, std = (np.array(v, np.float32) for v in vars(imported.preprocessing).values())
    run = forward(size, network.num_classes)
    ours_loc, ours_conf = run(imported.variables, (rgb - mean) / std)
    theirs_conf = np.roll(conf, 1, axis=-1) if background else conf
    for ours, theirs in ((ours_loc, loc), (ours_conf, theirs_conf)):
        assert np.linalg.norm(ours - theirs) < 1e-4 * np.linalg.norm(theirs)
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())

    spec = imported.priors
    assert build_priors(imported.config()) == spec
    np.testing.assert_allclose(prior_boxes(spec), expected_priors, atol=1e-6)

    settings = imported.config().detect.to_dict()
    detect = jax.jit(functools.partial(detection.detect, variances=spec.variances, **settings))
    found = detect(ours_loc, ours_conf, jax.numpy.asarray(prior_boxes(spec)))
    expected = reference(loc[0], conf[0], expected_priors)
    count = int(np.sum(found.labels[0] > 0))
    assert len(expected) == count > 50
    np.testing.assert_allclose(
        found.scores[0, :count], [score for _, score, _ in expected], atol=1e-4
    )

    def in_order(labels, scores, boxes):  # neighbours of nearly one score may change places
        rows = np.column_stack([labels, np.round(scores, 3), boxes])
        return rows[np.lexsort(np.round(rows, 2).T)]

    theirs = [np.array(column) for column in zip(*expected, strict=True)]
    ours = [np.asarray(a)[0, :count] for a in (found.labels, found.scores, found.boxes)]
    np.testing.assert_allclose(in_order(*ours), in_order(*theirs), atol=2e-3)


def test_ssd_pytorch():
    rgb = picture(300)
    theirs_in = to_torch(rgb - [123, 117, 104])
    network = peers_torch.randomise(peers_torch.SsdPytorch(300, 21), theirs_in, background=0)
    priors = peers_detection.priors(300, STEPS[300], VOC300, clip="center")
    imported = from_ssd_pytorch(state_of(network))
    check(imported, network, theirs_in, rgb, 300, peers_detection.ssd_pytorch, priors)


def test_lufficc_512():
    rgb = picture(512)
    theirs_in = to_torch(rgb - [123, 117, 104])
    network = peers_torch.randomise(peers_torch.Lufficc(512, 21), theirs_in, background=0)
    priors = peers_detection.priors(512, STEPS[512], LUFFICC512, clip="center")
    imported = from_lufficc(state_of(network))
    check(imported, network, theirs_in, rgb, 512, peers_detection.lufficc, priors)


def test_torchvision():
    rgb = picture(300)
    theirs_in = to_torch((rgb / 255 - [0.48235, 0.45882, 0.40784]) / (1 / 255))
    network = peers_torch.randomise(peers_torch.Torchvision(91), theirs_in, background=0)
    sizes = [300 * scale for scale in TORCHVISION_SCALES]
    priors = peers_detection.priors(300, STEPS[300], sizes, clip="size")
    imported = from_torchvision(state_of(network))
    assert imported.class_names[:12] == (
        *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
        *("traffic light", "fire hydrant", "N/A 12"),
    )
    check(imported, network, theirs_in, rgb, 300, peers_detection.torchvision, priors)


def test_mmdetection():
    rgb = picture(300)
    theirs_in = to_torch(rgb - [123.675, 116.28, 103.53])
    network = peers_torch.randomise(peers_torch.Mmdetection(300, 21), theirs_in, background=20)
    priors = peers_detection.priors(300, STEPS[300], VOC300, whole=True)
    imported = from_mmdetection(state_of(network))
    reference = peers_detection.mmdetection
    check(imported, network, theirs_in, rgb, 300, reference, priors, background=20)


def test_caffe():
    rgb = picture(300)
    theirs_in = to_torch(rgb[..., ::-1] - np.array([104, 117, 123]))
    network = peers_torch.randomise(peers_torch.Caffe(300, 21), theirs_in, background=0)
    priors = peers_detection.priors(300, STEPS[300], VOC300, whole=True)
    imported = from_caffe(network.blobs())
    check(imported, network, theirs_in, rgb, 300, peers_detection.caffe, priors)
