"""Every tool that writes: the same command again is fine, another one's output is not replaced, an input never is."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile

from ccc_w2v.cli import plan
from ccc_w2v.data.manifest import read_manifest, write_manifest
from ccc_w2v.data.trn import write_trn
from ccc_w2v.errors import exit_on_input_error
from tests.fake_corpora import RATE, write_corpus, write_labels
from tests.run_tool import as_arguments, one_line_error, run_tool, run_with
from tests.tiny_ctc import raw_state, save


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def last_error(capsys: pytest.CaptureFixture[str]) -> str:
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ")
    return line


@pytest.fixture
def other_checkpoint(checkpoint: Path, tmp_path: Path) -> Path:
    state = raw_state(checkpoint)
    state["model"]["w2v_encoder.proj.bias"][3] += 100
    return save(state, tmp_path / "other.pt")


def test_a_decoding_of_another_checkpoint_is_not_replaced_unasked_and_takes_its_score_with_it(
    checkpoint: Path, other_checkpoint: Path, test_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = {"manifest": test_set, "out": out}
    scored = {"ref": out / "ref.trn", "hyp": out / "hyp.trn", "json": out / "score.json"}
    assert run_tool("decode", checkpoint=checkpoint, **options) == run_tool("score", **scored) == 0
    before = contents(out)
    capsys.readouterr()
    assert run_tool("decode", checkpoint=other_checkpoint, **options) == 2
    assert "out: exists already, made with other settings (checkpoint); name another output, or give --overwrite" in (
        one_line_error(capsys)
    )
    assert run_tool("decode", checkpoint=checkpoint, **options, beam=5) == 2
    assert "beam" in one_line_error(capsys)
    assert contents(out) == before
    assert run_tool("decode", checkpoint=checkpoint, **options) == 0
    assert "6 utterances, decoded before with the same settings" in capsys.readouterr().out
    assert contents(out) == before
    assert run_with("decode", *as_arguments(checkpoint=other_checkpoint, **options), "--overwrite") == 0
    assert set(contents(out)) == {"decoding.json", "hyp.ctm", "hyp.trn", "ref.trn"}
    assert (out / "hyp.trn").read_bytes() != before["hyp.trn"]


def test_changed_references_reach_a_finished_decoding(checkpoint: Path, test_set: Path, tmp_path: Path) -> None:
    manifest, out = tmp_path / "some.tsv", tmp_path / "out"
    listed = read_manifest(test_set)
    write_manifest(manifest, listed.root, [(entry.path, entry.samples) for entry in listed.entries[:2]])
    manifest.with_suffix(".wrd").write_text("A HAT\nTHE CAT\n")
    options = {"checkpoint": checkpoint, "manifest": manifest, "out": out}
    assert run_tool("decode", **options) == 0
    scored = {"ref": out / "ref.trn", "hyp": out / "hyp.trn", "json": out / "score.json"}
    assert run_tool("score", **scored) == run_tool("decode", **options) == 0
    assert (out / "score.json").is_file()
    manifest.with_suffix(".wrd").write_text("THE HAT\nTHE CAT\n")
    assert run_tool("decode", **options) == 0
    assert (out / "ref.trn").read_text() == "THE HAT (test0)\nTHE CAT (test1)\n"
    assert not (out / "score.json").exists()


@pytest.fixture
def texts(tmp_path: Path) -> dict[str, Path]:
    paths = {name: tmp_path / f"{name}.trn" for name in ("ref", "a", "b")}
    for (name, path), text in zip(paths.items(), ("A B C", "A B D", "X B C"), strict=True):
        write_trn(path, {f"u{index}": text if index or name == "ref" else "A B C" for index in range(9)})
    return paths


def test_a_score_is_not_replaced_by_that_of_another_system(
    texts: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"ref": texts["ref"], "json": tmp_path / "score.json"}
    assert run_tool("score", hyp=texts["a"], **options) == run_tool("score", hyp=texts["a"], **options) == 0
    before = contents(tmp_path)
    for changed in ({"hyp": texts["b"]}, {"hyp": texts["a"], "normalize": "librispeech"}):
        capsys.readouterr()
        assert run_tool("score", **options, **changed) == 2
        assert "score.json: exists already, made with other settings" in one_line_error(capsys)
    assert run_tool("score", ref=texts["ref"], hyp=texts["a"], json=texts["a"]) == 2
    assert "a.trn: is what this command reads" in one_line_error(capsys)
    assert contents(tmp_path) == before
    assert run_with("score", *as_arguments(hyp=texts["b"], **options), "--overwrite") == 0
    assert (tmp_path / "score.json").read_bytes() != before["score.json"]


@pytest.mark.parametrize(("tool", "option", "name"), [("compare", "json", "c.json"), ("report", "out", "r.html")])
def test_a_comparison_is_not_replaced_by_another(
    texts: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], tool: str, option: str, name: str
) -> None:
    def run(*systems: str, out: Path = tmp_path / name, **more: object) -> int:
        capsys.readouterr()
        return run_with(tool, *(texts[system] for system in systems), *as_arguments(
            ref=texts["ref"], **{option: out}, **more
        ))  # fmt: skip

    assert run("a", "b") == run("a", "b") == 0
    before = contents(tmp_path)
    assert run("b", "a", "ref") == 2
    assert f"{name}: exists already, made with other settings" in one_line_error(capsys)
    assert run("a", "b", seed=1) == 2
    assert "(seed)" in one_line_error(capsys)
    assert run("a", "b", out=texts["b"]) == 2
    assert "b.trn: is what this command reads" in one_line_error(capsys)
    (tmp_path / "notes.html").write_text("<p>mine</p>")
    assert run("a", "b", out=tmp_path / "notes.html") == 2
    assert "no record says that this command wrote it" in one_line_error(capsys)
    assert {key: value for key, value in contents(tmp_path).items() if key != "notes.html"} == before


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = write_corpus(tmp_path, [4000, 5000])
    write_labels(path, ["A CAT", "A HAT"])
    return path


def test_checking_a_manifest_does_not_destroy_it(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(tmp_path)
    assert run_with("check_manifest", corpus, "--out", corpus) == 2
    assert "train.tsv: is what this command reads" in one_line_error(capsys)
    assert run_with("check_manifest", corpus, "--report", corpus.with_suffix(".wrd")) == 2
    assert "train.wrd: is what this command reads" in one_line_error(capsys)
    write_manifest(tmp_path / "mine.tsv", tmp_path, [("a.wav", 1)])
    assert run_with("check_manifest", corpus, "--out", tmp_path / "mine.tsv") == 2
    assert "mine.tsv: exists already" in one_line_error(capsys)
    (tmp_path / "mine.tsv").unlink()
    assert contents(tmp_path) == before
    good = ["check_manifest", corpus, "--out", tmp_path / "good.tsv"]
    assert run_with(*good) == run_with(*good) == 0
    capsys.readouterr()
    assert run_with(*good, "--min-samples", 4500) == 2
    assert "good.tsv: exists already, made with other settings (min_samples)" in one_line_error(capsys)
    assert run_with(*good, "--min-samples", 4500, "--overwrite") == 2  # one line is too short, as was asked for
    assert len(read_manifest(tmp_path / "good.tsv")) == 1


@pytest.mark.parametrize(
    ("tool", "arguments", "other"),
    [
        ("perturb_speed", ["--manifest"], ["--factors", "0.8"]),
        ("pack", [], ["--max-gib", "1"]),
    ],
)
def test_copies_of_a_corpus_are_their_commands_own(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tool: str, arguments: list[str], other: list[str]
) -> None:
    out = tmp_path / "new" / "more.tsv"
    command = [tool, *arguments, corpus, "--out", out]
    assert run_with(*command) == 0
    before = contents(tmp_path)
    assert run_with(*command) == 0
    assert contents(tmp_path) == before
    capsys.readouterr()
    assert run_with(*command, *other) == 2
    assert "more.tsv: exists already, made with other settings" in last_error(capsys)
    # The copies of other recordings would otherwise be taken for these.
    soundfile.write(tmp_path / "audio" / "train9.wav", soundfile.read(tmp_path / "audio" / "train0.wav")[0], RATE)
    write_manifest(tmp_path / "second.tsv", tmp_path / "audio", [("train9.wav", 4000)])
    assert run_with(tool, *arguments, tmp_path / "second.tsv", "--out", out) == 2
    assert "made with other settings (manifest" in last_error(capsys)
    assert run_with(tool, *arguments, corpus, "--out", corpus) == 2
    assert "train.tsv: is what this command reads" in last_error(capsys)
    assert {key: value for key, value in contents(tmp_path).items() if key in before} == before
    assert run_with(*command, *other, "--overwrite") == 0
    assert (out.parent / "more.tsv.settings.json").read_bytes() != before["new/more.tsv.settings.json"]


def test_a_language_model_is_trained_once_and_replaced_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "lmplz"
    fake.write_text('#!/bin/sh\nwhile [ "$1" != --arpa ]; do shift; done\ndate +%N > "$2"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    (tmp_path / "text").write_text("A CAT\n")
    command = ["train_lm", tmp_path / "text", "--out", tmp_path / "words.arpa"]
    assert run_with(*command) == 0
    before = contents(tmp_path)
    assert run_with(*command) == 0
    assert "made before from the same text and settings" in capsys.readouterr().out
    (tmp_path / "text").write_text("A HAT\n")
    assert run_with(*command, "--order", 3) == 2
    assert "words.arpa: exists already, made with other settings (text, order)" in one_line_error(capsys)
    assert run_with("train_lm", tmp_path / "text", "--out", tmp_path / "text", "--overwrite") == 2
    assert "text: is what this command reads" in one_line_error(capsys)
    assert contents(tmp_path)["words.arpa"] == before["words.arpa"]
    assert run_with(*command, "--overwrite") == 0
    assert contents(tmp_path)["words.arpa"] != before["words.arpa"]


def test_a_plan_replaces_neither_its_recipe_nor_another_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "plan.yaml"
    recipe.write_text("model: {}\n")
    write_plan = exit_on_input_error(plan.write_plan)

    def written(text: str, path: Path, *, overwrite: bool = False) -> int:
        return write_plan(argparse.Namespace(config=recipe, out=path, overwrite=overwrite), text)

    assert written("plan", recipe, overwrite=True) == 2
    assert "recipe.yaml: is what this command reads" in one_line_error(capsys)
    assert written("plan", out) == written("plan", out) == 0
    assert written("other", out) == 2
    assert "plan.yaml: is another plan" in one_line_error(capsys)
    assert out.read_text() == "plan"
    assert written("other", out, overwrite=True) == 0
    assert (out.read_text(), recipe.read_text()) == ("other", "model: {}\n")


def test_a_folder_of_somebody_else_is_not_taken_for_copies(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for extra in ([], ["--overwrite"]):
        # The copies of "audio.tsv" would go into the folder "audio", where the recordings are.
        assert run_with("perturb_speed", "--manifest", corpus, "--out", tmp_path / "audio.tsv", *extra) == 2
        assert "audio" in last_error(capsys)
    assert len(list((tmp_path / "audio").iterdir())) == 2


def test_rescored_lists_do_not_replace_what_they_are_made_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nbest = tmp_path / "decoded" / "nbest.jsonl"
    nbest.parent.mkdir()
    hypotheses = [{"text": text, "acoustic": 0.0, "lm": 0.0, "total": -rank} for rank, text in enumerate(("A", "B"))]
    nbest.write_text(json.dumps({"id": "u", "nbest": hypotheses}) + "\n")
    write_trn(nbest.with_name("ref.trn"), {"u": "B"})
    write_trn(nbest.with_name("hyp.trn"), {"u": "A"})
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm" / "config.json").write_text("{}")

    class Model:
        network = SimpleNamespace(to=lambda device: None)

    monkeypatch.setattr("ccc_w2v.lm.rescore.load_transformers_lm", lambda path: Model())
    monkeypatch.setattr(
        "ccc_w2v.lm.rescore.log_probabilities", lambda model, texts: [9.0 * (text == "B") for text in texts]
    )
    options = {"nbest": nbest, "lm": tmp_path / "lm"}
    before = contents(tmp_path)
    assert run_tool("rescore", **options, out=nbest.parent) == 2
    assert "nbest.jsonl: is what this command reads" in one_line_error(capsys)
    assert contents(tmp_path) == before
    assert run_tool("rescore", **options, out=tmp_path / "new") == run_tool("rescore", **options, out=tmp_path / "new")
    assert (tmp_path / "new" / "hyp.trn").read_text() == "B (u)\n"
    assert (tmp_path / "new" / "ref.trn").read_text() == "B (u)\n"  # the folder can be compared and reported as it is
    assert run_with("report", tmp_path / "new", "--out", tmp_path / "new" / "report.html") == 0
    capsys.readouterr()
    assert run_tool("rescore", **options, out=tmp_path / "new", weight=0) == 2
    assert "made with other settings (weight)" in one_line_error(capsys)
    assert run_with("rescore", *as_arguments(**options, out=tmp_path / "new", weight=0), "--overwrite") == 0
    assert (tmp_path / "new" / "hyp.trn").read_text() == "A (u)\n"
    assert not (tmp_path / "new" / "report.html").exists()
