"""A Hugging Face Hub of one machine: what huggingface_hub asks to make, fill and fetch a repo."""

import base64
import contextlib
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit


@contextlib.contextmanager
def fake_hub(repositories: dict[str, dict[str, bytes]]) -> Iterator[str]:
    """Serves, and lets be written, repositories: 'owner/name' -> path -> content."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def parts(self):
            return [unquote(part) for part in urlsplit(self.path).path.split("/")[1:]]

        def answer(self, content, status=200, **headers):
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": len(data), **headers}.items():
                self.send_header(name.replace("_", "-"), str(value))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def do_POST(self):
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            match self.parts():
                case ["api", "repos", "create"]:
                    wanted = json.loads(sent)
                    name = f"{wanted['organization']}/{wanted['name']}"
                    repositories.setdefault(name, {})
                    self.answer({"url": f"http://{self.headers['Host']}/{name}"})
                case ["api", "validate-yaml"]:
                    assert json.loads(sent)["content"].startswith("---\n")
                    self.answer({"errors": [], "warnings": []})
                case ["api", "models", _, _, "preupload", "main"]:
                    files = json.loads(sent)["files"]
                    modes = {"uploadMode": "regular", "shouldIgnore": False}
                    self.answer({"files": [{"path": file["path"], **modes} for file in files]})
                case ["api", "models", owner, name, "commit", "main"]:
                    files = repositories[f"{owner}/{name}"]
                    for line in map(json.loads, sent.splitlines()):
                        value = line["value"]
                        if line["key"] == "file":
                            files[value["path"]] = base64.b64decode(value["content"])
                        if line["key"] == "deletedFile":
                            del files[value["path"]]
                    url = f"http://{self.headers['Host']}/{owner}/{name}/commit/{sha(files)}"
                    self.answer({"commitUrl": url, "commitOid": sha(files)})

        def do_GET(self):
            match self.parts():
                case ["api", "models", owner, name, "tree", *_]:
                    files = repositories[f"{owner}/{name}"].items()
                    self.answer(
                        [
                            {"type": "file", "path": path, "size": len(data), "oid": digest(data)}
                            for path, data in files
                        ]
                    )
                case ["api", "models", owner, name, *_]:
                    if (files := repositories.get(f"{owner}/{name}")) is None:
                        code = {"X_Error_Code": "RepoNotFound"}
                        return self.answer({"error": "no such repository"}, 404, **code)
                    names = [{"rfilename": path} for path in files]
                    self.answer({"id": f"{owner}/{name}", "sha": sha(files), "siblings": names})
                case [owner, name, "resolve", commit, *path]:
                    data = repositories[f"{owner}/{name}"]["/".join(path)]
                    self.answer(data, ETag=f'"{digest(data)}"', X_Repo_Commit=commit)

        def do_HEAD(self):
            self.do_GET()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def digest(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def sha(files: dict[str, bytes]) -> str:
    return digest(b"".join(path.encode() + data for path, data in sorted(files.items())))
