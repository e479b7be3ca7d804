"""ccc-w2v decode: what it writes, how it continues, and how it says no."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ccc_w2v.data.decoding import read_settings
from ccc_w2v.data.manifest import read_manifest, write_manifest
from ccc_w2v.data.trn import read_trn
from ccc_w2v.decode import greedy, log_probs, transcribe
from ccc_w2v.decode.ctc_model import load_ctc
from ccc_w2v.decode.long_windows import Windows
from ccc_w2v.files import sha256
from ccc_w2v.score.wer import Counts, score
from tests.run_tool import TOOLS, as_arguments, run_tool, run_with
from tests.score.nist import SCLITE, needs_sclite
from tests.tiny_ctc import SAMPLES, WORDS, raw_state, save


@pytest.fixture(scope="module")
def uninterrupted(checkpoint: Path, test_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("decoded") / "new" / "folder"
    assert run_tool("decode", checkpoint=checkpoint, manifest=test_set, out=out) == 0
    return out


@pytest.mark.parametrize(
    ("tool", "option"),
    [
        ("decode", "--labels-dir"),
        ("score", "--conditions"),
        ("compare", "--groups"),
        ("rescore", "--nbest"),
        ("tune_lm", "--lm-weights"),
        ("train_lm", "--letters"),
    ],
)
def test_help_needs_no_torch(tool: str, option: str) -> None:
    without_torch = (
        "import runpy, sys; sys.modules['torch'] = sys.modules['fairseq'] = None; sys.argv = ['x', '--help']"
    )
    command = f"{without_torch}; runpy.run_path({str(TOOLS / f'{tool}.py')!r}, run_name='__main__')"
    assert option in subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout


def test_writes_hypotheses_and_references(uninterrupted: Path, checkpoint: Path) -> None:
    assert sorted(path.name for path in uninterrupted.iterdir()) == ["decoding.json", "hyp.ctm", "hyp.trn", "ref.trn"]
    ids = [f"test{index}" for index in range(len(WORDS))]
    assert list(read_trn(uninterrupted / "ref.trn").items()) == list(zip(ids, WORDS, strict=True))
    hypotheses = read_trn(uninterrupted / "hyp.trn")
    assert list(hypotheses) == ids
    assert all(hypotheses.values())
    settings = read_settings(uninterrupted)
    assert (settings["checkpoint"], settings["dtype"]) == (sha256(checkpoint), "float32")


def test_reports_the_real_time_factor(
    checkpoint: Path, test_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_tool("decode", checkpoint=checkpoint, manifest=test_set, out=tmp_path) == 0
    printed = capsys.readouterr().out
    assert "6 utterances, 0 of them from an earlier run" in printed
    assert f"{sum(SAMPLES) / 16000:.1f} s of audio in" in printed
    assert re.search(r"^real-time factor \d+\.\d{4} ", printed, re.MULTILINE)


@needs_sclite
def test_ctm_is_sclites_and_holds_the_same_words(uninterrupted: Path, tmp_path: Path) -> None:
    references, hypotheses = (read_trn(uninterrupted / f"{name}.trn") for name in ("ref", "hyp"))
    rows = [f"{key} 1 {key} 0.000 9.000 {text}\n" for key, text in sorted(references.items())]
    (tmp_path / "ref.stm").write_text("".join(rows))
    files = ["-r", str(tmp_path / "ref.stm"), "stm", "-h", str(uninterrupted / "hyp.ctm"), "ctm"]
    report = subprocess.run(
        [*SCLITE, "-s", *files, "-o", "rsum", "stdout"], capture_output=True, text=True, check=True
    ).stdout
    total = score(references, hypotheses).total
    sums = re.search(r"Sum[ |]+\d+ +(\d+)[ |]+\d+ +(\d+) +(\d+) +(\d+)", report)
    assert sums
    assert total == Counts(*(int(sums[group]) for group in (2, 3, 4, 1)))


def test_logits_and_averaging_reach_the_decoder_and_a_cpu_decodes_in_single_precision(
    checkpoint: Path, test_set: Path, tmp_path: Path, uninterrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    for number in (1, 2):
        (tmp_path / "run" / f"checkpoint{number}.pt").write_bytes(checkpoint.read_bytes())
    options = {"checkpoint": tmp_path / "run", "manifest": test_set, "out": tmp_path / "out", "average_last": 2}
    assert run_with("decode", *as_arguments(batch_seconds=1, **options), "--logits") == 0
    # The mean of two equal checkpoints is either.
    for name in ("hyp.trn", "hyp.ctm"):
        assert (tmp_path / "out" / name).read_bytes() == (uninterrupted / name).read_bytes()
    logits_TV = np.load(tmp_path / "out" / "logits" / "test3.npy")
    assert logits_TV.shape == ((SAMPLES[3] - 400) // 320 + 1, len(load_ctc(checkpoint).labels))
    assert np.exp(logits_TV).sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert run_tool("decode", dtype="bfloat16", **{**options, "out": tmp_path / "half"}) == 0
    assert "warning: --dtype bfloat16 is slower than float32 on a CPU" in capsys.readouterr().err
    assert (tmp_path / "half" / "hyp.ctm").read_bytes() == (uninterrupted / "hyp.ctm").read_bytes()


def test_no_references_no_ref_trn(checkpoint: Path, test_set: Path, tmp_path: Path) -> None:
    listed = read_manifest(test_set)
    write_manifest(tmp_path / "other.tsv", listed.root, [(listed.entries[0].path, listed.entries[0].samples)])
    assert run_tool("decode", checkpoint=checkpoint, manifest=tmp_path / "other.tsv", out=tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["decoding.json", "hyp.ctm", "hyp.trn"]


def test_an_empty_hypothesis_is_only_its_id(
    checkpoint: Path, test_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(greedy, "best_path", lambda log_probs_TV, blank: [])
    assert run_tool("decode", checkpoint=checkpoint, manifest=test_set, out=tmp_path) == 0
    assert (tmp_path / "hyp.trn").read_text() == "".join(f" (test{index})\n" for index in range(6))


def test_continues_after_a_kill(
    checkpoint: Path, test_set: Path, tmp_path: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"checkpoint": checkpoint, "manifest": test_set, "out": tmp_path}
    emit_positions, batches = log_probs.emit_positions, []

    def killed_at_the_third(*args: object) -> list[torch.Tensor]:
        batches.append(args)
        if len(batches) == 3:
            raise KeyboardInterrupt
        return emit_positions(*args)

    monkeypatch.setattr(log_probs, "emit_positions", killed_at_the_third)
    assert run_tool("decode", **options) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["hyp.partial.jsonl"]
    kept = len((tmp_path / "hyp.partial.jsonl").read_text().splitlines()) - 1
    assert 0 < kept < len(SAMPLES)

    monkeypatch.setattr(log_probs, "emit_positions", emit_positions)
    assert run_tool("decode", **options) == 0
    assert (tmp_path / "hyp.trn").read_bytes() == (uninterrupted / "hyp.trn").read_bytes()
    assert not (tmp_path / "hyp.partial.jsonl").exists()


def write_journal(folder: Path, checkpoint: Path, manifest: Path, rest: str) -> Path:
    model, listed = load_ctc(checkpoint), read_manifest(manifest)
    defaults = {"logits": "False", "windows": str(Windows(3000, 400))}
    header = json.dumps({**transcribe.decoding_identity(model, [checkpoint], listed), **defaults})
    (folder / "hyp.partial.jsonl").write_text(f"{header}\n{rest}")
    return folder / "hyp.partial.jsonl"


def test_a_journals_lines_are_kept_and_half_a_line_is_not(
    checkpoint: Path, test_set: Path, tmp_path: Path, uninterrupted: Path
) -> None:
    rest = '{"id": "test1", "hypotheses": [[[["PLANTED", 0.1, 0.2, 0.5]], -1, 0, -1]]}\n{"id": "test3", "hyp'
    write_journal(tmp_path, checkpoint, test_set, rest)
    assert run_tool("decode", checkpoint=checkpoint, manifest=test_set, out=tmp_path) == 0
    assert read_trn(tmp_path / "hyp.trn") == {**read_trn(uninterrupted / "hyp.trn"), "test1": "PLANTED"}
    assert "test1 1 0.100 0.200 PLANTED 0.5000\n" in (tmp_path / "hyp.ctm").read_text()


@pytest.mark.parametrize("content", ["", '{"checkpo'])
def test_a_journal_killed_at_its_first_line(
    checkpoint: Path, test_set: Path, tmp_path: Path, uninterrupted: Path, content: str
) -> None:
    (tmp_path / "hyp.partial.jsonl").write_text(content)
    assert run_tool("decode", checkpoint=checkpoint, manifest=test_set, out=tmp_path) == 0
    assert (tmp_path / "hyp.trn").read_bytes() == (uninterrupted / "hyp.trn").read_bytes()


def refused(capsys: pytest.CaptureFixture[str], out: Path, **options: object) -> str:
    """Run the tool, expect exit code 2, one line and no transcripts; return the line."""
    capsys.readouterr()
    assert run_tool("decode", out=out, **options) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not list(out.glob("*.trn"))
    return error


def test_a_journal_of_another_decoding_is_refused(
    checkpoint: Path, test_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = write_journal(tmp_path, checkpoint, test_set, '{"id": "test1", "hypotheses": [[[], 0, 0, 0]]}\n')
    content = journal.read_text().replace('"manifest": "', '"manifest": "0')
    journal.write_text(content)
    options = {"checkpoint": checkpoint, "manifest": test_set}
    assert "unfinished decoding of another checkpoint" in refused(capsys, tmp_path, **options)
    assert journal.read_text() == content
    journal.write_text("plain text\n")
    assert "not a journal of this tool" in refused(capsys, tmp_path, **options)


def test_bad_checkpoints(checkpoint: Path, test_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad, out = tmp_path / "bad.pt", tmp_path / "out"
    assert "bad.pt: no such checkpoint" in refused(capsys, out, checkpoint=bad, manifest=test_set)
    content = checkpoint.read_bytes()
    for kept in (0, 1000, len(content) // 2, len(content) - 100):
        bad.write_bytes(content[:kept])
        assert "not a readable fairseq checkpoint" in refused(capsys, out, checkpoint=bad, manifest=test_set)
    bad.write_bytes(pickle.dumps({"model": {}, "cfg": Touch(tmp_path / "ran")}, protocol=2))
    assert "not a readable fairseq checkpoint" in refused(capsys, out, checkpoint=bad, manifest=test_set)
    assert not (tmp_path / "ran").exists()
    assert not out.exists()


def test_checkpoints_that_cannot_decode(
    checkpoint: Path, test_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"checkpoint": tmp_path / "bad.pt", "manifest": test_set}
    state = raw_state(checkpoint)
    state["model"]["w2v_encoder.proj.bias"][3] = float("nan")
    save(state, options["checkpoint"])
    capsys.readouterr()
    assert run_tool("decode", out=tmp_path / "nan", **options) == 2
    # Above it stands the progress bar.
    assert "test3: the network gives NaN; its training has diverged" in capsys.readouterr().err.splitlines()[-1]
    assert [path.name for path in (tmp_path / "nan").iterdir()] == ["hyp.partial.jsonl"]
    del state["task_state"]
    save(state, options["checkpoint"])
    (tmp_path / "dict.ltr.txt").write_text("A 1\nB 1\n")
    message = refused(capsys, tmp_path / "out", labels_dir=tmp_path, **options)
    assert "symbols, the dictionary 6; expected equal numbers and <s> among the symbols" in message
    assert not (tmp_path / "out").exists()


class Touch:
    """Unpickled without restraint, this makes a file."""

    def __init__(self, witness: Path):
        self.witness = witness

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.witness), "w")


def test_bad_manifests(checkpoint: Path, test_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, manifest = tmp_path / "out", tmp_path / "bad.tsv"
    options = {"checkpoint": checkpoint, "manifest": manifest}
    assert "bad.tsv: no such manifest" in refused(capsys, out, **options)
    write_manifest(manifest, read_manifest(test_set).root, [("test0.wav", 8000), ("test0.flac", 8000)])
    assert "bad.tsv:3: utterance id 'test0'" in refused(capsys, out, **options)
    write_manifest(manifest, read_manifest(test_set).root, [("test0.wav", 8000)])
    (tmp_path / "bad.wrd").write_text("A\nB\n")
    assert "bad.wrd: 2 lines for 1 utterances" in refused(capsys, out, **options)
    assert not out.exists()


def test_bad_audio_leaves_the_journal(
    checkpoint: Path, test_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, manifest = tmp_path / "out", tmp_path / "bad.tsv"
    write_manifest(manifest, read_manifest(test_set).root, [("test3.wav", 12345), ("gone.wav", 8000)])
    capsys.readouterr()
    assert run_tool("decode", checkpoint=checkpoint, manifest=manifest, out=out) == 2
    # Above it stands the progress bar of what was decoded.
    last_line = capsys.readouterr().err.splitlines()[-1]
    assert last_line.startswith("error: ")
    assert "bad.tsv:3" in last_line
    assert "gone.wav: no such file" in last_line
    assert [path.name for path in out.iterdir()] == ["hyp.partial.jsonl"]


def test_cuda_without_a_gpu(
    checkpoint: Path,
    test_set: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    message = refused(capsys, tmp_path, checkpoint=checkpoint, manifest=test_set, device="cuda")
    assert "torch finds no GPU" in message
