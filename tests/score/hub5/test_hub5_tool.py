"""ccc-w2v score --standard hub5: NIST's numbers and ours in table and file, what made them, and how it says no."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from unittest import mock

import pytest

from ccc_w2v.data.cuts import Cut, write_cuts
from ccc_w2v.data.decoding import SETTINGS
from ccc_w2v.data.stm import read_ctm, read_stm
from ccc_w2v.data.trn import write_trn
from ccc_w2v.score.hub5 import sclite
from ccc_w2v.score.hub5.align import side
from ccc_w2v.score.wer import Counts
from tests.run_tool import one_line_error, run_tool, run_with
from tests.score.hub5.pairs import GLM, STORED, stored_pairs
from tests.score.nist import needs_sclite

STM = """\
;; LABEL "SW" "Switchboard" ""
sw_1 A sw_1_A 0 2 <O,SW> I'd (uh) gonna go
sw_1 B sw_1_B 0 2 <O,SW> yes
en_2 A en_2_A 0 1 <O,EN> well-known
en_2 A en_2_A 1 9 <O,EN> ignore_time_segment_in_scoring
"""
CTM = """\
sw_1 A 0.1 0.2 i
sw_1 A 0.3 0.2 had
sw_1 A 0.5 0.2 going
sw_1 A 0.7 0.2 to
sw_1 A 0.9 0.2 STOP
sw_1 B 0.1 0.2 [noise]
en_2 A 0.1 0.2 known
en_2 A 2.0 0.2 whatever
"""


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    paths = {"stm": tmp_path / "ref.stm", "hyp": tmp_path / "hyp.ctm", "glm": tmp_path / "x.glm"}
    for name, text in (("stm", STM), ("hyp", CTM), ("glm", GLM.read_text())):
        paths[name].write_text(text)
    return paths


def scored(files: dict[str, Path], **options: object) -> dict:
    report = files["stm"].with_name("score.json")
    report.unlink(missing_ok=True)  # of another hypothesis, which a score does not replace
    assert run_tool("score", standard="hub5", json=report, **files, **options) == 0
    return json.loads(report.read_text())


def counts(row: dict) -> Counts:
    return Counts(*(row[key] for key in ("substitutions", "deletions", "insertions", "units")))


@needs_sclite
def test_sclites_numbers_and_ours_stand_side_by_side(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    report = scored(files)
    # I HAD (%HESITATION) GOING TO GO / ... STOP; YES / nothing; WELL KNOWN / KNOWN
    assert counts(report["wer"]) == counts(report["wer"]["sclite"]) == Counts(1, 2, 0, 9)
    assert report["differences"] == {"segments": 0, "ties": 0, "examples": []}
    assert report["sclite"] == sclite.version()
    assert report["sclite"].startswith("sclite 2.")
    printed = capsys.readouterr().out
    assert "overall                        9       1       2       0    33.33%          9       1" in printed
    assert "differ in 0 of 3 segments" in printed
    assert f"and {report['sclite']}\n" in printed
    assert "rules: GLM on both sides, hyphens part words, a-z without case" in printed


def test_without_sclite_it_says_so(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    with mock.patch.object(sclite, "installed", return_value=False):
        report = scored(files)
    assert counts(report["wer"]) == Counts(1, 2, 0, 9)
    assert report["wer"]["sclite"] is report["sclite"] is report["differences"] is None
    assert "NIST sclite is not installed (Debian package sctk): these are our counts alone" in capsys.readouterr().out


def test_a_difference_is_shown(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    other = [(Counts(1, 0, 0, 7), []), (Counts(0, 1, 0, 1), []), (Counts(1, 1, 0, 2), [])]
    with mock.patch.multiple(sclite, installed=lambda: True, run_sclite=lambda *_: other, version=lambda: "sclite 0"):
        report = scored(files)
    assert (report["differences"]["segments"], report["differences"]["ties"]) == (3, 0)
    assert "ref.stm:4: sclite S 1 D 0 I 0 of 7, ours S 0 D 1 I 0 of 2" in capsys.readouterr().out


def test_parts_add_up_to_the_whole(files: dict[str, Path]) -> None:
    files = {**files, "stm": STORED / "pairs.stm", "hyp": STORED / "pairs.ctm"}
    report = files["glm"].with_name("score.json")
    assert run_tool("score", standard="hub5", json=report, **files) == 0
    result = json.loads(report.read_text())
    expected = sum(stored_pairs()[2], Counts(0, 0, 0, 0))
    assert counts(result["wer"]) == expected
    assert list(result["by_corpus"]) == ["CallHome", "Switchboard"]
    assert list(result["by_label"]) == ["O Overall", "EN CallHome", "SW Switchboard"]
    assert len(result["by_speaker"]) == 8
    for parts in ("by_corpus", "by_speaker"):
        assert sum(map(counts, result[parts].values()), Counts(0, 0, 0, 0)) == expected
    low, high = result["wer"]["interval"]
    assert low < result["wer"]["rate"] < high
    assert result["bootstrap"]["of"] == "conversation sides"


def test_the_result_says_what_made_it(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"checkpoint": "abc", "beam": "50", "lm": "def", "lm_weight": "2.0"}
    files["hyp"].with_name(SETTINGS).write_text(json.dumps(settings))
    report = scored(files)
    for name, path in (("reference", files["stm"]), ("glm", files["glm"]), ("hypothesis", files["hyp"])):
        assert report["files"][name] == {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert report["decoding"]["lm_weight"] == "2.0"
    printed = capsys.readouterr().out
    assert "checkpoint abc, beam 50, lm def, lm_weight 2.0" in printed
    assert f"glm: {files['glm']}, sha256 {report['files']['glm']['sha256']}" in printed


def test_utterances_score_as_their_recordings(files: dict[str, Path], tmp_path: Path) -> None:
    expected = scored(files, ctm_out=tmp_path / "out.ctm")["wer"]
    written = read_ctm(tmp_path / "out.ctm")
    assert [word.word for word in written if side(word) == ("sw_1", "a")] == ["i", "had", "going", "to", "STOP"]
    cuts = [
        Cut(f"u{segment.line}", segment.recording, segment.channel, max(segment.start - 0.1, 0), segment.end + 0.1)
        for segment in read_stm(files["stm"]).segments
    ]
    write_cuts(tmp_path / "cuts", cuts)
    write_trn(tmp_path / "hyp.trn", {"u2": "i had going to STOP", "u3": "", "u4": "known", "u5": "whatever"})
    result = scored({**files, "hyp": tmp_path / "hyp.trn"}, segments=tmp_path / "cuts")
    assert counts(result["wer"]) == counts(expected)
    assert result["files"]["segments"]["path"] == str(tmp_path / "cuts")
    # sw_1 B is silent here: sclite agrees that its word is deleted.
    assert result["by_speaker"]["sw_1_B"]["deletions"] == 1
    assert (result["differences"] or {}).get("segments") == (0 if sclite.installed() else None)


def test_a_ctm_that_is_there_is_not_replaced_unasked(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    other = files["hyp"].with_name("other.ctm")
    other.write_text("other work")
    options = ["--standard", "hub5", "--ctm-out", other, *(word for key in files for word in (f"--{key}", files[key]))]
    assert run_with("score", *options) == 2
    assert "other.ctm: exists already; name another --ctm-out, or give --overwrite" in one_line_error(capsys)
    assert other.read_text() == "other work"
    assert run_with("score", *options, "--overwrite") == 0
    assert read_ctm(other)


def test_refusals_are_one_line(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    report = files["stm"].with_name("score.json")

    def refused(name: str, text: str) -> str:
        before = files[name].read_text()
        files[name].write_bytes(text.encode())
        assert run_tool("score", standard="hub5", json=report, **files) == 2
        files[name].write_text(before)
        assert not report.exists()
        return one_line_error(capsys)

    assert "ref.stm: holds no segment" in refused("stm", "")
    assert "ref.stm: holds no word that counts" in refused(
        "stm", "".join(f"{key} 0 9\n" for key in ("sw_1 A s", "sw_1 B s", "en_2 A s"))
    )
    assert "ref.stm:1: Windows line ends" in refused("stm", STM.replace("\n", "\r\n"))
    assert "ref.stm:3: braces not closed" in refused("stm", STM.replace("yes", "{ yes / no"))
    assert "ref.stm:3: parentheses" in refused("stm", STM.replace("yes", "(yes"))
    assert "ref.stm:2: a brace inside of the word" in refused("stm", STM.replace("I'd", "(I'd)"))
    assert "hyp.ctm: holds no word" in refused("hyp", "")
    assert "hyp.ctm:1: Windows line ends" in refused("hyp", CTM.replace("\n", "\r\n"))
    assert "sw_9 channel A has words in the hypothesis (line 9)" in refused("hyp", CTM + "sw_9 A 0 1 x\n")
    assert "ref.stm:3: the hypothesis has no word of sw_1 channel B" in refused("hyp", CTM.replace("sw_1 B", "sw_1 A"))
    assert "the hypothesis holds '(stop)' (line 5)" in refused("hyp", CTM.replace("STOP", "(stop)"))
    assert "x.glm:42: no '=>' in 'A B'" in refused("glm", GLM.read_text() + "A B\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"standard": "hub5", "stm": "x"}, "expected --glm"),
        ({"standard": "hub5", "stm": "x", "glm": "x", "ref": "x"}, "--ref does not go with --standard hub5"),
        ({"standard": "hub5", "stm": "x", "glm": "x", "normalize": "hub5"}, "no use for --normalize"),
        ({"ref": "x", "ctm_out": "x"}, "--ctm-out does not go without --standard hub5"),
        ({}, "expected --ref"),
    ],
)
def test_options_that_would_be_idle(options: dict, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_tool("score", hyp="x", **options)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
