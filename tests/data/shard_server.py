"""A local web server of files that behaves as badly as real ones: stalls, breaks off, refuses, sends damaged bytes."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp", reason="extra streams")
RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class ShardServer:
    """Serves a folder with range requests.

    ``trouble`` gets each request's path, its range (start, end) and its number, and says what goes wrong: None, "stall"
    (nothing comes until the server ends), "break" (half of the bytes), a number (that status), or bytes to send.
    """

    def __init__(self, folder: Path, trouble: Callable[[str, tuple[int, int], int], Any] | None = None) -> None:
        self.folder, self.trouble = folder, trouble or (lambda path, part, number: None)
        self.asked: list[tuple[str, str, tuple[int, int]]] = []
        self.ranges, self.ended = True, threading.Event()
        self._count = threading.Lock()
        shards = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def parse_request(self):
                # A connection that was kept must not outlive the server.
                return super().parse_request() and not shards.ended.is_set()

            def do_HEAD(self):
                path = shards.folder / self.path.lstrip("/")
                if not path.is_file():
                    return self.answer(404, b"", body=False)
                self.answer(200, path.read_bytes(), body=False)

            def do_GET(self):
                path = shards.folder / self.path.lstrip("/")
                content = path.read_bytes() if path.is_file() else b""
                asked = RANGE.fullmatch(self.headers.get("Range", "")) if shards.ranges else None
                start = int(asked[1]) if asked else 0
                end = min(int(asked[2]) + 1 if asked and asked[2] else len(content), len(content))
                with shards._count:
                    shards.asked.append(("GET", self.path, (start, end)))
                    number = len(shards.asked)
                if not path.is_file():
                    return self.answer(404, b"no such file")
                trouble = shards.trouble(self.path, (start, end), number)
                if trouble == "stall":
                    shards.ended.wait(60)
                elif isinstance(trouble, int):
                    self.answer(trouble, b"sorry")
                elif trouble == "break":
                    self.answer(206, content[start:end], cut=(end - start) // 2)
                else:
                    self.answer(206 if asked else 200, trouble if trouble is not None else content[start:end])

            def answer(self, status, content, *, body=True, cut=None):
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("ETag", '"1"')
                self.end_headers()
                if body:
                    self.wfile.write(content if cut is None else content[:cut])
                if cut is not None:
                    self.close_connection = True

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64  # of connections that are not yet accepted; more would wait for seconds

        self.server = Server(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> ShardServer:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()
