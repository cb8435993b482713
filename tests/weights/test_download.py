import dataclasses
import hashlib

import pytest

from ssd_jax.weights import download
from tests.serve import served

CONTENT = bytes(range(256)) * 2_000


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SSD_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_it_is_fetched_once_and_checked_by_md5(monkeypatch, cache, tmp_path):
    (tmp_path / "vgg.h5").write_bytes(CONTENT)
    asked: list[str] = []
    with served(tmp_path, asked=asked) as address:
        md5 = hashlib.md5(CONTENT).hexdigest()
        file = dataclasses.replace(
            download.VGG16, size=len(CONTENT), digest=md5, urls=(f"{address}vgg.h5",)
        )
        monkeypatch.setattr(download, "VGG16", file)
        path = download.fetch_vgg16()
        assert path == cache / "vgg16_weights_tf_dim_ordering_tf_kernels.h5"
        assert path.read_bytes() == CONTENT
        assert download.fetch_vgg16() == path
    assert asked == ["/vgg.h5"]
    path.write_bytes(bytes(len(CONTENT)))
    with pytest.raises(ValueError, match=r"is not the official vgg16_weights"):
        download.fetch_vgg16()


def test_offline_names_file_address_and_place(monkeypatch, cache):
    url = "http://127.0.0.1:9/vgg.h5"
    monkeypatch.setattr(download, "VGG16", dataclasses.replace(download.VGG16, urls=(url,)))
    message = rf"cannot download vgg16_\w+\.h5 \({url}: .*put vgg16_\w+\.h5 into {cache}, or train"
    with pytest.raises(OSError, match=message):
        download.fetch_vgg16()
