"""Files fetched once into a cache: resumed where they broke off, checked by hash."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import requests

VGG16_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
    "vgg16_weights_tf_dim_ordering_tf_kernels.h5"
)
VGG16_MD5 = "64373286793e3c8b2b4e3219cbf3544b"

Progress = Callable[[int, int], None]

_ANSWER_SECONDS = 20
_CHUNK = 1 << 20


def cache_folder() -> Path:
    """Where downloads go: $SSD_JAX_CACHE, or ssd_jax in the user's cache folder."""
    if folder := os.environ.get("SSD_JAX_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ssd_jax"


def fetch(
    url: str,
    md5: str,
    folder: Path,
    progress: Progress = lambda done, total: None,
) -> Path:
    """The file of an address, downloaded unless it is in the folder already.

    What was downloaded before a break is kept as NAME.part and gone on with. The file appears under
    its name only when it is whole and its hash is right.

    Args:
      url: the address; its last part is the file's name.
      md5: the hash of the whole file, hexadecimal.
      folder: where to keep it, made if needed.
      progress: called with the bytes that are there and the bytes in all.

    Returns:
      The file.

    Raises:
      OSError: it cannot be downloaded or written; the message says what to put where by hand.
      ValueError: a file of that name is there, or came, with another hash.
    """
    path = folder / url.rpartition("/")[2]
    if path.exists():
        if _md5(path) != md5:
            raise ValueError(f"{path} is not the file of {url} (md5 {md5}): delete it to try again")
        return path
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        _download(url, part, progress)
    except requests.RequestException as fault:
        raise OSError(
            f"cannot download {path.name} from {url} ({type(fault).__name__}). Run it again to go "
            f"on where it stopped, or download the file elsewhere and put it at {path}"
        ) from fault
    if _md5(part) != md5:
        part.unlink()
        raise ValueError(f"what {url} gave has not the md5 {md5}; it is deleted: try again")
    part.rename(path)
    return path


def _download(url: str, part: Path, progress: Progress) -> None:
    """Appends to `part` what it lacks."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(url, headers=headers, stream=True, timeout=_ANSWER_SECONDS) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            return  # all of it is there
        answer.raise_for_status()
        if answer.status_code != requests.codes.partial_content:
            start = 0  # this server sends the whole
        total = start + int(answer.headers.get("Content-Length", 0))
        with part.open("ab" if start else "wb") as file:
            for chunk in answer.iter_content(_CHUNK):
                file.write(chunk)
                start += len(chunk)
                progress(start, total)
        if start < total:
            raise requests.ConnectionError(f"{start} of {total} bytes came")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
