"""A host of files, as slow or broken as a test wants it."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def served(
    folder: Path,
    *,
    ranges: bool = True,
    break_after: int | None = None,
    asked: list[str] | None = None,
) -> Iterator[str]:
    """Serves the files of a folder over HTTP; yields the address.

    Args:
      folder: Where they lie.
      ranges: Answer `Range: bytes=N-` with the rest of the file; else with the whole.
      break_after: Break each answer off after so many bytes.
      asked: Collects 'PATH RANGE' of each request.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            path, wanted = folder / self.path[1:], self.headers.get("Range", "")
            if asked is not None:
                asked.append(f"{self.path} {wanted}".strip())
            if not path.is_file():
                return self.send_error(404)
            data = path.read_bytes()
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and ranges else 0
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            self.wfile.write(data[start:][:break_after])

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
