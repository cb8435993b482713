"""The files themselves: what is in them, who reads them, and what is said of those that are not."""

import io
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import flax.linen as nn
import numpy as np
import pytest

from ssd_jax import __version__, export
from ssd_jax.detector import Detector
from ssd_jax.engine import JaxEngine
from ssd_jax.export.metadata import FORMAT, KEY, Metadata
from ssd_jax.export.write import write
from tests.export.networks import CLASS_NAMES

onnx = pytest.importorskip("onnx")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def files(detector, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write(detector, folder / "model.onnx", format="onnx", batch=2)
    write(detector, folder / "model.stablehlo", format="stablehlo", batch=2)
    return folder


def run_python(*arguments, cwd=None, code=0, **environment):
    """What a program prints that exits so; of one that fails what it tells."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", **environment}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd or ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def test_the_metadata_of_both_formats_say_how_to_use_them(files):
    with zipfile.ZipFile(files / "model.stablehlo") as archive:
        assert {name.rpartition(".")[2] for name in archive.namelist()} == {"json", "jax", "npz"}
        texts = [archive.read("metadata.json").decode()]
    model = onnx.load(files / "model.onnx")
    texts += [entry.value for entry in model.metadata_props if entry.key == KEY]
    assert len(texts) == 2
    for text in texts:
        assert json.loads(text) == {
            "format": FORMAT,
            "class_names": list(CLASS_NAMES),
            "batch": 2,
            "canvas": 160,
            "image_size": [96, 96],
            "mean": [123.0, 117.0, 104.0],
            "std": [1.0, 1.0, 1.0],
            "detect": {
                "clip": "after",
                "iou_threshold": 0.45,
                "max_detections": 100,
                "pre_nms_top_k": 400,
                "score_threshold": 0.01,
            },
            "version": __version__,
        }


def test_convolutions_are_channels_first_without_transposes(files):
    """One turn of the picture, one of a table of weights, and small ones of boxes after them."""
    nodes = onnx.load(files / "model.onnx").graph.node
    kinds = [node.op_type for node in nodes]
    convolutions = [place for place, kind in enumerate(kinds) if kind == "Conv"]
    assert len(convolutions) == 15 + 2 * 2 + 4  # VGG, the extras of 96 pixels, a head a level
    assert "Transpose" not in kinds[convolutions[0] : convolutions[-1]]
    assert kinds[: convolutions[0]].count("Transpose") == 2


@pytest.mark.parametrize(("name", "runtime"), [("model.stablehlo", "jax"), ("model.onnx", None)])
def test_it_runs_without_the_code_of_the_network(files, name, runtime):
    script = f"""
import sys
for module in ("model", "engine", "recipe", "priors", "detector", "training"):
    sys.modules["ssd_jax." + module] = None
import numpy as np
import ssd_jax
engine = ssd_jax.export.load({str(files / name)!r}, {runtime!r})
print(engine(np.zeros((3, 80, 90, 3), np.uint8), np.full((3, 2), 80, np.int32)).boxes.shape)
"""
    assert run_python("-c", script).strip() == "(3, 100, 4)"


def snippet(start):
    text = (ROOT / "docs" / "export.md").read_text()
    found = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (wanted,) = [code for code in found if code.startswith(start)]
    return wanted


def test_the_docs_onnxruntime_script_finds_what_the_detector_finds(
    files, detector, pictures, tmp_path
):
    pytest.importorskip("onnxruntime")
    script = snippet("import json")
    assert len(script.splitlines()) <= 28
    write(detector, tmp_path / "model.onnx", format="onnx")
    paths = []
    large = cv2.resize(pictures[0], (1400, 1100), interpolation=cv2.INTER_CUBIC)
    for number, picture in enumerate([*pictures[:3], large]):
        paths.append(tmp_path / f"{number}.png")
        cv2.imwrite(str(paths[-1]), picture[..., ::-1])
    (tmp_path / "script.py").write_text(script)
    printed = run_python("script.py", "model.onnx", *paths, cwd=tmp_path, PYTHONPATH="")
    expected = []
    for path, result in zip(paths, detector(paths), strict=True):
        for name, score, box in zip(result.names, result.scores, result.boxes, strict=True):
            expected.append((str(path), name, score, *box))
    lines = [line.split() for line in printed.splitlines()]
    assert [line[:2] for line in lines] == [[*row[:2]] for row in expected]
    numbers = np.array([line[2:] for line in lines], float)
    np.testing.assert_allclose(numbers, [row[2:] for row in expected], atol=0.11)
    assert len(expected) > 10


def test_the_docs_jax_script_runs(files, tmp_path):
    (tmp_path / "script.py").write_text(snippet("import io"))
    printed = run_python("script.py", files / "model.stablehlo", cwd=tmp_path, PYTHONPATH="")
    assert printed.split() == "(2, 100, 4) (2, 100) (2, 100)".split()


def test_the_command_lines(workdir, detector, pictures, tmp_path):
    """export.py, then detect.py and evaluate.py on the file it wrote."""
    pytest.importorskip("onnxruntime")
    printed = run_python("export.py", "--ckpt", workdir, "--format", "onnx", "--batch", "dynamic")
    model = workdir / "model.onnx"
    assert f"{model}, " in printed
    cv2.imwrite(str(tmp_path / "one.png"), pictures[0][..., ::-1])
    run_python("detect.py", "--model", model, tmp_path / "one.png", "--out", tmp_path / "found")
    listed = json.loads((tmp_path / "found" / "detections.json").read_text())
    found = [box["class"] for box in listed["images"][0]["detections"]]
    assert found == detector(pictures[0]).names
    printed = run_python("evaluate.py", "--ckpt", workdir, "--model", model, "--metrics", "voc07")
    results = workdir / "evaluation" / "train[:6]-model.onnx-default"
    metrics = json.loads((results / "metrics.json").read_text())
    assert (metrics["model"], metrics["step"]) == ("model.onnx", None)
    assert "model.onnx  mAP" in printed and "step" not in printed
    rows = json.loads((results / "detections.json").read_text())
    truth = json.loads((results / "ground_truth.json").read_text())
    first = truth["images"][0]["id"]
    scores = [row["score"] for row in rows if row["image_id"] == first]
    expected = detector(pictures[0], score_threshold=0.0).scores
    np.testing.assert_allclose(np.sort(scores)[::-1], expected, atol=1e-4)

    engine = JaxEngine(detector.engine.config, tuple("abcdef"), detector.engine.variables)
    write(Detector(engine), tmp_path / "others.onnx", format="onnx")
    others = tmp_path / "others.onnx"
    told = run_python("evaluate.py", "--ckpt", workdir, "--model", others, code=1)
    assert "others.onnx has the classes a, b, c, d, e, f, the checkpoint circle, " in told


def test_the_docs_int8_script_keeps_the_metadata(detector, pictures, tmp_path):
    pytest.importorskip("onnxruntime")
    write(detector, tmp_path / "model.onnx", format="onnx")
    (tmp_path / "pictures").mkdir()
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(tmp_path / "pictures" / f"{number}.jpg"), picture[..., ::-1])
    (tmp_path / "script.py").write_text(snippet("from pathlib"))
    run_python("script.py", cwd=tmp_path, PYTHONPATH=str(ROOT))
    small = Detector.from_file(tmp_path / "int8.onnx", runtime="onnxruntime")
    assert small.class_names == CLASS_NAMES
    assert (tmp_path / "int8.onnx").stat().st_size < 0.5 * (tmp_path / "model.onnx").stat().st_size


@pytest.mark.parametrize(
    ("images", "sizes", "message"),
    [
        (np.zeros((1, 8, 8, 3), np.float32), [[8, 8]], r"float32 \[1, 8, 8, 3\]: give uint8"),
        (np.zeros((8, 8, 3), np.uint8), [[8, 8]], r"uint8 \[8, 8, 3\]: give uint8 \[B, H, W, 3\]"),
        (np.zeros((1, 3, 8, 8), np.uint8), [[8, 8]], r"uint8 \[1, 3, 8, 8\]"),
        (np.zeros((0, 8, 8, 3), np.uint8), np.zeros((0, 2)), "no image"),
        (np.zeros((2, 8, 8, 3), np.uint8), [[8, 8]], r"sizes are int32 \[1, 2\].* of the 2 images"),
        (np.zeros((1, 8, 8, 3), np.uint8), [[8, 9]], r"\[\[8, 9\]\].* at most \[8, 8\]"),
        (np.zeros((1, 8, 8, 3), np.uint8), [[0, 8]], "at least 1"),
    ],
)
def test_wrong_inputs_say_what_is_wrong(files, images, sizes, message):
    engine = export.load(files / "model.stablehlo")
    with pytest.raises(ValueError, match=message):
        engine(images, np.asarray(sizes, np.int32))


def zipped(**members):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return packed.getvalue()


def test_other_files_are_refused(files, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.onnx"):
        export.load(tmp_path / "nothing.onnx")
    (tmp_path / "weights.zip").write_bytes(zipped(a="b"))
    with pytest.raises(ValueError, match=r"weights\.zip is a zip, but none .*: it holds a"):
        export.load(tmp_path / "weights.zip")
    for runtime in ("onnxruntime", "openvino"):
        pytest.importorskip(runtime)
        (tmp_path / "text.onnx").write_text("nothing of the kind")
        with pytest.raises(ValueError, match=r"text\.onnx is no ONNX file"):
            export.load(tmp_path / "text.onnx", runtime)
        model = onnx.load(files / "model.onnx")
        del model.metadata_props[:]
        onnx.save(model, tmp_path / "other.onnx")
        with pytest.raises(ValueError, match=r"other\.onnx is an ONNX file, but none"):
            export.load(tmp_path / "other.onnx", runtime)
    with pytest.raises(ValueError, match=r"a zip.*runs by jax, not openvino"):
        export.load(files / "model.stablehlo", "openvino")
    with pytest.raises(ValueError, match="runs by onnxruntime or openvino, not jax"):
        export.load(files / "model.onnx", "jax")


def test_broken_files_are_told(files, tmp_path):
    whole = (files / "model.stablehlo").read_bytes()
    path = tmp_path / "cut.stablehlo"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.stablehlo is no whole zip"):
        export.load(path)
    place = whole.index(b"weights.npz") + 5000
    path.write_bytes(whole[:place] + b"other" + whole[place + 5 :])
    with pytest.raises(ValueError, match=r"cut\.stablehlo is no whole zip: Bad CRC-32"):
        export.load(path)


def test_broken_onnx_files_are_told(files, tmp_path):
    pytest.importorskip("onnxruntime")
    path = tmp_path / "cut.onnx"
    whole = onnx.load(files / "model.onnx")
    without_weights = onnx.ModelProto.FromString(whole.SerializeToString())
    del without_weights.graph.initializer[:]
    for content in (b"", without_weights.SerializeToString()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"cut\.onnx is no ONNX file"):
            export.load(path, "onnxruntime")


@pytest.mark.parametrize("format", ["onnx", "stablehlo"])
def test_a_file_is_replaced_only_by_a_whole_one(detector, tmp_path, monkeypatch, format):
    path = tmp_path / "new" / "model"
    write(detector, path, format=format)
    path.write_text("of before")

    def save(_, half):
        Path(half).write_text("a part")
        raise OSError("no space left")

    def writestr(*_):
        raise OSError("no space left")

    with monkeypatch.context() as disk:
        disk.setattr(onnx, "save", save)
        disk.setattr(zipfile.ZipFile, "writestr", writestr)
        with pytest.raises(OSError, match="no space left"):
            write(detector, path, format=format)
    assert path.read_text() == "of before"
    assert [each.name for each in path.parent.iterdir()] == ["model"]
    write(detector, path, format=format)
    assert [each.name for each in path.parent.iterdir()] == ["model"]
    with pytest.raises(ValueError, match="new is a folder: give the name of a file"):
        write(detector, path.parent, format=format)
    assert export.load(path).class_names == CLASS_NAMES


def test_another_format_of_file_names_the_version(files):
    with zipfile.ZipFile(files / "model.stablehlo") as archive:
        fields = json.loads(archive.read("metadata.json"))
    fields |= {"format": 2, "version": "9.1"}
    with pytest.raises(ValueError, match=r"m has format 2 of ssd_jax 9\.1, .* reads format 1"):
        Metadata.from_json(json.dumps(fields), "m")


@pytest.mark.parametrize("name", ["onnx", "onnxruntime", "openvino"])
def test_a_missing_extra_is_named(files, detector, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=rf"pip install {name}"):
        if name == "onnx":
            write(detector, tmp_path / "model.onnx", format="onnx")
        else:
            export.load(files / "model.onnx", name)


def test_what_cannot_be_written_is_refused(files, detector, tmp_path):
    with pytest.raises(ValueError, match="batch of 0"):
        write(detector, tmp_path / "model", format="onnx", batch=0)
    with pytest.raises(ValueError, match="no format 'tflite'"):
        write(detector, tmp_path / "model", format="tflite")
    with pytest.raises(ValueError, match="export the checkpoint"):
        write(Detector.from_file(files / "model.stablehlo"), tmp_path / "model", format="onnx")
    own = detector.engine.model.clone(backbone=nn.Dense(1))
    engine = JaxEngine(detector.engine.config, CLASS_NAMES, detector.engine.variables, model=own)
    with pytest.raises(ValueError, match="not on Dense: take the format stablehlo"):
        write(Detector(engine), tmp_path / "model", format="onnx")
    assert not list(tmp_path.iterdir())
