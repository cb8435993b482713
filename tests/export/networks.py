"""Small detectors that find much on any picture, and the pictures."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ssd_jax import config as config_lib
from ssd_jax.data import load_dataset
from ssd_jax.data.images import decode_image, place_on_canvas
from ssd_jax.detector import Detector
from ssd_jax.engine import JaxEngine
from ssd_jax.recipe import build_model, build_stages

SAMPLE = Path(__file__).parents[2] / "../shared/data/voc2007_sample/VOCdevkit/VOC2007/JPEGImages"
CLASS_NAMES = ("circle", "square", "triangle", "star", "ring", "cross")  # of `shapes`


def normed_config():
    """Batch norm everywhere, the original's detection; more than 100 boxes pass NMS."""
    config = config_lib.base()
    config.data.canvas = 160
    config.model.size = 96
    config.model.width = 0.125
    config.model.batch_norm = True
    config.model.head_batch_norm = True
    config.detect.max_detections = 100
    return config


def plain_config():
    """No batch norm, another program's ways, more boxes of a class than may enter NMS."""
    config = normed_config()
    config.model.batch_norm = config.model.head_batch_norm = False
    config.model.std = (58.395, 57.12, 57.375)
    config.priors.clip = "center_form"
    config.detect.clip = "before"
    config.detect.pre_nms_top_k = 30
    config.detect.score_threshold = 0.02
    return config


def load_pictures(shapes_folder: str) -> list[np.ndarray]:
    """Three of `shapes`, and three of VOC2007 where they are there."""
    config = normed_config()
    config.data.kind = "shapes/small"
    config.data.data_dir = shapes_folder
    source = load_dataset(config.data, "train[:3]").source
    files = [(source[row]["image"], source[row]["name"]) for row in range(3)]
    files += [(path.read_bytes(), path.name) for path in sorted(SAMPLE.glob("*.jpg"))[:3]]
    return [decode_image(*file) for file in files]


def spread_detector(config, pictures: list[np.ndarray]) -> Detector:
    """Random weights by which activations keep their size and scores spread over these pictures."""
    model = build_model(config, CLASS_NAMES)
    placed = [place_on_canvas(picture, config.data.canvas) for picture in pictures]
    canvases = jnp.array([canvas for canvas, _ in placed])
    inputs = build_stages(config, model).preprocess(
        canvases, jnp.array([size for _, size in placed], jnp.int32)
    )
    variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
    random = np.random.default_rng(0)

    def scatter(path, leaf):
        """He's kernels; norms and biases that nothing can do without."""
        name, shape = path[-1].key, leaf.shape
        if name == "kernel":
            return random.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape).astype(np.float32)
        if name in ("scale", "var"):
            return random.uniform(0.7, 1.4, shape).astype(np.float32)
        return random.normal(0, 0.1, shape).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(scatter, variables)
    loc, conf = jax.jit(model.apply)(variables, inputs)
    heads = variables["params"]["heads"]
    for level in range(len(model.priors.feature_maps)):
        for kind, size, outputs in (("loc", 1.0, loc), ("conf", 1.5, conf)):
            last = heads[f"{kind}_{level}"]
            spread = "kernel"
            if model.head_batch_norm:
                last, spread = heads[f"{kind}_{level}_bn"], "scale"
            last[spread] = last[spread] * np.float32(size / np.std(outputs))
        last["bias"].reshape(-1, model.num_classes)[:, 0] += 4.0  # of the class head
    return Detector(JaxEngine(config, CLASS_NAMES, variables), batch_size=4)


def assert_same_detections(ours, expected, *, scores=1e-4, pixels=0.05):
    """Each detection of one is one of the other: class, score and box.

    The order of two scores that differ by less than rounding may change, and with it which is the
    last of `max_detections`: those within rounding of the last are not looked for.
    """
    assert len(expected.scores) == len(ours.scores) > 0
    lowest = expected.scores[-1] + scores
    left = list(range(len(ours.scores)))
    for box, score, label in zip(expected.boxes, expected.scores, expected.labels, strict=True):
        same = [
            row
            for row in left
            if ours.labels[row] == label
            and abs(ours.scores[row] - score) < scores
            and np.abs(ours.boxes[row] - box).max() < pixels
        ]
        assert same or score < lowest, f"no detection of class {label}, score {score} at {box}"
        if same:
            left.remove(same[0])
