"""A file server on loopback whose answers can be made to fail."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.support.serving import serving

ALWAYS = 1_000


@dataclass
class Mirror:
    """A running server.

    Args:
        url: its address.
        faults: by path, how the next answers fail: "cut" (half the body, then the connection is closed), "other"
            (another file), "stall" (half the body, then nothing until the server ends), or a status, "404".
        asked: the path of every request so far.
    """

    url: str = ""
    faults: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    asked: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serve_mirror(files: Mapping[str, bytes]) -> Iterator[Mirror]:
    """Serve files by their path, "owner/name/commit/data/a.json" for example."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.lstrip("/")
            mirror.asked.append(path)
            fault = mirror.faults[path].pop() if mirror.faults[path] else ""
            if path not in files or fault.isdigit():
                self.send(int(fault or 404), b"no")
            elif fault == "other":
                self.send(200, files[path][::-1] + b"!")
            elif fault:
                self.send(200, files[path], len(files[path]) // 2)
                self.close_connection = True
                if fault == "stall":
                    mirror.over.wait()
            else:
                self.send(200, files[path])

        def send(self, status: int, content: bytes, sent: int | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:sent])
            self.wfile.flush()

        def log_message(self, *_: object) -> None:
            pass

    mirror = Mirror()
    with serving(Handler) as mirror.url:
        try:
            yield mirror
        finally:
            mirror.over.set()
