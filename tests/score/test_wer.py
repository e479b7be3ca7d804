"""Counts against NIST sclite, and the .trn format's errors."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import editdistance
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ccc_w2v.data.labels import read_references
from ccc_w2v.data.manifest import read_manifest, write_manifest
from ccc_w2v.data.trn import read_trn, utterance_ids, write_trn
from ccc_w2v.errors import InputError
from ccc_w2v.score.wer import Counts, count_errors, score
from tests.score.nist import SCLITE, needs_sclite, utterance_pairs

SEQUENCE = st.lists(st.sampled_from("ABC"), max_size=12)


def sclite(folder: Path, references: dict[str, str], hypotheses: dict[str, str], *options: str) -> dict[str, Counts]:
    """Return sclite's counts of each utterance."""
    write_trn(folder / "ref.trn", references)
    write_trn(folder / "hyp.trn", hypotheses)
    files = ["-r", str(folder / "ref.trn"), "trn", "-h", str(folder / "hyp.trn"), "trn"]
    command = [*SCLITE, "-i", "wsj", "-s", *files, "-o", "pralign", "stdout", *options]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    scores = re.findall(r"^id: \((\S+)\)\nScores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)$", report, re.MULTILINE)
    return {
        utterance: Counts(int(substituted), int(deleted), int(inserted), int(correct) + int(substituted) + int(deleted))
        for utterance, correct, substituted, deleted, inserted in scores
    }


def sclite_cost(counts: Counts) -> int:
    return 4 * counts.substitutions + 3 * (counts.deletions + counts.insertions)


def assert_as_sclite(ours: dict[str, Counts], theirs: dict[str, Counts]) -> None:
    """The rule: the same counts on every utterance, or an alignment of the same cost with fewer errors (rare)."""
    assert ours.keys() == theirs.keys()
    ties = 0
    for utterance, counts in ours.items():
        other = theirs[utterance]
        assert counts.words == other.words
        assert sclite_cost(counts) == sclite_cost(other)
        if counts != other:
            ties += 1
            assert counts.errors < other.errors
    assert ties <= 0.1 * len(ours)


@needs_sclite
@given(seed=st.integers(0, 2**32), vocabulary=st.integers(2, 12), longest=st.integers(1, 25))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_word_counts_are_sclites(tmp_path: Path, seed: int, vocabulary: int, longest: int) -> None:
    references, hypotheses = utterance_pairs(seed, vocabulary, longest)
    assert_as_sclite(score(references, hypotheses).utterances, sclite(tmp_path, references, hypotheses))


@needs_sclite
@given(seed=st.integers(0, 2**32), vocabulary=st.integers(2, 12))
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_character_counts_are_sclites(tmp_path: Path, seed: int, vocabulary: int) -> None:
    references, hypotheses = utterance_pairs(seed, vocabulary, longest=6)
    assert_as_sclite(score(references, hypotheses, "char").utterances, sclite(tmp_path, references, hypotheses, "-c"))


@needs_sclite
def test_characters_beyond_ascii_are_sclites(tmp_path: Path) -> None:
    references, hypotheses = {"spk-1": "\u00c4RGER \u00dcBER \u00c9"}, {"spk-1": "ARGER \u00dcBE \u00c9E"}
    theirs = sclite(tmp_path, references, hypotheses, "-c", "-e", "utf-8")
    assert score(references, hypotheses, "char").utterances == theirs == {"spk-1": Counts(1, 1, 1, 10)}


@needs_sclite
def test_comments_blank_lines_and_case_are_sclites(tmp_path: Path) -> None:
    (tmp_path / "spoken.trn").write_text(";; a comment (x-1)\n\nA b (spk-1)\n(spk-2)\nC (D) (spk-3)\n")
    references = read_trn(tmp_path / "spoken.trn")
    assert references == {"spk-1": "A b", "spk-2": "", "spk-3": "C (D)"}
    hypotheses = {"spk-1": "A B", "spk-2": "E", "spk-3": "C (D)"}
    assert score(references, hypotheses).utterances == sclite(tmp_path, references, hypotheses)


@given(SEQUENCE, SEQUENCE)
def test_counts_are_those_of_an_alignment(reference: list[str], hypothesis: list[str]) -> None:
    counts = count_errors(reference, hypothesis)
    assert min(counts.substitutions, counts.deletions, counts.insertions) >= 0
    assert counts.words == len(reference)
    assert counts.insertions - counts.deletions == len(hypothesis) - len(reference)
    assert counts.substitutions + counts.deletions <= len(reference)
    assert counts.errors >= editdistance.eval(reference, hypothesis)
    mirrored = count_errors(hypothesis, reference)
    assert (counts.substitutions, counts.deletions, counts.insertions) == (
        mirrored.substitutions,
        mirrored.insertions,
        mirrored.deletions,
    )


def test_fewest_errors_at_equal_cost() -> None:
    # Three substitutions and a deletion cost sclite as much, 15, as three deletions and two insertions.
    assert count_errors("CCBBCAACA", "CAACBACA") == Counts(3, 1, 0, 9)
    # At unit costs two substitutions would do as well; here a deletion and an insertion are cheaper.
    assert count_errors("AB", "BC") == Counts(0, 1, 1, 2)


