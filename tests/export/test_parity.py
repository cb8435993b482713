"""Every format and runtime against the checkpoint, on pictures of `shapes` and of VOC."""

import numpy as np
import pytest

from ssd_jax import export
from ssd_jax.detector import Detector
from ssd_jax.engine import JaxEngine
from ssd_jax.export.onnx_runtimes import load_openvino
from ssd_jax.export.write import write
from tests.export.networks import assert_same_detections, plain_config

RUNTIMES = ["jax", "onnxruntime", "openvino"]


@pytest.fixture(scope="module")
def written(any_detector, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for name in ("stablehlo", "onnx"):
        write(any_detector, folder / name, format=name)
        write(any_detector, folder / f"{name}_by_4", format=name, batch=4)
    return folder


def load(folder, runtime, suffix=""):
    if runtime == "jax":
        return export.load(folder / f"stablehlo{suffix}")
    pytest.importorskip(runtime)
    if runtime == "openvino":  # on a CPU that has bfloat16 it would take that
        return load_openvino(folder / f"onnx{suffix}", precision="f32")
    return export.load(folder / f"onnx{suffix}", runtime)


@pytest.mark.parametrize("suffix", ["", "_by_4"], ids=["any batch", "batches of 4"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_same_detections(any_detector, pictures, written, runtime, suffix):
    exported = Detector(load(written, runtime, suffix), batch_size=4)
    assert exported.class_names == any_detector.class_names
    expected = any_detector(pictures, score_threshold=0.0)
    for ours, theirs in zip(exported(pictures, score_threshold=0.0), expected, strict=True):
        assert len(theirs.scores) > 50
        assert np.ptp(theirs.scores) > 0.2
        assert_same_detections(ours, theirs)
    alone = exported(pictures[0], score_threshold=0.0)
    assert_same_detections(alone, expected[0])


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_picture_needs_no_canvas(any_detector, pictures, written, runtime):
    engine = load(written, runtime)
    picture = pictures[0][:70, :113]
    assert max(picture.shape) < any_detector.engine.canvas
    sizes = np.array([picture.shape[:2]], np.int32)
    boxes, scores, labels = engine(picture[None], sizes)
    expected = any_detector(picture, score_threshold=0.0)
    kept = labels[0] > 0
    assert kept.sum() == len(expected.scores)
    np.testing.assert_allclose(scores[0][kept], expected.scores, atol=1e-4)
    height, width = picture.shape[:2]
    np.testing.assert_allclose(
        boxes[0][kept] * [width, height, width, height], expected.boxes, atol=0.05
    )


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_nothing_found_is_all_padding(detector, pictures, tmp_path, runtime):
    engine = detector.engine
    config = engine.config.copy_and_resolve_references()
    config.detect.score_threshold = 1.0
    sure = Detector(JaxEngine(config, engine.class_names, engine.variables))
    write(sure, tmp_path / "stablehlo", format="stablehlo")
    write(sure, tmp_path / "onnx", format="onnx")
    found = load(tmp_path, runtime)(
        np.stack([np.zeros((90, 90, 3), np.uint8)] * 2), np.array([[90, 90]] * 2, np.int32)
    )
    for output in found:
        assert output.shape[:2] == (2, 100)
        assert not output.any()


@pytest.mark.parametrize("any_detector", [plain_config], indirect=True)
def test_the_limit_of_a_class_is_reached(pictures, any_detector):
    """Else the tests above say nothing of it: a class has more boxes than may enter NMS."""
    engine = any_detector.engine
    unlimited = engine.config.copy_and_resolve_references()
    unlimited.detect.pre_nms_top_k = 400
    other = Detector(JaxEngine(unlimited, engine.class_names, engine.variables))
    ours, theirs = (d(pictures[0], score_threshold=0.0) for d in (any_detector, other))
    assert not np.array_equal(ours.scores, theirs.scores)
