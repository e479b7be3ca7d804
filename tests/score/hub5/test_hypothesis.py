"""Utterances back into their recordings, and recordings or utterances that one side lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccc_w2v.data.cuts import Cut, write_cuts
from ccc_w2v.data.stm import IGNORED, Segment, Stm, TimedWord, write_ctm
from ccc_w2v.data.trn import write_trn
from ccc_w2v.errors import InputError
from ccc_w2v.score.hub5.hypothesis import read_hypothesis

SEGMENTS = (
    Segment("sw_1", "A", "sw_1_A", 1.0, 3.0, (), "a b c d", 1),
    Segment("sw_1", "A", "gap", 3.0, 4.0, (), IGNORED, 2),
    Segment("sw_1", "A", "sw_1_A", 4.0, 5.0, (), "e", 3),
    Segment("sw_1", "B", "sw_1_B", 0.5, 2.0, (), "f", 4),
)
STM = Stm("ref.stm", (), SEGMENTS)
CUTS = [
    Cut("u1", "SW_1", "a", 0.9, 3.1),
    Cut("u2", "sw_1", "A", 3.9, 5.1),
    Cut("u3", "sw_1", "B", 0.4, 2.1),
]
TEXTS = {"u1": "a b c d", "u2": "e", "u3": ""}


@pytest.fixture
def cuts(tmp_path: Path) -> Path:
    write_cuts(tmp_path / "cuts", CUTS)
    return tmp_path / "cuts"


def trn(folder: Path, texts: dict[str, str]) -> Path:
    write_trn(folder / "hyp.trn", texts)
    return folder / "hyp.trn"


def ctm(folder: Path, *words: TimedWord) -> Path:
    write_ctm(folder / "hyp.ctm", words)
    return folder / "hyp.ctm"


def test_words_without_times_lie_evenly_in_their_segment(tmp_path: Path, cuts: Path) -> None:
    words = read_hypothesis(trn(tmp_path, TEXTS), STM, cuts)
    assert [(word.word, word.channel.upper(), word.middle) for word in words] == [
        ("a", "A", 1.25),
        ("b", "A", 1.75),
        ("c", "A", 2.25),
        ("d", "A", 2.75),
        ("e", "A", 4.5),
        ("@", "B", 0.0),  # decoded and silent: a null word keeps the side in the file
    ]


def test_a_short_segment_keeps_its_words(tmp_path: Path) -> None:
    times = [(0.0, 4.0), (4.0, 4.1), (4.1, 9.0)]
    stm = Stm("ref.stm", (), tuple(Segment("sw_1", "A", "s", *ends, (), "x", 1) for ends in times))
    write_cuts(tmp_path / "cuts", (Cut(f"u{at}", "sw_1", "A", max(at - 0.1, 0), end + 0.1) for at, end in times))
    words = read_hypothesis(trn(tmp_path, {f"u{at}": "x" for at, _ in times}), stm, tmp_path / "cuts")
    assert [round(word.middle, 3) for word in words] == [2.0, 4.05, 6.55]


def test_words_with_times_are_moved_by_their_cuts_start(tmp_path: Path, cuts: Path) -> None:
    path = ctm(tmp_path, TimedWord("u1", "1", 0.5, 0.25, "a", 0.5), TimedWord("u3", "1", 0.0, 0.1, "f"))
    first, second = read_hypothesis(path, STM, cuts)
    assert first == TimedWord("SW_1", "a", 1.4, 0.25, "a", 0.5, 1)
    assert second == TimedWord("sw_1", "B", 0.4, 0.1, "f", None, 2)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"u1": "a", "u2": "b"}, r"hyp.trn: 1 of 3 utterances are missing: u3"),
        ({**TEXTS, "u4": ""}, r"cuts: 1 of 4 utterances are missing: u4"),
        ({**TEXTS, "u1": "a (b"}, r"the hypothesis holds '\(b', which is markup of references"),
        ({**TEXTS, "u1": "a/b"}, r"the hypothesis holds 'a/b', which is markup"),
    ],
)
def test_refuses_utterances_that_one_side_lacks(tmp_path: Path, cuts: Path, texts: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_hypothesis(trn(tmp_path, texts), STM, cuts)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ([*CUTS[:2], Cut("u3", "sw_2", "B", 0.4, 2.1)], "utterance 'u3' is of sw_2 channel B, of which ref.stm has no"),
        ([CUTS[0], Cut("u2", "sw_1", "A", 5.5, 6.0), CUTS[2]], "ref.stm:3: no utterance of .*cuts covers this segment"),
        ([Cut("u1", "sw_1", "A", 0.9, 5.1), *CUTS[1:]], "'u1' covers the segments of ref.stm:1 and of line [23]"),
        (
            [CUTS[0], CUTS[1], Cut("u3", "sw_1", "B", 0.4, 2.1), Cut("u4", "sw_1", "B", 7, 8)],
            "'u4' has words and lies in no",
        ),
    ],
)
def test_refuses_cuts_that_are_not_the_references(tmp_path: Path, changed: list[Cut], message: str) -> None:
    write_cuts(tmp_path / "cuts", changed)
    texts = {cut.utterance: "x" for cut in changed}
    with pytest.raises(InputError, match=message):
        read_hypothesis(trn(tmp_path, texts), STM, tmp_path / "cuts")


def test_refuses_times_of_unknown_utterances_and_recordings(tmp_path: Path, cuts: Path) -> None:
    word = TimedWord("u9", "1", 0.0, 0.1, "a")
    with pytest.raises(InputError, match=r"hyp.ctm:1: utterance 'u9' is not in .*cuts"):
        read_hypothesis(ctm(tmp_path, word), STM, cuts)
    with pytest.raises(
        InputError, match=r"u9 channel 1 has words in the hypothesis \(line 1\) and no segment in ref.stm"
    ):
        read_hypothesis(ctm(tmp_path, word), STM)
    with pytest.raises(InputError, match=r"ref.stm:4: the hypothesis has no word of sw_1 channel B \(1 of 2 sides"):
        read_hypothesis(ctm(tmp_path, TimedWord("sw_1", "A", 0.0, 0.1, "a")), STM)
    with pytest.raises(InputError, match=r"utterances without times; add --segments"):
        read_hypothesis(trn(tmp_path, TEXTS), STM)


def test_a_side_that_is_ignored_may_be_missing(tmp_path: Path) -> None:
    ignored = Segment("sw_2", "A", "x", 0.0, 9.0, (), IGNORED.lower(), 5)
    words = [TimedWord("sw_1", side, 1.0, 0.1, "a") for side in "AB"]
    read = read_hypothesis(ctm(tmp_path, *words), Stm("ref.stm", (), (*SEGMENTS, ignored)))
    assert [word.word for word in read] == ["a", "a"]
