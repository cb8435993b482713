import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ssd_jax.weights.download import cache_folder, fetch

CONTENT = bytes(range(256)) * 20_000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT, ranges too; the server's `stop_after` breaks a transfer off once."""

    def do_GET(self):
        start = 0
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        if wanted and self.server.resumes:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206 if start < len(CONTENT) else 416)
        else:
            self.send_response(200)
        body = CONTENT[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.stop_after:
            body, self.server.stop_after = body[: self.server.stop_after], 0
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.ranges, server.stop_after, server.resumes = [], 0, True
    server.url = f"http://127.0.0.1:{server.server_address[1]}/folder/weights.h5"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_once_fetched_it_is_not_fetched_again(server, tmp_path):
    seen = []
    path = fetch(server.url, MD5, tmp_path / "new", lambda *counts: seen.append(counts))
    assert path == tmp_path / "new" / "weights.h5"
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert sorted(seen) == seen and len(seen) > 1
    fetch(server.url, MD5, tmp_path / "new")
    assert server.ranges == [None]
    assert [p.name for p in path.parent.iterdir()] == ["weights.h5"]


@pytest.mark.parametrize("resumes", [True, False], ids=["ranges", "whole"])
def test_a_broken_transfer_is_gone_on_with(server, tmp_path, resumes):
    server.stop_after, server.resumes = 3_000_000, resumes
    with pytest.raises(OSError, match=r"Run it again to go on .* put it at .*weights\.h5"):
        fetch(server.url, MD5, tmp_path)
    assert not (tmp_path / "weights.h5").exists()
    part = tmp_path / "weights.h5.part"
    had = part.stat().st_size
    assert 0 < had <= 3_000_000
    assert fetch(server.url, MD5, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={had}-"]


def test_killed_between_the_last_byte_and_the_name(server, tmp_path):
    (tmp_path / "weights.h5.part").write_bytes(CONTENT)
    assert fetch(server.url, MD5, tmp_path).read_bytes() == CONTENT


def test_another_hash_is_refused(server, tmp_path):
    with pytest.raises(ValueError, match=r"not the md5 0000; it is deleted"):
        fetch(server.url, "0000", tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "weights.h5").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"weights\.h5 is not the file of http"):
        fetch(server.url, MD5, tmp_path)


def test_offline_names_file_address_and_place(server, tmp_path):
    url = server.url.replace("127.0.0.1", "localhost.invalid")
    with pytest.raises(OSError, match=rf"cannot download weights\.h5 from {url} .* {tmp_path}"):
        fetch(url, MD5, tmp_path)


def test_the_cache_can_be_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("SSD_JAX_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("SSD_JAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "ssd_jax"
