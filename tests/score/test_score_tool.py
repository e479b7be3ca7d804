"""ccc-w2v score: one set of numbers in the table and in the file, and how it says no."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import ccc_w2v
from tests.run_tool import as_arguments, one_line_error, run_tool, run_with

REFERENCE = "the cat sat (s1-1)\non mats (s1-2)\nyes (s2-1)\n"
HYPOTHESIS = "oh yes (s2-1)\nThe hat (s1-1)\non mats (s1-2)\n"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    paths = {"ref": tmp_path / "ref.trn", "hyp": tmp_path / "hyp.trn"}
    paths["ref"].write_text(REFERENCE)
    paths["hyp"].write_text(HYPOTHESIS)
    return paths


def scored(files: dict[str, Path], **options: object) -> dict:
    report = files["ref"].with_name("score.json")
    assert run_with("score", *as_arguments(**files, json=report, **options), "--overwrite") == 0
    return json.loads(report.read_text())


def test_the_file_holds_the_tables_numbers(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    report = scored(files, normalize="librispeech")
    # THE CAT SAT / THE HAT: one word wrong, one missing; YES / OH YES: one too many.
    assert report["wer"] | {"interval": None} == {
        "units": 6,
        "substitutions": 1,
        "deletions": 1,
        "insertions": 1,
        "rate": 0.5,
        "interval": None,
    }
    assert (report["cer"]["units"], report["cer"]["rate"]) == (18, pytest.approx(6 / 18))
    assert report["ser"] == pytest.approx(2 / 3)
    assert report["utterances"] == 3
    assert report["wer"]["interval"][0] <= 0.5 <= report["wer"]["interval"][1]
    printed = capsys.readouterr().out
    for name in ("wer", "cer"):
        low, high = report[name]["interval"]
        assert f"{report[name]['rate']:.2%}   {low:.2%} to {high:.2%}" in printed
    assert "66.67% of 3 utterances" in printed
    assert f"normalisation: librispeech; scored by ccc-w2v {ccc_w2v.__version__}, rapidfuzz" in printed
    assert report["version"] in printed


def test_normalisation_is_stated_and_done(files: dict[str, Path]) -> None:
    report = scored(files)
    assert report["normalization"] == "none"
    assert report["wer"]["substitutions"] == 2  # The / the


def test_a_seed_repeats_and_speakers_widen(files: dict[str, Path]) -> None:
    utterances = [f"{speaker}-{index}" for speaker in range(10) for index in range(20)]
    files["ref"].write_text("".join(f"A B C D ({utterance})\n" for utterance in utterances))
    wrong = {utterance: "A B X D" if utterance < "5" else "A B C D" for utterance in utterances}
    files["hyp"].write_text("".join(f"{text} ({utterance})\n" for utterance, text in wrong.items()))
    speakers = files["ref"].with_name("utt2spk")
    speakers.write_text("".join(f"{utterance} {utterance.split('-')[0]}\n" for utterance in utterances))
    single, again = (scored(files, seed=1)["wer"]["interval"] for _ in range(2))
    assert single == again
    assert single[0] < 0.125 < single[1]
    grouped = scored(files, groups=speakers, seed=1)
    assert grouped["bootstrap"] == {"of": "speakers", "count": 10, "level": 0.95, "resamples": 10000, "seed": 1}
    low, high = grouped["wer"]["interval"]
    assert high - low > 2 * (single[1] - single[0])


def test_parts_add_up_to_the_whole(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    (files["ref"].with_name("utt2spk")).write_text("s1-1 s10\ns1-2 s10\ns2-1 s9\n")
    (files["ref"].with_name("snr")).write_text("s1-1 5dB\ns1-2 20dB\ns2-1 20dB\n")
    maps = {"groups": files["ref"].with_name("utt2spk"), "conditions": files["ref"].with_name("snr")}
    report = scored(files, normalize="librispeech", **maps)
    assert list(report["by_speaker"]) == ["s9", "s10"]
    assert list(report["by_condition"]) == ["5dB", "20dB"]
    assert list(report["by_length"]) == ["0-5 words"]
    assert report["by_speaker"]["s9"]["rate"] == 1.0
    assert report["by_speaker"]["s10"] | {"interval": None} == {
        "utterances": 2,
        "ser": 0.5,
        "units": 5,
        "substitutions": 1,
        "deletions": 1,
        "insertions": 0,
        "rate": 0.4,
        "interval": None,
    }
    assert report["by_condition"]["5dB"]["interval"] is None  # one speaker
    for parts in ("by_speaker", "by_condition", "by_length"):
        for key in ("units", "substitutions", "deletions", "insertions"):
            assert sum(part[key] for part in report[parts].values()) == report["wer"][key]
    assert report["confusions"]["insertions"] == [["OH", 1]]
    assert report["confusions"]["deletions"] == [["CAT", 1]]
    assert report["confusions"]["substitutions"] == [["SAT", "HAT", 1]]
    printed = capsys.readouterr().out
    assert "WER by speaker\ns9 " in printed
    assert "most frequent substitutions: SAT -> HAT (1)" in printed


def test_one_utterance_has_no_interval(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    files["ref"].write_text("A B (x)\n")
    files["hyp"].write_text("A (x)\n")
    assert scored(files)["wer"]["interval"] is None
    assert "50.00%   none: too little data" in capsys.readouterr().out


def test_refusals_are_one_line(files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "score.json"

    def refused(**options: object) -> str:
        assert run_tool("score", **{**files, "json": report, **options}) == 2
        assert not report.exists()
        return one_line_error(capsys)

    assert "unknown normalisation 'hub4'; available: none, librispeech, hub5" in refused(normalize="hub4")
    assert "none.trn: no such .trn file" in refused(hyp=tmp_path / "none.trn")
    assert "none: no such speaker map" in refused(groups=tmp_path / "none")
    assert "none: no such condition map" in refused(conditions=tmp_path / "none")
    assert "No such file or directory" in refused(json=tmp_path / "no" / "folder.json")
    files["hyp"].write_text("A (s1-1)\n")
    assert "2 of 3 utterances have no hypothesis: s1-2, s2-1" in refused()
    files["hyp"].write_text(HYPOTHESIS + "B (s9)\n")
    assert "1 of 4 utterances have no reference: s9" in refused()
    files["hyp"].write_text(HYPOTHESIS + "B (s1-1)\n")
    assert "hyp.trn:4: utterance 's1-1' was on line 2 already" in refused()
    files["hyp"].write_text("")
    assert "hyp.trn: holds no utterance" in refused()


def test_no_error_has_an_interval_by_a_rule_that_is_named(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    files["hyp"].write_text(REFERENCE)
    report = scored(files)
    assert report["wer"]["interval"] == [0.0, pytest.approx(3.8415 / (6 + 3.8415), abs=1e-4)]
    assert report["wer"]["interval_rule"] == "Wilson"
    assert "0.00%   0.00% to 39.03% (Wilson: all err alike)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("hypothesis", "hint"),
    [
        (REFERENCE.upper().replace("(S", "(s"), "100% of the word errors are differences of case alone"),
        ("The cat, sat. (s1-1)\nOn mats! (s1-2)\nYes? (s2-1)\n", "are differences of case and punctuation alone"),
        ("a dog ran (s1-1)\nON carpets (s1-2)\nno (s2-1)\n", None),
        (REFERENCE, None),
    ],
)
def test_a_difference_of_spelling_is_hinted_at(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str], hypothesis: str, hint: str | None
) -> None:
    files["hyp"].write_text(hypothesis)
    report, printed = scored(files), capsys.readouterr().out
    if hint:
        assert hint in report["hint"]
        assert f"hint: {report['hint']}" in printed
    else:
        assert "hint" not in report
        assert "hint" not in printed
    assert "hint" not in scored(files, normalize="librispeech")
