import os
import zipfile
from pathlib import Path

import pytest

from ssd_jax.data.archive_path import file_names, is_file, read_bytes


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("train/a.jpg", b"first picture" * 100)
        file.writestr("train/deep/b.jpg", b"b")
        file.writestr("c.jpg", b"c")
    return path


def test_zips_and_folders_are_read_alike(archive: Path, tmp_path: Path):
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path / "folder")
    for root in (archive, tmp_path / "folder"):
        assert read_bytes(root / "train/a.jpg") == b"first picture" * 100
        assert read_bytes(root / "c.jpg") == b"c"
        assert is_file(root / "train/deep/b.jpg") and not is_file(root / "train/b.jpg")
        assert "a.jpg" in file_names(root / "train")
        assert "c.jpg" in file_names(root)
        assert file_names(root / "nowhere") is None
        with pytest.raises(FileNotFoundError, match=r"train/b\.jpg"):
            read_bytes(root / "train/b.jpg")


def test_a_folder_may_be_called_zip(tmp_path: Path):
    (tmp_path / "old.zip").mkdir()
    (tmp_path / "old.zip/a.jpg").write_bytes(b"a")
    assert read_bytes(tmp_path / "old.zip/a.jpg") == b"a"


def test_a_zip_cut_short_is_named(archive: Path):
    os.truncate(archive, archive.stat().st_size - 40)
    with pytest.raises(ValueError, match=r"pictures\.zip is no whole zip .*fetch it again"):
        read_bytes(archive / "c.jpg")


def test_a_changed_byte_in_a_zip_is_named(archive: Path):
    data = bytearray(archive.read_bytes())
    data[data.index(b"first") + 1] ^= 1
    archive.write_bytes(data)
    with pytest.raises(ValueError, match=r"train/a\.jpg is broken .*CRC-32") as error:
        read_bytes(archive / "train/a.jpg")
    assert "\n" not in str(error.value)
    assert read_bytes(archive / "c.jpg") == b"c"


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [(6, 1, "encrypted"), (8, 9, "compression method is not supported")],  # of the local header
)
def test_a_zip_that_python_cannot_unpack_is_named(archive: Path, offset, value, message: str):
    data = bytearray(archive.read_bytes())
    central = data.index(b"PK\x01\x02")  # the same fields lie two bytes further on there
    for start in (data.index(b"PK\x03\x04"), central + 2):
        data[start + offset] = value
    archive.write_bytes(data)
    with pytest.raises(ValueError, match=rf"train/a\.jpg cannot be unpacked .*{message}"):
        read_bytes(archive / "train/a.jpg")
    assert read_bytes(archive / "c.jpg") == b"c"
