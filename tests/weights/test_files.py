import itertools
import pickle
import struct

import numpy as np
import pytest

from ssd_jax.weights import files, names
from ssd_jax.weights.caffe_file import NetParameter, prior_boxes_of, read_caffemodel, read_net
from ssd_jax.weights.files import read_weights
from tests.weights.states import blobs, state


def varint(number):
    encoded = b""
    while number > 127:
        encoded += bytes([number & 127 | 128])
        number >>= 7
    return encoded + bytes([number])


def field(number, content):
    """One field of a protobuf message: an int as varint, bytes with their length."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def floats(values):
    return struct.pack(f"<{len(values)}f", *values)


def blob(values, *shape):
    packed = b"".join(varint(side) for side in shape)
    return field(5, floats(values)) + field(7, field(1, packed))


def layer(name, *blobs):
    return field(
        100, field(1, name) + field(2, b"Convolution") + b"".join(field(7, b) for b in blobs)
    )


def test_a_caffemodel_byte_by_byte(tmp_path):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(
        field(1, b"a net")
        + layer(b"conv1", blob(range(6), 1, 2, 3, 1), blob([7.5], 1))
        + layer(b"relu1")
    )
    blobs = read_caffemodel(path)
    assert blobs.keys() == {"conv1"}
    np.testing.assert_array_equal(blobs["conv1"][0], np.arange(6.0).reshape(1, 2, 3, 1))
    np.testing.assert_array_equal(blobs["conv1"][1], [7.5])


def test_an_old_caffemodel_byte_by_byte(tmp_path):
    """V1 layers, sides as four fields, numbers one by one."""
    one_by_one = b"".join(varint(5 << 3 | 5) + floats([v]) for v in (1.0, 2.0))
    old = b"".join(field(n, side) for n, side in enumerate((1, 1, 1, 2), start=1)) + one_by_one
    path = tmp_path / "old.caffemodel"
    path.write_bytes(field(2, field(2, b"data") + field(4, b"fc") + field(5, 14) + field(6, old)))
    np.testing.assert_array_equal(read_caffemodel(path)["fc"][0], [[[[1.0, 2.0]]]])


def prior(*numbers: tuple[int, float], flags: bytes = b"") -> bytes:
    """A PriorBox layer: field's number and value of its floats, and fields of other types."""
    values = b"".join(varint(n << 3 | 5) + floats([value]) for n, value in numbers)
    return field(100, field(1, b"p") + field(2, b"PriorBox") + field(203, values + flags))


def test_priors_are_those_of_the_file(tmp_path):
    path = tmp_path / "net.caffemodel"
    variances = [(6, v) for v in (0.1, 0.1, 0.2, 0.2)]
    large = prior((1, 76.8), (2, 153.6), (3, 2.0), (3, 4.0), (10, 16.0), *variances)
    path.write_bytes(large + prior((1, 35.84), (2, 76.8), (3, 2.0), *variances))
    boxes = prior_boxes_of(read_net(path))
    assert boxes.sizes == (35.0, 76.0, 153.0)
    assert boxes.aspect_ratios == ((2.0,), (2.0, 4.0))
    assert boxes.steps == (None, (16.0, 16.0))
    assert boxes.variances == (0.1, 0.2)
    path.write_bytes(prior((1, 35.84), (2, 76.8)))
    assert prior_boxes_of(read_net(path)).variances == (0.1, 0.1)  # Caffe's default
    path.write_bytes(layer(b"conv1", blob([1.0], 1)))
    assert prior_boxes_of(read_net(path)) is None


VOC_SIZES = (30, 60, 111, 162, 213, 264, 315)


