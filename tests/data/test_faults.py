"""What goes wrong with disks and files: named in one line, and never taken for a whole dataset."""

import os
import resource
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from ssd_jax.data import devkit, voc
from ssd_jax.data.tfds_source import TfdsSource
from ssd_jax.data.voc import load_voc
from tests.data import make

ROOT = Path(__file__).parents[2]
DOG = make.xml_object("dog", (8, 6, 40, 30))


@pytest.fixture(autouse=True)
def no_progress_bars():
    tfds.disable_progress_bar()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A devkit whose records take about 200 kB."""
    names = [f"{number:06d}" for number in range(8)]
    make.voc_folder(
        tmp_path / "VOC2007", {n: [DOG] for n in names}, {"test": names}, size=(400, 500)
    )
    return tmp_path


def files_in(folder: Path) -> list[str]:
    return [p.name for p in folder.rglob("*") if p.is_file() and p.name != "metadata.json"]


@pytest.mark.parametrize("part", [0.0, 0.6, 0.97])
def test_a_truncated_array_record_is_named(shapes_folder: str, tmp_path: Path, part: float):
    shutil.copytree(shapes_folder, tmp_path / "copy")
    (records,) = (tmp_path / "copy").rglob("*-train.array_record*")
    os.truncate(records, int(records.stat().st_size * part))
    source = TfdsSource(records.parent, "train")
    for use in (lambda: make.object_counts(source), lambda: source[0]):
        with pytest.raises(ValueError, match=r"row 0 of .*copy/shapes.*delete the folder") as error:
            use()
        assert "\n" not in str(error.value)


def test_a_missing_record_file_is_named(shapes_folder: str, tmp_path: Path):
    shutil.copytree(shapes_folder, tmp_path / "copy")
    (records,) = (tmp_path / "copy").rglob("*-train.array_record*")
    records.unlink()
    with pytest.raises(ValueError, match=r"row 0 of .*copy/shapes.*delete the folder"):
        TfdsSource(records.parent, "train")[0]


def test_a_full_disk_leaves_nothing_that_is_taken_for_a_dataset(root: Path, tmp_path: Path):
    """Writes past 50 kB of a file fail in the middle of the first preparation."""
    data_dir = str(tmp_path / "tfds")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limit[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write .*5\.0\.0 .*data\.data_dir") as error:
            load_voc("2007_test", data_dir=data_dir, voc_root=str(root))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "\n" not in str(error.value)
    assert files_in(Path(data_dir)) == []
    assert len(load_voc("2007_test", data_dir=data_dir, voc_root=str(root))) == 8


def test_a_kill_leaves_nothing_that_is_taken_for_a_dataset(root: Path, tmp_path: Path):
    data_dir = tmp_path / "tfds"
    code = (
        "import os, sys; from ssd_jax.data import voc\n"
        "whole = voc._example\n"
        "voc._example = lambda d, n, odd: os._exit(9) if n == '000005' else whole(d, n, odd)\n"
        "voc.load_voc('2007_test', data_dir=sys.argv[1], voc_root=sys.argv[2])"
    )
    done = subprocess.run([sys.executable, "-c", code, data_dir, root], cwd=ROOT, check=False)
    assert done.returncode == 9
    assert [p for p in data_dir.rglob("incomplete*") if p.is_dir()]
    assert len(load_voc("2007_test", data_dir=str(data_dir), voc_root=str(root))) == 8


@pytest.mark.parametrize("when", ["before it begins", "while it writes"])
def test_a_dataset_that_another_run_has_prepared_meanwhile_is_taken(
    root: Path, tmp_path: Path, monkeypatch, when: str
):
    """Between this run's look whether it is there and its own end another one prepares it."""
    data_dir = str(tmp_path / "tfds")
    prepares, example, other = voc.prepare, voc._example, []

    def be_overtaken() -> None:
        if not other:
            other.append(None)
            other[0] = load_voc("2007_test", data_dir=data_dir, voc_root=str(root))

    if when == "before it begins":
        monkeypatch.setattr(voc, "prepare", lambda builder: be_overtaken() or prepares(builder))
    else:
        monkeypatch.setattr(voc, "_example", lambda *how: be_overtaken() or example(*how))
    this = load_voc("2007_test", data_dir=data_dir, voc_root=str(root))
    assert len(this) == len(other[0]) == 8
    assert not [path for path in Path(data_dir).rglob("incomplete*") if path.is_dir()]


def test_a_folder_that_cannot_be_written_is_named(root: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"tmp.*/file.*: set data\.data_dir") as error:
        load_voc("2007_test", data_dir=str(tmp_path / "file/tfds"), voc_root=str(root))
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv takes root's rights away")
def test_a_folder_without_write_permission_is_named(root: Path, tmp_path: Path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    code = (
        "import sys; from ssd_jax.data.voc import load_voc\n"
        "try: load_voc('2007_test', data_dir=sys.argv[1], voc_root=sys.argv[2])\n"
        "except OSError as error: print(error)"
    )
    rights = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]
    done = subprocess.run(
        [*(rights if os.geteuid() == 0 else []), sys.executable, "-c", code, locked, root],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    last_line = done.stdout.strip().splitlines()[-1]
    assert "Permission denied" in last_line and str(locked) in last_line
    assert last_line.endswith("set data.data_dir to a folder that can be written")


def test_a_tar_cut_short_is_named(root: Path, tmp_path: Path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(root / "VOC2007", "VOCdevkit/VOC2007")
    os.truncate(tmp_path / "a.tar", (tmp_path / "a.tar").stat().st_size // 2)
    with pytest.raises(ValueError, match=r"a\.tar (is no tar|ends)"):
        devkit.TarDevkit([tmp_path / "a.tar"], "2007")


def test_a_jpeg_cut_short_is_named_where_its_size_is_needed(root: Path, tmp_path: Path):
    (root / "VOC2007/Annotations/000003.xml").write_text(make.xml(None, [DOG]))
    path = root / "VOC2007/JPEGImages/000003.jpg"
    path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(ValueError, match=r"000003\.jpg"):
        load_voc("2007_test", data_dir=str(tmp_path / "tfds"), voc_root=str(root))
