"""ccc-w2v compare: rates as ccc-w2v score's, which differences it marks, and how it says no."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from ccc_w2v.data.trn import write_trn
from tests.run_tool import as_arguments, run_with


def compare(*systems: object, **options: object) -> int:
    """Run ccc-w2v compare SYSTEM ... --option value ... and return its exit code."""
    return run_with("compare", *systems, *as_arguments(**options))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three decodings of 200 utterances: one at 10 % errors, one like it, one at 20 %."""
    draw, root = random.Random(0), tmp_path_factory.mktemp("systems")
    words = [f"W{index}" for index in range(30)]
    references = {f"u{index}": " ".join(draw.choices(words, k=12)) for index in range(200)}

    def heard(text: str, rate: float) -> str:
        return " ".join("WRONG" if draw.random() < rate else word for word in text.split())

    for name, rate in (("a", 0.1), ("b", 0.1), ("c", 0.2)):
        (root / name).mkdir()
        write_trn(root / name / "ref.trn", references)
        write_trn(root / name / "hyp.trn", {key: heard(text, rate) for key, text in references.items()})
    return [root / name for name in "abc"]


def test_marks_what_holds(folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(*folders, json=tmp_path / "compared.json") == 0
    report, printed = json.loads((tmp_path / "compared.json").read_text()), capsys.readouterr().out
    assert [pair["holds"] for pair in report["pairs"]] == [False, True, True]
    assert printed.count("yes *") == 2
    for pair in report["pairs"]:
        for test in ("bootstrap", "matched_pairs"):
            assert pair[test]["p"] <= pair[f"{test}_p_adjusted"] <= 1
        rates = [report["systems"][pair[side]]["rate"] for side in ("a", "b")]
        assert pair["bootstrap"]["value"] == pytest.approx(rates[0] - rates[1])
    for folder in folders:
        options = {"ref": folder / "ref.trn", "hyp": folder / "hyp.trn", "json": tmp_path / "score.json"}
        assert run_with("score", *as_arguments(**options), "--overwrite") == 0
        assert report["systems"][str(folder)] == json.loads((tmp_path / "score.json").read_text())["wer"]
    assert "after Holm's adjustment for 3 comparisons" in printed
    assert "normalisation: none" in printed


def test_two_speakers_hold_less_than_two_hundred_utterances(folders: list[Path], tmp_path: Path) -> None:
    speakers = tmp_path / "utt2spk"
    speakers.write_text("".join(f"u{index} {'ab'[index % 2]}\n" for index in range(200)))
    assert compare(folders[0], folders[2], groups=speakers, json=tmp_path / "c.json") == 0
    report = json.loads((tmp_path / "c.json").read_text())
    assert report["bootstrap"]["of"] == "speakers"
    assert len(set(report["pairs"][0]["bootstrap"]["interval"])) == 2


def test_equal_and_scarce_systems_hold_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in (("ref", "A B C"), ("a", "A B C"), ("b", "X B C")):
        write_trn(tmp_path / f"{name}.trn", {"u1": text})
    assert compare(tmp_path / "a.trn", tmp_path / "b.trn", ref=tmp_path / "ref.trn") == 0
    assert "  no " in capsys.readouterr().out


def test_refusals_are_one_line(folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*systems: object, **options: object) -> str:
        assert compare(*systems, json=tmp_path / "no.json", **options) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("error: ")
        assert captured.err.count("\n") == 1
        assert not (tmp_path / "no.json").exists()
        return captured.err

    assert "expected two or more, each once" in refused(folders[0])
    assert "expected two or more, each once" in refused(folders[0], folders[0])
    hypothesis = folders[0] / "hyp.trn"
    assert "a file without references; name them with --ref" in refused(hypothesis, folders[1] / "hyp.trn")
    (tmp_path / "other").mkdir()
    write_trn(tmp_path / "other" / "ref.trn", {"u0": "A"})
    assert "other references than" in refused(folders[0], tmp_path / "other")
    assert "utterances have no hypothesis" in refused(
        hypothesis, tmp_path / "other" / "ref.trn", ref=folders[0] / "ref.trn"
    )
    assert "none.trn: no such .trn file" in refused(hypothesis, tmp_path / "none.trn", ref=folders[0] / "ref.trn")
