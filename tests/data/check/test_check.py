"""Datasets with every fault there is, looked over by the command that users run."""

import io
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from ssd_jax import config as config_lib
from ssd_jax.data.check.__main__ import check
from ssd_jax.data.check.problem import KINDS
from ssd_jax.recipe import build_priors
from ssd_jax.training.inputs import load_splits
from tests.data import make

ROOT = Path(__file__).parents[3]
BCCD = ROOT.parent / "shared/data/bccd"


def config_of(root: Path, **data) -> config_lib.ConfigDict:
    config = config_lib.base()
    config.data.update({"kind": "voc_folder", "root": str(root), "train": "train", "eval": "test"})
    config.data.update(data)
    return config


def run(config, out: Path, *, quick: bool = False) -> tuple[dict[str, list[str]], str]:
    """(files and texts of the problems by kind, what was printed)."""
    console = Console(file=io.StringIO(), width=200)
    kinds: dict[str, list[str]] = {}
    for problem in check(config, out, console, quick=quick):
        kinds.setdefault(problem.kind, []).append(f"{Path(problem.file).name}: {problem.text}")
    return kinds, console.file.getvalue()


GOOD = make.xml_object("cat", (10, 10, 50, 40))


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """A folder whose images are named after what is wrong with them."""
    objects = {
        "fine": [GOOD],
        "also_fine": [GOOD, make.xml_object("dog", (1, 1, 80, 60), difficult=True)],
        "inverted": [make.xml_object("cat", (50, 10, 10, 40))],
        "flat": [GOOD, make.xml_object("cat", (10, 10, 10, 40))],
        "outside": [make.xml_object("cat", (90, 10, 120, 40)), GOOD],
        "reaching": [make.xml_object("cat", (10, -5, 50, 40))],
        "unknown": [make.xml_object("bird", (10, 10, 50, 40))],
        "nothing": [],
        "torn": [GOOD],
        "unreadable_xml": [GOOD],
        "sized": [GOOD],
        "turned": [GOOD],
        "copy": [GOOD],
        "tested": [GOOD],
        "tested_copy": [GOOD],
    }
    train = [*objects, "no_image", "no_xml", "fine"]
    tested = ["tested", "tested_copy"]
    root = make.voc_folder(
        tmp_path / "faulty",
        objects,
        {"train": [name for name in train if name not in tested], "test": tested},
    )
    images, xmls = root / "JPEGImages", root / "Annotations"
    (images / "torn.jpg").write_bytes(b"no picture")
    (images / "no_xml.jpg").write_bytes(make.encode(make.picture(60, 80, 98)))
    (xmls / "no_image.xml").write_text(make.xml((60, 80), [GOOD]))
    (xmls / "unreadable_xml.xml").write_text("<annotation><object>")
    (xmls / "sized.xml").write_text(make.xml((30, 40), [make.xml_object("cat", (1, 1, 20, 20))]))
    (xmls / "turned.xml").write_text(make.xml((80, 60), [GOOD]))
    (images / "copy.jpg").write_bytes((images / "fine.jpg").read_bytes())
    (images / "tested_copy.jpg").write_bytes((images / "also_fine.jpg").read_bytes())
    return root


def test_every_fault_is_found_and_named_by_file(faulty: Path, tmp_path: Path):
    kinds, printed = run(config_of(faulty, class_names=("cat", "dog")), tmp_path / "out")
    box = "of an image of 80x60"
    assert kinds == {
        "box inverted": [
            "inverted.xml: object 1 (cat) has its corners exchanged: dropped by training; "
            f"box (50, 10, 10, 40) {box}"
        ],
        "box without area": [
            f"flat.xml: object 2 (cat) has no area: dropped by training; box (10, 10, 10, 40) {box}"
        ],
        "box outside": [
            "outside.xml: object 1 (cat) is wholly outside: dropped by training; "
            f"box (90, 10, 120, 40) {box}",
            "reaching.xml: object 1 (cat) reaches out: clipped by training; "
            f"box (10, -5, 50, 40) {box}",
        ],
        "unknown class": ["unknown.xml: object 1 is a 'bird'"],
        "no objects": ["unknown.xml: background", "nothing.xml: background"],
        "undecodable image": ["torn.jpg: 10 bytes: replace it"],
        "broken annotation": [kinds["broken annotation"][0]],
        "size differs": [
            "sized.xml: annotated as 40x30, the image is 80x60",
            "turned.xml: annotated as 60x80, the image is 80x60 (turned by a quarter)",
        ],
        "image twice in a split": [
            f"copy.jpg: the same content as {faulty / 'JPEGImages/fine.jpg'}"
        ],
        "image in two splits": [
            f"tested_copy.jpg: the same content as {faulty / 'JPEGImages/also_fine.jpg'} of train"
        ],
        "no image": ["no_image: add it, or take it off the list"],
        "no annotation": [
            "no_xml.xml: add it (without objects, if the image has none), or take it off the list"
        ],
        "listed twice": ["train.txt: 'fine'"],
    }
    assert kinds["broken annotation"][0].startswith("unreadable_xml.xml: broken XML")
    for kind in kinds:
        assert kind in printed
    written = (tmp_path / "out/problems.txt").read_text()
    assert f"{faulty / 'Annotations/flat.xml'} (train)\n  warning: box without area" in written
    assert written.count("\n  ") == sum(map(len, kinds.values()))


