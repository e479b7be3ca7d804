"""--device cuda where torch finds no GPU: refused in one line by every command that runs a network, before it reads."""

import pytest
import torch

from tests.run_tool import one_line_error, run_tool

PATHS = {
    "align": ("checkpoint", "manifest", "out"),
    "codes": ("checkpoint", "manifest"),
    "quality": ("checkpoint", "manifest", "alignments", "out"),
    "extract_features": ("checkpoint", "manifest", "out"),
}


@pytest.mark.parametrize("command", PATHS)
def test_cuda_without_a_gpu_is_refused(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    paths = {name: tmp_path / f"{name}.tsv" for name in PATHS[command]}
    if command == "codes":
        paths["out"] = tmp_path / "codes.html"
    assert run_tool(command, **paths, device="cuda") == 2
    assert one_line_error(capsys) == "error: --device cuda: torch finds no GPU; use --device cpu\n"
    assert list(tmp_path.iterdir()) == []


def test_a_watch_on_cuda_without_a_gpu_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run = tmp_path / "run"
    run.mkdir()
    assert run_tool("probe_watch", run, train="train.tsv", dev="dev.tsv", device="cuda") == 2
    assert one_line_error(capsys) == "error: --device cuda: torch finds no GPU; use --device cpu\n"
