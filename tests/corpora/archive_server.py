"""A local web server that behaves as badly as real ones: breaks off, ignores ranges, has no checksum."""

from __future__ import annotations

import http.server
import threading


class Upstream:
    """A server of one archive under any name that cuts the connection after ``cuts[n]`` bytes of its n-th answer."""

    def __init__(self, archive, sha1=None, cuts=(), ranges=True):
        self.asked = []
        upstream = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                if self.path.endswith(".sha1"):
                    return self.answer(200, f"{sha1}  the-archive\n".encode()) if sha1 else self.answer(404, b"")
                asked = self.headers.get("Range")
                upstream.asked.append(asked)
                start = int(asked[6:-1]) if asked and ranges else 0
                if start >= len(archive):
                    return self.answer(416, b"")
                cut = cuts[len(upstream.asked) - 1] if len(upstream.asked) <= len(cuts) else None
                self.answer(206 if start else 200, archive[start:], cut)

            def answer(self, status, body, cut=None):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[:cut])

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
