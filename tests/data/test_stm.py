"""NIST's .stm and .ctm: what is read, that what is written is read again, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccc_w2v.data.stm import Definition, Segment, TimedWord, read_ctm, read_stm, write_ctm, write_stm
from ccc_w2v.errors import InputError

STM = """\
;; CATEGORY "0" "" ""
;; LABEL "SW" "Switchboard" "Hub5'00, the half from Switchboard"
;; a remark
sw_1 A sw_1_A 0.50 2.25 <O,SW>\tyeah {i / @}  (%hesitation) know

sw_1 B sw_1_B 1 3.5 no labels here
en_2 A en_2_A 0 4 <O,EN> Ignore_Time_Segment_In_Scoring
en_2 A en_2_A 4 4.5 <O,EN>
"""
CTM = """\
;; a remark
sw_1 A 0.50 0.20 yeah 0.9
sw_1 A 0.80 0.20 i
sw_1 B 1.00 0.25 no NA lex spk
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "file"
    path.write_bytes(text.encode())
    return path


def test_reads_segments_labels_and_definitions(tmp_path: Path) -> None:
    stm = read_stm(written(tmp_path, STM))
    assert stm.definitions[1] == Definition("LABEL", "SW", "Switchboard", "Hub5'00, the half from Switchboard")
    assert stm.titles() == {"SW": "Switchboard"}
    assert stm.segments == (
        Segment("sw_1", "A", "sw_1_A", 0.5, 2.25, ("O", "SW"), "yeah {i / @} (%hesitation) know", 4),
        Segment("sw_1", "B", "sw_1_B", 1, 3.5, (), "no labels here", 6),
        Segment("en_2", "A", "en_2_A", 0, 4, ("O", "EN"), "Ignore_Time_Segment_In_Scoring", 7),
        Segment("en_2", "A", "en_2_A", 4, 4.5, ("O", "EN"), "", 8),
    )
    assert [segment.ignored for segment in stm.segments] == [False, False, True, False]
    assert stm.where(stm.segments[1]) == f"{tmp_path / 'file'}:6"


def test_reads_words_with_and_without_confidence(tmp_path: Path) -> None:
    assert read_ctm(written(tmp_path, CTM)) == [
        TimedWord("sw_1", "A", 0.5, 0.2, "yeah", 0.9, 2),
        TimedWord("sw_1", "A", 0.8, 0.2, "i", None, 3),
        TimedWord("sw_1", "B", 1.0, 0.25, "no", None, 4),
    ]


MILLISECONDS = st.integers(0, 10**7).map(lambda value: value / 1000)
NAMES = st.from_regex(r"[A-Za-z0-9_-]+", fullmatch=True)
TEXTS = st.lists(st.sampled_from(["a", "{", "/", "}", "@", "(x)", "[noise]", "b-", "O'CLOCK"])).map(" ".join)


@given(
    st.lists(st.tuples(NAMES, NAMES, NAMES, MILLISECONDS, MILLISECONDS, st.lists(NAMES, max_size=3), TEXTS), min_size=1)
)
def test_segments_come_back(tmp_path_factory: pytest.TempPathFactory, drawn: list) -> None:
    path = tmp_path_factory.getbasetemp() / "segments.stm"
    segments = [
        Segment(recording, channel, speaker, min(times), max(times), tuple(labels), text, line)
        for line, (recording, channel, speaker, *times, labels, text) in enumerate(drawn, start=2)
    ]
    definition = Definition("LABEL", "O", "Overall", "")
    write_stm(path, segments, [definition])
    stm = read_stm(path)
    assert (stm.definitions, stm.segments) == ((definition,), tuple(segments))


def test_words_come_back_in_the_order_of_time(tmp_path: Path) -> None:
    late, early = TimedWord("a", "A", 2.0, 0.5, "two", 0.5), TimedWord("a", "A", 1.0, 0.5, "one")
    write_ctm(tmp_path / "x.ctm", [TimedWord("b", "A", 0.0, 0.1, "b"), TimedWord("a", "B", 0.0, 0.1, "c"), late, early])
    assert [timed.word for timed in read_ctm(tmp_path / "x.ctm")] == ["one", "two", "c", "b"]
    assert (tmp_path / "x.ctm").read_text().splitlines()[1] == "a A 2.000 0.500 two 0.5000"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no segment"),
        (";; only a remark\n", "holds no segment"),
        ("a A spk 0\n", "file:1: expected recording channel speaker start end"),
        ("a A spk 0 1 x\na A spk 0 one x\n", "file:2: expected a time in seconds, found 'one'"),
        ("a A spk nan 1 x\n", "file:1: expected a time in seconds, found 'nan'"),
        ("a A spk -1 1 x\n", "file:1: '-1' is before the recording's start"),
        ("a A spk 2 1 x\n", "file:1: the segment ends at 1 s before it starts at 2 s"),
        ("a A spk 0 1 x\r\n", "file:1: Windows line ends"),
    ],
)
def test_refuses_a_broken_stm(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_stm(written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n", "holds no word"),
        ("a A 0 1\n", "file:1: expected recording channel start duration word"),
        ("a A 0 1 x 0.5 lex spk more\n", "file:1: expected recording channel start duration word"),
        ("a A * * <ALT_BEGIN>\n", "file:1: <ALT_BEGIN> marks alternatives"),
        ("a A 0 1 x high\n", "file:1: expected a confidence, found 'high'"),
        ("a A 0 1 x\na A 0 1 x\r\n", "file:2: Windows line ends"),
    ],
)
def test_refuses_a_broken_ctm(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_ctm(written(tmp_path, text))


def test_names_a_missing_and_a_binary_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none: no such \.stm file"):
        read_stm(tmp_path / "none")
    (tmp_path / "file").write_bytes(b"a A s 0 1 caf\xe9\n")
    with pytest.raises(InputError, match="not UTF-8 text"):
        read_stm(tmp_path / "file")