def test_the_quick_part_decodes_nothing(faulty: Path, tmp_path: Path):
    kinds, _ = run(config_of(faulty, class_names=("cat", "dog")), tmp_path / "out", quick=True)
    decoded = {"undecodable image", "size differs", "image twice in a split", "image in two splits"}
    assert decoded.isdisjoint(kinds)
    assert {"box inverted", "unknown class", "no image", "no annotation"} <= kinds.keys()


def test_a_skipped_image_is_no_error(faulty: Path, tmp_path: Path):
    config = config_of(faulty, class_names=("cat", "dog"), undecodable="skip")
    kinds, _ = run(config, tmp_path / "out")
    assert kinds["skipped image"] == ["torn.jpg: 10 bytes: replace it"]
    assert KINDS["skipped image"] == "warning"


def test_a_missing_list_is_named_with_those_there_are(faulty: Path, tmp_path: Path):
    kinds, _ = run(config_of(faulty, eval="val"), tmp_path / "out", quick=True)
    assert kinds["no list"] == ["val.txt: there are test, train"]


def test_a_list_of_another_encoding_is_named(faulty: Path, tmp_path: Path):
    (faulty / "ImageSets/Main/val.txt").write_bytes("a".encode("utf-16"))
    kinds, _ = run(config_of(faulty, eval="val"), tmp_path / "out", quick=True)
    (text,) = kinds["broken list"]
    assert text.startswith("val.txt: list ") and text.endswith("save it as UTF-8")


def test_coco_faults_are_gathered(tmp_path: Path):
    def annotation(number, image, category, box, **more):
        return {
            "id": number, "image_id": image, "category_id": category, "bbox": box, **more
        }  # fmt: skip

    content = {
        "images": [
            {"id": 7, "file_name": "a.jpg", "height": 60, "width": 80},
            {"id": 8, "file_name": "gone.jpg", "height": 60, "width": 80},
            {"id": 7, "file_name": "again.jpg", "height": 60, "width": 80},
            {"id": 9},
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
        "annotations": [
            annotation(1, 7, 3, [10, 10, 20, 20]),
            annotation(2, 7, 5, [10, 10, 0, 20]),
            annotation(3, 7, 4, [10, 10, 20, 20]),
            annotation(4, 70, 3, [10, 10, 20, 20]),
            annotation(5, 7, 3, [10, 10, 20]),
            annotation(6, 8, 3, [0, 0, 80, 60], iscrowd=1),
        ],
    }
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / "all").mkdir()
    (root / "annotations/instances_all.json").write_text(json.dumps(content))
    (root / "all/a.jpg").write_bytes(make.encode(make.picture(60, 80)))
    config = config_of(root, kind="coco", train="all", eval="all")
    kinds, printed = run(config, tmp_path / "out")
    assert kinds.keys() == {
        "listed twice", "no image", "unknown class", "broken annotation", "box without area"
    }  # fmt: skip
    assert kinds["listed twice"] == ["instances_all.json: image id 7"]
    assert kinds["unknown class"] == ["instances_all.json: annotation 3 is of category 4"]
    assert len(kinds["broken annotation"]) == 3
    assert kinds["no image"] == ["gone.jpg: No such file or directory"]
    assert "1 crowd regions: dropped (data.crowd)" in printed


