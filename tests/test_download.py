import errno
import fcntl
import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ssd_jax import download
from ssd_jax.data.archives import find_archives
from ssd_jax.download import RemoteFile
from tests.serve import served

CONTENT = np.random.default_rng(0).bytes(3_000_000)


def archive(*urls: str, content: bytes = CONTENT, name: str = "a.tar") -> RemoteFile:
    return RemoteFile(name, len(content), hashlib.sha256(content).hexdigest(), urls)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    (tmp_path / "host").mkdir()
    (tmp_path / "host/a.tar").write_bytes(CONTENT)
    return tmp_path / "host"


def fetch(folder: Path, *archives: RemoteFile) -> list[Path]:
    return download.fetch(folder, archives, instead="bring it")


def test_a_file_that_is_there_asks_no_host(host: Path):
    (path,) = fetch(host, archive("http://127.0.0.1:9/a.tar"))
    assert path == host / "a.tar"


def test_the_first_host_that_has_it_is_taken(host: Path, tmp_path: Path, capfd):
    asked: list[str] = []
    with served(host, asked=asked) as address:
        dead, gone = "http://127.0.0.1:9/a.tar", f"{address}gone/a.tar"
        (path,) = fetch(tmp_path / "new/folder", archive(dead, gone, f"{address}a.tar"))
    assert path.read_bytes() == CONTENT
    assert asked == ["/gone/a.tar", "/a.tar"]
    assert [p.name for p in path.parent.iterdir()] == ["a.tar"]
    assert "a.tar" in capfd.readouterr().out  # progress


def test_what_broke_off_goes_on_at_the_next_call(host: Path, tmp_path: Path):
    folder = tmp_path / "new"
    with served(host, break_after=1_000_000) as address:
        message = r"broke off.*try again later, or put a\.tar into .*new, or bring it"
        with pytest.raises(OSError, match=message):
            fetch(folder, archive(f"{address}a.tar"))
    part = folder / "a.tar.part"
    done = part.stat().st_size
    assert part.read_bytes() == CONTENT[:done] and 0 < done <= 1_000_000
    asked: list[str] = []
    with served(host, asked=asked) as address:
        (path,) = fetch(folder, archive(f"{address}a.tar"))
    assert asked == [f"/a.tar bytes={done}-"]
    assert path.read_bytes() == CONTENT and not part.exists()


def test_the_second_host_goes_on_where_the_first_broke_off(host: Path, tmp_path: Path):
    asked: list[str] = []
    with served(host, break_after=1_000_000) as bad, served(host, asked=asked) as good:
        (path,) = fetch(tmp_path / "new", archive(f"{bad}a.tar", f"{good}a.tar"))
    assert path.read_bytes() == CONTENT
    assert len(asked) == 1 and "bytes=" in asked[0]


def test_a_host_without_ranges_starts_anew(host: Path, tmp_path: Path):
    (tmp_path / "a.tar.part").write_bytes(b"something else")
    with served(host, ranges=False) as address:
        (path,) = fetch(tmp_path, archive(f"{address}a.tar"))
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("wrong", [bytes(len(CONTENT)), CONTENT + b"x"])
def test_another_file_is_refused_and_not_kept(host: Path, tmp_path: Path, wrong: bytes):
    (host / "a.tar").write_bytes(wrong)
    with (
        served(host) as address,
        pytest.raises(OSError, match=r"127\.0\.0\.1:\d+/a\.tar: its file has another hash"),
    ):
        fetch(tmp_path / "new", archive(f"{address}a.tar"))
    assert not list((tmp_path / "new").iterdir())


def test_the_next_host_is_tried_after_a_wrong_file(host: Path, tmp_path: Path):
    (tmp_path / "liar").mkdir()
    (tmp_path / "liar/a.tar").write_bytes(bytes(len(CONTENT)))
    with served(tmp_path / "liar") as bad, served(host) as good:
        (path,) = fetch(tmp_path / "new", archive(f"{bad}a.tar", f"{good}a.tar"))
    assert path.read_bytes() == CONTENT


