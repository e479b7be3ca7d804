"""--push against a server on this machine that answers as the Hub does and keeps what it is sent."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import runpy
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest

from ccc_w2v.errors import InputError
from ccc_w2v.export.hub import check_repository, push
from tests.export.conftest import pretrained_state

TOOL = Path(__file__).parents[2] / "tools" / "export.py"


class Hub(BaseHTTPRequestHandler):
    """The requests of one upload: make the repository, check the card, ask how to send, send large files, commit."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kept = self.server.kept
        kept["tokens"].add(self.headers.get("Authorization"))
        if self.server.refuses:
            return self.answer({"error": "no"}, 403)
        if self.path == "/api/repos/create":
            kept["created"] = json.loads(body)
            return self.answer({"url": f"{self.server.url}/me/model", "id": "me/model", "name": "me/model"})
        if self.path == "/api/validate-yaml":
            kept["card"] = json.loads(body)["content"]
            return self.answer({"errors": [], "warnings": []})
        if self.path.endswith("/preupload/main"):
            files = [file["path"] for file in json.loads(body)["files"]]
            modes = {path: "lfs" if path.endswith(".safetensors") else "regular" for path in files}
            answers = [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]
            return self.answer({"files": answers})
        if self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**blob, "actions": {"upload": {"href": f"{self.server.url}/store/{blob['oid']}"}}}
                for blob in json.loads(body)["objects"]
            ]
            return self.answer({"transfer": "basic", "objects": objects})
        if "/commit/main" not in self.path:
            return self.answer({"error": f"unknown {self.path}"}, 404)
        for line in map(json.loads, body.decode().splitlines()):
            if line["key"] == "file":
                kept["files"][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            if line["key"] == "lfsFile":
                kept["files"][line["value"]["path"]] = kept["store"][line["value"]["oid"]]
        self.answer({"success": True, "commitOid": "0" * 40, "commitUrl": f"{self.server.url}/me/model/commit/0"})

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert hashlib.sha256(body).hexdigest() == self.path.rpartition("/")[2]
        self.server.kept["store"][self.path.rpartition("/")[2]] = body
        self.answer({})

    def do_GET(self):
        if self.server.refuses:
            return self.answer({"error": "no"}, 403)
        self.answer({"id": "me/model", "sha": "0" * 40, "siblings": []})

    def answer(self, content, status=200):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.kept, server.refuses = {"files": {}, "store": {}, "tokens": set()}, False
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def run(hub, *arguments):
    """The tool in a new process: huggingface_hub reads its address when it is imported."""
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_test", "HF_HUB_DISABLE_XET": "1"}
    environment.update(HF_HUB_OFFLINE="0", OMP_NUM_THREADS="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
    command = [sys.executable, "-W", "ignore", str(TOOL), "--to", "huggingface", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_push_sends_every_file_of_the_folder(hub, save, recordings, tmp_path):
    out = tmp_path / "out"
    source = save(pretrained_state())
    done = run(hub, "--checkpoint", source, "--out", out, "--audio", recordings[0], "--push", "me/model")
    assert done.returncode == 0, done.stderr
    assert f"pushed {hub.url}/me/model/commit/0" in done.stdout
    assert hub.kept["files"] == {path.name: path.read_bytes() for path in out.iterdir()}
    # By one key or the other, as huggingface_hub's version says it.
    assert hub.kept["created"].get("visibility") == "private" or hub.kept["created"]["private"] is True
    assert hub.kept["tokens"] == {"Bearer hf_test"}
    assert 'from_pretrained("me/model")' in hub.kept["card"]
    assert hub.kept["card"] == (out / "README.md").read_text()
    assert "DEBUG" not in done.stderr


@pytest.mark.parametrize("trouble", ["refused", "out of reach"])
def test_hub_that_refuses_or_cannot_be_reached_is_one_line(trouble, hub, tmp_path, monkeypatch):
    hub.refuses = True
    url = hub.url if trouble == "refused" else "http://127.0.0.1:9"
    api = huggingface_hub.HfApi(endpoint=url, token="x")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(InputError, match="--push me/model: the folder is written, the upload failed") as caught:
        push(tmp_path, "me/model")
    assert "\n" not in str(caught.value)


def test_name_that_the_hub_would_refuse_is_refused_before_any_work(monkeypatch, capsys, tmp_path):
    with pytest.raises(InputError, match="expected USER/NAME"):
        check_repository("a/b/c")
    arguments = ["--to", "huggingface", "--checkpoint", "none.pt", "--out", str(tmp_path / "o"), "--push", "a b"]
    monkeypatch.setattr(sys, "argv", ["export.py", *arguments])
    assert runpy.run_path(str(TOOL))["main"]() == 2
    assert "not a repository's name" in capsys.readouterr().err