def test_known_score() -> None:
    references = {"a": "THE CAT SAT", "b": "ON MATS", "c": "YES"}
    hypotheses = {"a": "THE HAT", "b": "ON MATS", "c": "OH YES"}
    words, characters = score(references, hypotheses), score(references, hypotheses, "char")
    assert words.total == Counts(1, 1, 1, 6)
    assert list(words.utterances) == ["a", "b", "c"]
    assert words.error_rate == pytest.approx(3 / 6)
    assert words.sentence_error_rate == pytest.approx(2 / 3)
    assert characters.total == Counts(1, 3, 2, 18)


def test_a_space_is_no_character() -> None:
    assert score({"a": "AB C"}, {"a": "A BC"}, "char").total == Counts(0, 0, 0, 3)


def test_trn_survives_writing_and_reading(tmp_path: Path) -> None:
    texts = {"b-2": "A B", "a-1": "", "c": "IT'S (LAUGH)"}
    write_trn(tmp_path / "x.trn", texts)
    assert (tmp_path / "x.trn").read_text() == "A B (b-2)\n (a-1)\nIT'S (LAUGH) (c)\n"
    assert list(read_trn(tmp_path / "x.trn").items()) == list(texts.items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"A (x)\nB (y)\nC (x)\n", r"bad\.trn:3: utterance 'x' was on line 1 already"),
        (b"A (x)\n\nB y\n", r"bad\.trn:3: expected words \(utterance-id\), found 'B y'"),
        (b"A(x)\n", r"bad\.trn:1: expected words"),
        (b"A ()\n", r"bad\.trn:1: expected words"),
        (b"A (x y)\n", r"bad\.trn:1: expected words"),
        (b"{ A / B } C (x)\n", r"bad\.trn:1: '\{' marks alternatives"),
        (b";; only a comment\n\n", r"bad\.trn: holds no utterance"),
        (b"", r"bad\.trn: holds no utterance"),
        (b"\xff\xfe (x)\n", r"bad\.trn: not UTF-8 text"),
    ],
)
def test_trn_errors_name_file_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad.trn").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_trn(tmp_path / "bad.trn")


def test_missing_trn(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.trn: no such \.trn file"):
        read_trn(tmp_path / "none.trn")


def test_ids_must_match_both_ways() -> None:
    texts = {f"u{index}": "A" for index in range(5)}
    with pytest.raises(InputError, match=r"4 of 5 utterances have no hypothesis: u1, u2, u3, \.\.\.;"):
        score(texts, {"u0": "A"})
    with pytest.raises(InputError, match="1 of 6 utterances have no reference: extra;"):
        score(texts, {**texts, "extra": "B"})


def test_no_reference_words_no_rate() -> None:
    with pytest.raises(InputError, match="the references hold no words"):
        score({"a": ""}, {"a": "B"})
    assert score({"a": "", "b": "C"}, {"a": "B", "b": "C"}).total == Counts(0, 0, 1, 1)
    with pytest.raises(InputError, match="unknown unit 'phone'; available: word, char"):
        score({"a": "A"}, {"a": "A"}, "phone")


def test_ids_come_from_paths(tmp_path: Path) -> None:
    paths = ["84/121123/84-0001.flac", "84/0002.v1.wav", "b/archive.zip:44:900", "b/archive.zip:944:900"]
    write_manifest(tmp_path / "test.tsv", tmp_path, [(path, 400) for path in paths])
    expected = ["84-121123-84-0001", "84-0002.v1", "b-archive-44-900", "b-archive-944-900"]
    assert utterance_ids(read_manifest(tmp_path / "test.tsv")) == expected


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["a/b.wav", "c.wav", "a-b.flac"], r"test\.tsv:4: utterance id 'a-b' .* was on line 2 already"),
        (["a b.wav"], r"test\.tsv:2: 'a b\.wav' gives utterance id 'a b'"),
        (["a(1).wav"], r"test\.tsv:2: 'a\(1\)\.wav' gives utterance id 'a\(1\)'"),
    ],
)
def test_unusable_ids(tmp_path: Path, paths: list[str], message: str) -> None:
    write_manifest(tmp_path / "test.tsv", tmp_path, [(path, 400) for path in paths])
    with pytest.raises(InputError, match=message):
        utterance_ids(read_manifest(tmp_path / "test.tsv"))


def test_references_beside_the_manifest(tmp_path: Path) -> None:
    write_manifest(tmp_path / "test.tsv", tmp_path, [("a.wav", 400), ("b.wav", 400)])
    manifest = read_manifest(tmp_path / "test.tsv")
    assert read_references(manifest) is None
    (tmp_path / "test.wrd").write_text("A  B \n\n")
    assert read_references(manifest) == ["A B", ""]
    (tmp_path / "test.wrd").write_text("A B\n")
    with pytest.raises(InputError, match=r"test\.wrd: 1 lines for 2 utterances"):
        read_references(manifest)