def test_an_error_names_all_that_is_missing(host: Path, tmp_path: Path):
    wanted = [archive("http://127.0.0.1:9/x", name=f"{name}.tar") for name in "abc"]
    with pytest.raises(OSError, match=r"put b\.tar and c\.tar into") as error:
        fetch(host, *wanted)
    assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError, match=r"lacks b\.tar and c\.tar: set data\.archives"):
        find_archives(host, wanted)


def test_a_file_of_the_right_size_is_hashed_only_if_asked_for(host: Path):
    other = archive(content=bytes(len(CONTENT)))
    assert find_archives(host, [other], hashed=False) == [host / "a.tar"]
    with pytest.raises(ValueError, match=r"a\.tar .*is not the official a\.tar"):
        find_archives(host, [other])
    (host / "a.tar").write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match=r"a\.tar \(2999999 bytes\) is not the official"):
        find_archives(host, [archive()], hashed=False)


def test_a_full_disk_is_no_fault_of_the_host(host: Path, tmp_path: Path, monkeypatch):
    opened = Path.open

    def full(self: Path, mode: str = "r", *rest, **more):
        if self.suffix == ".part":
            raise OSError(28, "No space left on device", str(self))
        return opened(self, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", full)
    with served(host) as address, pytest.raises(OSError, match=r"No space left .*a\.tar\.part"):
        fetch(tmp_path / "new", archive(f"{address}a.tar"))


class Held(list):
    """Requests, of which the first waits until there is another, or for half a second."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.another = threading.Event(), threading.Event()

    def append(self, request: str) -> None:
        super().append(request)
        (self.another if self.first.is_set() else self.first).set()
        self.another.wait(0.5)


def test_two_runs_download_a_file_once(host: Path, tmp_path: Path):
    held = Held()
    with served(host, asked=held) as address, ThreadPoolExecutor(2) as runs:
        wanted = archive(f"{address}a.tar")
        one = runs.submit(fetch, tmp_path / "new", wanted)
        assert held.first.wait(10)
        other = runs.submit(fetch, tmp_path / "new", wanted)
        assert one.result() == other.result() == [tmp_path / "new/a.tar"]
    assert held == ["/a.tar"]
    assert (tmp_path / "new/a.tar").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.tar"]


def test_a_run_that_waited_goes_on_where_the_other_broke_off(host: Path, tmp_path: Path):
    held = Held()
    with served(host, asked=held, break_after=2_000_000) as address, ThreadPoolExecutor(2) as runs:
        wanted = archive(f"{address}a.tar")
        one = runs.submit(fetch, tmp_path / "new", wanted)
        assert held.first.wait(10)
        other = runs.submit(fetch, tmp_path / "new", wanted)
        with pytest.raises(OSError, match="broke off"):
            one.result()
        assert other.result()[0].read_bytes() == CONTENT
    assert held[0] == "/a.tar" and "bytes=" in held[1]


def test_one_is_within_at_a_time_though_the_lock_is_taken_away(tmp_path: Path):
    within, most, times = [], [], 40

    def enter(number: int) -> None:
        with download._alone(tmp_path / "a.lock", lambda: None):
            within.append(number)
            most.append(len(within))
            within.remove(number)

    with ThreadPoolExecutor(8) as runs:
        list(runs.map(enter, range(times)))
    assert most == [1] * times
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks_is_no_obstacle(host: Path, tmp_path: Path, monkeypatch):
    def refuse(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with served(host) as address:
        (path,) = fetch(tmp_path / "new", archive(f"{address}a.tar"))
    assert path.read_bytes() == CONTENT


def test_the_cache_can_be_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("SSD_JAX_CACHE", str(tmp_path))
    assert download.cache_folder() == tmp_path
    monkeypatch.delenv("SSD_JAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert download.cache_folder() == tmp_path / "ssd_jax"