@pytest.mark.parametrize(
    ("sizes", "steps", "message"),
    [
        (VOC_SIZES, [(10, s) for s in (8, 16, 32, 64, 100, 300)], None),
        (VOC_SIZES, [], r"no step, so Caffe's is \(7\.89\d*, 7\.89\d*\), not \(8\.0, 8\.0\)"),
        ((35, 76, 153, 230, 307, 384, 460, 537), [], None),
        (VOC_SIZES, [(11, 4)], r"a step of \(4\.0, 0\.0\), not \(8\.0, 8\.0\)"),
    ],
    ids=["ssd300", "ssd300 without", "ssd512 without", "step_h alone"],
)
def test_steps_have_to_be_those_of_the_network(tmp_path, monkeypatch, sizes, steps, message):
    of_network = blobs(state(names.caffe, 300 if len(sizes) == 7 else 512))
    monkeypatch.setattr(files, "blobs_of", lambda net, path: of_network)
    path = tmp_path / "net.caffemodel"
    variances = [(6, v) for v in (0.1, 0.1, 0.2, 0.2)]
    edges = list(itertools.pairwise(sizes))
    steps = [[step] for step in steps] or [[]] * len(edges)
    layers = [
        prior((1, low), (2, high), (3, 2.0), *step, *variances)
        for (low, high), step in zip(edges, steps * (len(edges) // len(steps)), strict=True)
    ]
    path.write_bytes(b"".join(layers))
    if message is None:
        assert read_weights(path).priors.min_sizes == sizes[:-1]
    else:
        with pytest.raises(ValueError, match=rf"caffemodel: its PriorBox layers have {message}"):
            read_weights(path)


@pytest.mark.parametrize(
    ("numbers", "flags", "what"),
    [
        ([], field(5, 1), "clip"),
        ([], field(4, 0), "flip"),
        ([(1, 50.0)], b"", "min_size"),
        ([(6, 0.1), (6, 0.2), (6, 0.1), (6, 0.2)], b"", "variance"),
        ([(13, 0.25)], b"", "offset"),
    ],
)
def test_priors_of_another_kind_are_refused(tmp_path, numbers, flags, what):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(prior((1, 35.0), (2, 76.0), *numbers, flags=flags))
    with pytest.raises(ValueError, match=rf"layer p has a prior_box_param\.{what} that"):
        prior_boxes_of(read_net(path))


@pytest.mark.parametrize(
    ("edges", "variances", "message"),
    [
        (((30, 45), (60, 111)), (0.1, 0.1), r"max_size of 45 and the next min_size of 60"),
        (((30, 60), (60, 111)), (0.1, 0.2), "differ in their variances"),
    ],
)
def test_priors_that_do_not_follow_each_other_are_refused(tmp_path, edges, variances, message):
    path = tmp_path / "net.caffemodel"
    layers = [
        prior((1, low), (2, high), (6, variance))
        for (low, high), variance in zip(edges, variances, strict=True)
    ]
    path.write_bytes(b"".join(layers))
    with pytest.raises(ValueError, match=message):
        prior_boxes_of(read_net(path))


def test_a_file_that_states_its_priors_need_not_be_told_whose_they_are(tmp_path, monkeypatch):
    of_network = blobs(state(names.caffe, 300, 3))
    monkeypatch.setattr(files, "blobs_of", lambda net, path: of_network)
    path = tmp_path / "net.caffemodel"
    edges = itertools.pairwise((20, 60, 111, 162, 213, 264, 315))
    layers = [
        prior((1, low), (2, high), (3, 2.0), (10, step))
        for (low, high), step in zip(edges, (8, 16, 32, 64, 100, 300), strict=True)
    ]
    path.write_bytes(b"".join(layers))
    imported = read_weights(path, class_names=("a", "b"))
    assert imported.priors.min_sizes == (20, 60, 111, 162, 213, 264)
    assert imported.class_names == ("a", "b")


def test_blobs_not_of_their_shape_are_named(tmp_path):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(layer(b"conv1", blob([1.0, 2.0], 3)))
    with pytest.raises(ValueError, match=r"net\.caffemodel: conv1 has 2 numbers for shape \[3\]"):
        read_caffemodel(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a model at all", "no whole .caffemodel"),
        (NetParameter(name="empty").SerializeToString(), "no layer in it has blobs"),
        (b"\x89HDF\r\n\x1a\n and then nothing", "no whole file of Keras weights"),
        (b"PK\x03\x04 cut short", "no whole file of PyTorch|is refused"),
    ],
    ids=["text", "empty", "h5", "pth"],
)
def test_broken_files_are_named(tmp_path, content, message):
    pytest.importorskip("torch", reason="reads .pth, an optional extra")
    path = tmp_path / "weights"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"weights.*({message})"):
        read_weights(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file: .*nothing"):
        read_weights(tmp_path / "nothing.pth")


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, zipped):
    torch = pytest.importorskip("torch", reason="reads .pth, an optional extra")
    path, sprung = tmp_path / "evil.pth", tmp_path / "sprung"
    content = {"vgg.0.weight": torch.zeros(1), "more": Trap(sprung)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"evil\.pth is refused: .* could run code"):
        read_weights(path)
    path.write_bytes(pickle.dumps(Trap(sprung), protocol=2))
    with pytest.raises(ValueError, match=r"evil\.pth"):
        read_weights(path)
    assert not sprung.exists()


def test_unknown_states_are_named_with_what_was_expected(tmp_path):
    torch = pytest.importorskip("torch", reason="reads .pth, an optional extra")
    path = tmp_path / "resnet.pth"
    torch.save({"state_dict": {"layer1.weight": torch.zeros(1)}}, path)
    with pytest.raises(
        ValueError, match=r"resnet\.pth: names like layer1\.weight .* vgg\.0\.weight"
    ):
        read_weights(path)
    torch.save([torch.zeros(1)], path)
    with pytest.raises(ValueError, match=r"resnet\.pth holds no tensors by name but a list"):
        read_weights(path)
    old = {"backbone.features.0.weight": 0, "bbox_head.cls_convs.0.weight": 0}
    torch.save(dict.fromkeys(old, torch.zeros(1)), path)
    with pytest.raises(ValueError, match=r"mmdetection before 2\.14: .*upgrade_ssd_version"):
        read_weights(path)


def test_a_pytorch_that_files_can_make_run_code_is_refused(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch", reason="reads .pth, an optional extra")
    path = tmp_path / "some.pth"
    torch.save({"0.weight": torch.zeros(1)}, path)
    monkeypatch.setattr(torch, "__version__", "2.5.1+cu121")
    with pytest.raises(
        ValueError, match=r"PyTorch 2\.5\.1\+cu121 can be made to run code .*>=2\.6"
    ):
        read_weights(path)


def test_without_pytorch_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    path = tmp_path / "some.pth"
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=r"needs PyTorch: pip install torch"):
        read_weights(path)