def write_coco(root: Path, split: str, **sections) -> None:
    """A split of COCO's JSON, with a cat on each image; `sections` replace those of the file."""
    content = {
        "images": [
            {"id": i, "file_name": f"{split}{i}.jpg", "height": 60, "width": 80} for i in range(2)
        ],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [9, 9, 30, 30]} for i in range(2)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    (root / "annotations").mkdir(exist_ok=True)
    (root / split).mkdir()
    for i in range(2):
        data = make.encode(make.picture(60, 80, seed=10 * i + len(split)))
        (root / split / f"{split}{i}.jpg").write_bytes(data)
    (root / f"annotations/{split}.json").write_text(json.dumps(content | sections))


@pytest.mark.parametrize("names", [("cat", "dog", "bird"), ("cat",), ("dog", "cat")])
def test_classes_that_differ_between_the_splits(tmp_path: Path, names: tuple[str, ...]):
    categories = [{"id": k, "name": name} for k, name in enumerate(names, start=1)]
    annotations = [
        {"id": k, "image_id": 0, "category_id": k, "bbox": [9, 9, 30, 30]}
        for k in range(1, len(names) + 1)
    ]
    write_coco(tmp_path, "train")
    write_coco(tmp_path, "test", categories=categories, annotations=annotations)
    config = config_of(tmp_path, kind="coco_json")
    with pytest.raises(ValueError, match=r"config\.data\.train has classes"):
        load_splits(config)
    kinds, printed = run(config, tmp_path / "out")
    met = f"test.json: {', '.join(names)}; those of train are cat, dog"
    assert kinds.pop("classes differ") == [met]
    assert kinds.keys() <= {"no objects"} and KINDS["classes differ"] == "error"
    assert all(name in printed for name in names)


