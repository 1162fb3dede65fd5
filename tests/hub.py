"""A small Hub on loopback: enough of its HTTP interface for the real client to read repositories."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serve_hub(repositories: dict[str, Path]) -> Iterator[str]:
    """Serve each folder as the model repository of its name; yields the endpoint's URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = unquote(urlparse(self.path).path).strip("/")
            for name, folder in repositories.items():
                files = sorted(f for f in folder.rglob("*") if f.is_file())
                if path == f"api/models/{name}":
                    siblings = [{"rfilename": str(f.relative_to(folder))} for f in files]
                    info = {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings, "tags": []}
                    return self.send(200, json.dumps(info).encode(), body)
                if path.startswith(f"api/models/{name}/tree/"):
                    return self.send(404, b"", body, {"X-Error-Code": "EntryNotFound"})
                prefix = f"{name}/resolve/"
                if path.startswith(prefix):
                    file = folder / path.removeprefix(prefix).partition("/")[2]
                    if file.is_file():
                        return self.send(200, file.read_bytes(), body)
                    return self.send(404, b"", body, {"X-Error-Code": "EntryNotFound"})
            return self.send(404, b"", body, {"X-Error-Code": "RepoNotFound"})

        def send(self, status: int, content: bytes, body: bool, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            tag = hashlib.sha1(content).hexdigest()
            extra = {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT, "Content-Length": str(len(content))}
            for key, value in (extra | (headers or {})).items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