@pytest.mark.parametrize(
    ("sections", "met"),
    [
        ({"annotations": [{"image_id": 0, "category_id": 1, "bbox": [9, 9, 30, 30]}]},
         "entry 0 of annotations has no 'id'"),
        ({"images": [{"id": "a", "file_name": "train0.jpg"}], "annotations": []},
         "entry 0 of images has 'id' 'a', no integer"),
        ({"annotations": [
            {"id": 4, "image_id": 0, "category_id": 1, "bbox": [9, 9, 30, 30], "area": "900"}
         ]}, "annotation 4 has the area '900', no number"),
        ({"categories": [{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}]},
         "category id 1 is there twice"),
        ({"categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}]},
         "the categories 1, 2 are all called 'cat': rename or merge them"),
        ({"annotations": [7]}, "entry 0 of annotations is 7, no object"),
    ],
)  # fmt: skip
def test_what_training_refuses_in_coco_is_an_error(tmp_path: Path, sections: dict, met: str):
    write_coco(tmp_path, "train", **sections)
    config = config_of(tmp_path, kind="coco_json", eval="train")
    with pytest.raises(ValueError, match=re.escape(met)):
        load_splits(config)
    kinds, _ = run(config, tmp_path / "out")
    assert f"train.json: {met}" in kinds["broken annotation"]


def test_what_training_passes_over_in_a_voc_folder_is_no_error(tmp_path: Path):
    names = ["a", "b"]
    root = make.voc_folder(
        tmp_path / "set", {n: [GOOD] for n in names}, {"train": ["a"], "test": ["b"]}
    )
    (root / "Annotations/._a.xml").write_bytes(b"\0\5\x16\7 no XML")
    (root / "JPEGImages/._a.jpg").write_bytes(b"\0\5\x16\7 no picture")
    for suffix in ("jpg", "png"):
        (root / f"JPEGImages/unlisted.{suffix}").write_bytes(b"no picture")
    config = config_of(root)
    assert load_splits(config)[0].class_names == ("cat",)
    kinds, _ = run(config, tmp_path / "out")
    assert not kinds


@pytest.mark.parametrize("class_names", [(), ("cat",)])
def test_a_broken_annotation_of_an_unlisted_image(tmp_path: Path, class_names: tuple[str, ...]):
    root = make.voc_folder(tmp_path / "set", {"a": [GOOD]}, {"train": ["a"], "test": ["a"]})
    (root / "Annotations/unlisted.xml").write_text("<annotation>")
    config = config_of(root, class_names=class_names)
    kinds, _ = run(config, tmp_path / "out")
    if class_names:
        assert load_splits(config) and "broken annotation" not in kinds
    else:
        with pytest.raises(ValueError, match=r"unlisted\.xml: broken XML"):
            load_splits(config)
        assert kinds["broken annotation"][0].startswith("unlisted.xml: broken XML")


def test_classes_of_unlisted_images_count_as_in_training(tmp_path: Path):
    objects = {"a": [GOOD], "unlisted": [make.xml_object("dog", (1, 1, 20, 20))]}
    root = make.voc_folder(tmp_path / "set", objects, {"train": ["a"], "test": ["a"]})
    _, printed = run(config_of(root), tmp_path / "out")
    assert load_splits(config_of(root))[0].class_names == ("cat", "dog")
    assert "no object to train on of dog" in printed


def test_one_coco_file_in_two_parts_and_pictures_in_a_zip(tmp_path: Path):
    images = [
        {"id": i, "file_name": f"{i}.jpg", "height": 60, "width": 80 + (i == 4)} for i in range(6)
    ]
    annotations = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [9, 9, 30, 30]} for i in range(6)
    ]
    annotations.append({"id": 9, "image_id": 5, "category_id": 2, "bbox": [9, 9, 30, 30]})
    categories = [{"id": 1, "name": "cat"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "all.json").write_text(json.dumps(content))
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as pictures:
        for i in range(5):
            pictures.writestr(f"{i}.jpg", make.encode(make.picture(60, 80, seed=i)))
    config = config_of(
        tmp_path, kind="coco_json", train="train", eval="test", annotations="all.json",
        images="pictures.zip", fraction=0.5,
    )  # fmt: skip
    kinds, printed = run(config, tmp_path / "out")
    (line,) = kinds["size differs"]
    assert line.endswith("annotated as 81x60, the image is 80x60")
    assert len(kinds["no image"]) == 1 and "5.jpg" in kinds["no image"][0]
    assert set(kinds["unknown class"]) == {"all.json: annotation 9 is of category 2"}
    for split in ("train", "test"):
        row = next(line for line in printed.splitlines() if line.startswith(f"│ {split}"))
        assert row.split("│")[2].strip() == "3"


@pytest.mark.parametrize(
    ("policy", "kind"), [("error", "undecodable image"), ("skip", "skipped image")]
)
def test_a_picture_damaged_in_a_zip_is_named(tmp_path: Path, policy: str, kind: str):
    images = [{"id": i, "file_name": f"{i}.png", "width": 80, "height": 60} for i in range(2)]
    del images[1]["width"]  # so that the file is asked for it
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    content["annotations"] = [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [9, 9, 30, 30]}]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/all.json").write_text(json.dumps(content))
    packed = tmp_path / "pictures.zip"
    encoded = [make.encode(make.picture(60, 80, seed=i), ".png") for i in range(2)]
    with zipfile.ZipFile(packed, "w") as archive:
        for i, data in enumerate(encoded):
            archive.writestr(f"{i}.png", data)
    data = bytearray(packed.read_bytes())
    data[data.index(encoded[1]) + 50] ^= 1
    packed.write_bytes(data)
    config = config_of(
        tmp_path, kind="coco_json", train="all", eval="all", images="pictures.zip",
        undecodable=policy,
    )  # fmt: skip
    kinds, _ = run(config, tmp_path / "out")
    (line,) = kinds[kind]
    assert line.startswith("1.png: ") and "CRC-32" in line and "fetch the zip again" in line
    kinds, _ = run(config, tmp_path / "out", quick=True)
    assert kinds.keys() == {"no objects"}


def test_figures_of_the_embedded_dataset(shapes_folder: str, small_shapes, tmp_path: Path):
    config = config_of(Path(), kind="shapes/small", data_dir=shapes_folder)
    config.model.size = 128
    config.priors.sizes = (22.0, 38.0, 62.0, 90.0, 116.0, 140.0)
    kinds, printed = run(config, tmp_path / "out")
    assert kinds.keys() == {"no objects"}
    objects = small_shapes["train"].source.objects
    by_class = printed[printed.index("objects by class") :]
    for label, name in enumerate(small_shapes["train"].class_names, start=1):
        row = next(line for line in by_class.splitlines() if name in line)
        assert f" {np.sum(objects.labels == label)} " in row
    assert "the priors fit" in printed and "--config.priors" not in printed


def test_proposed_priors_are_flags_that_the_recipe_takes(tmp_path: Path):
    # Objects of a twentieth of the image, where the paper's smallest prior is a tenth.
    rng = np.random.default_rng(0)
    objects = {
        f"image{i}": [
            make.xml_object("cat", (x, y, x + 20, y + 20))
            for x, y in rng.integers(0, 380, (10, 2)).tolist()
        ]
        for i in range(4)
    }
    root = make.voc_folder(
        tmp_path / "small", objects, {"train": objects, "test": objects}, size=(400, 400)
    )
    config = config_of(root)
    _, printed = run(config, tmp_path / "out", quick=True)
    (line,) = [line for line in printed.splitlines() if line.startswith("--config.priors.sizes=")]
    sizes, ratios = (part.split('"')[1] for part in line.split(" --config.priors.aspect_ratios="))
    config.priors.sizes, config.priors.aspect_ratios = eval(sizes), eval(f"{ratios}")
    spec = build_priors(config)
    assert spec.num_priors == 8732
    assert min(spec.min_sizes) < 25
    _, printed = run(config, tmp_path / "out", quick=True)
    assert "the priors fit: " in printed
    config = config_of(root)
    config.priors.preset = "fitted"
    _, printed = run(config, tmp_path / "out", quick=True)
    assert "the priors fit: " in printed and "the priors fit poorly" not in printed


def test_a_split_without_images_is_an_error(tmp_path: Path):
    root = make.voc_folder(tmp_path / "set", {"a": [GOOD]}, {"train": ["a"], "test": []})
    kinds, _ = run(config_of(root), tmp_path / "out", quick=True)
    assert kinds["empty split"] == [f"{root.name}: it lists no image: choose another split"]


def test_a_folder_that_names_no_class_is_an_error(tmp_path: Path):
    root = make.voc_folder(tmp_path / "set", {"a": []}, {"train": ["a"], "test": ["a"]})
    kinds, _ = run(config_of(root), tmp_path / "out", quick=True)
    assert "no annotation names a class" in kinds["no class"][0]


def test_priors_cannot_be_fitted_to_no_object(tmp_path: Path):
    root = make.voc_folder(tmp_path / "set", {"a": []}, {"train": ["a"], "test": ["a"]})
    config = config_of(root, class_names=("cat",))
    config.priors.preset = "fitted"
    kinds, _ = run(config, tmp_path / "out", quick=True)
    assert KINDS["nothing to fit"] == "error"
    assert "has no object to fit priors to" in kinds["nothing to fit"][0]


def test_the_home_folder_is_found(tmp_path: Path, monkeypatch):
    make.voc_folder(tmp_path / "set", {"a": [GOOD]}, {"train": ["a"], "test": ["a"]})
    monkeypatch.setenv("HOME", str(tmp_path))
    kinds, _ = run(config_of(Path("~/set")), tmp_path / "out", quick=True)
    assert not kinds


def test_the_picture_shows_charts_and_the_images_with_problems(faulty: Path, tmp_path: Path):
    run(config_of(faulty, class_names=("cat", "dog")), tmp_path / "out")
    picture = cv2.imread(str(tmp_path / "out/check.png"))
    assert picture.shape[1] == 2 * 620 and picture.shape[0] > 2 * 420 + 100
    for top in (0, 420):
        for left in (0, 620):
            panel = picture[top : top + 420, left : left + 620].reshape(-1, 3)
            assert len(np.unique(panel, axis=0)) > 10


def run_command(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "ssd_jax.data.check", *arguments],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_exit_code_tells_errors(faulty: Path, tmp_path: Path):
    options = ("--config", "configs/custom_voc.py", "--out", str(tmp_path / "out"))
    done = run_command(*options, f"--config.data.root={faulty}")
    assert done.returncode == 1, done.stderr
    assert "errors" in done.stdout.splitlines()[-1]
    done = run_command(*options, "--config.data.root=nowhere")
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "error: no folder nowhere: set data.root to a folder in VOC's layout"
    )


def test_a_folder_whose_name_is_no_utf_8_is_looked_over(tmp_path: Path):
    root = tmp_path / os.fsdecode(b"caf\xe9")
    make.voc_folder(root, {"a": [GOOD]}, {"train": ["a"], "test": ["a"]})
    options = ("--config", "configs/custom_voc.py", "--out", str(tmp_path / "out"))
    done = run_command(*options, f"--config.data.root={root}")  # one picture in both splits
    assert done.returncode == 1, done.stderr
    assert "1 error" in done.stdout and "caf\\udce9" in done.stdout
    assert "caf\\udce9" in (tmp_path / "out/problems.txt").read_text(encoding="utf-8")


@pytest.mark.skipif(not BCCD.is_dir(), reason="no ../shared/data/bccd beside the project")
def test_the_two_degenerate_boxes_of_bccd(tmp_path: Path):
    config = config_of(BCCD, train="trainval")
    kinds, printed = run(config, tmp_path / "out")
    assert [text.partition(":")[0] for text in kinds.pop("box without area")] == [
        "BloodImage_00338.xml",
        "BloodImage_00343.xml",
    ]
    assert not kinds
    assert "0 errors, 2 warnings" in printed


def test_a_devkits_splits_are_read_from_the_lists_that_training_reads(tmp_path: Path):
    devkit = make.voc_folder(
        tmp_path / "VOC2007",
        {"a": [GOOD], "b": [GOOD], "c": [GOOD]},
        {"train": ["a"], "val": ["b"], "test": ["c"]},
    )
    for number, path in enumerate(sorted((devkit / "JPEGImages").iterdir())):
        path.write_bytes(make.encode(make.picture(60, 80, number)))
    config = config_of(tmp_path, kind="voc", voc_root=str(tmp_path))
    config.data.train, config.data.eval = "2007_trainval", "2007_test"
    kinds, _ = run(config, tmp_path / "out")
    assert kinds == {}
    config.data.train = "2007_validation"
    assert run(config, tmp_path / "out")[0] == {}

    lists = devkit / "ImageSets/Main"
    lists.joinpath("trainval.txt").write_text("a\nb\n")
    lists.joinpath("val.txt").unlink()
    config.data.train = "2007_trainval"
    kinds, _ = run(config, tmp_path / "out")
    assert kinds["no list"] == ["val.txt: there are test, train, trainval"]
    config.data.data_dir = str(tmp_path / "tfds")
    with pytest.raises(ValueError, match="not validation"):
        load_splits(config)


def test_a_picture_of_two_ids_is_told(tmp_path: Path):
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images/a.jpg").write_bytes(make.encode(make.picture(60, 80)))
    image = {"file_name": "a.jpg", "width": 80, "height": 60}
    for split, count in (("train", 2), ("val", 0)):
        content = {
            "images": [{**image, "id": 1 + n} for n in range(count)],
            "categories": [{"id": 1, "name": "cat"}],
            "annotations": [
                {"id": n, "image_id": 1 + n, "category_id": 1, "bbox": [1, 1, 30, 30]}
                for n in range(count)
            ],
        }
        (tmp_path / f"annotations/{split}.json").write_text(json.dumps(content))
    config = config_of(tmp_path, kind="coco_json", eval="val")
    kinds, _ = run(config, tmp_path / "out")
    assert kinds["image twice in a split"] == ["a.jpg: it is another image's file too"]


def test_brackets_are_no_markup_and_a_folder_that_cannot_be_is_told_first(faulty, tmp_path: Path):
    _, printed = run(config_of(faulty), tmp_path / "[old] [b]", quick=True)
    assert printed.rstrip().endswith("[old] [b]")
    (tmp_path / "file").write_text("")
    nowhere = config_of(tmp_path / "nowhere")
    with pytest.raises(OSError, match=r"cannot write into .*file.*another folder as --out"):
        run(nowhere, tmp_path / "file", quick=True)


def test_shares_of_a_split_without_objects_are_left_out(tmp_path: Path):
    small = [make.xml_object("cat", (10, 10, 12, 14)), make.xml_object("cat", (40, 10, 43, 13))]
    root = make.voc_folder(
        tmp_path / "small", {"a": small, "b": []}, {"train": ["a"], "test": ["b"]}
    )
    _, printed = run(config_of(root), tmp_path / "out")
    assert "the priors fit poorly" in printed
    assert "nan" not in printed and "of test" not in printed
