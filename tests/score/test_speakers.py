"""Units of the bootstrap: from ids as corpora and ccc-w2v decode write them, from folders, from a map."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccc_w2v.data.manifest import read_manifest, write_manifest
from ccc_w2v.data.trn import utterance_ids
from ccc_w2v.errors import InputError
from ccc_w2v.score.speakers import units


@pytest.mark.parametrize("utterance", ["1089-134686-0000", "test-clean-1089-134686-1089-134686-0000"])
def test_librispeech_ids_begin_with_the_reader(utterance: str) -> None:
    speakers = units("librispeech", [utterance, "121-123852-0001", utterance.replace("134686", "134691")])
    assert (speakers.names, speakers.of, speakers.count) == (("1089", "121", "1089"), "speakers", 2)


@pytest.mark.parametrize(
    ("utterance", "side"),
    [
        ("sw02001-A_000098-001156", "sw02001-A"),
        ("swb1-sw02001-B_000098-001156", "sw02001-B"),
        ("en_4156-A_030185-030248", "en_4156-A"),
        ("sw_4390-B_014265-014301", "sw_4390-B"),
        ("fsh_60262-A_000345-000789", "fsh_60262-A"),
        ("fe_03_00001-B-000345-000789", "fe_03_00001-B"),
        ("eval2000-en_4156A", "en_4156A"),
    ],
)
def test_conversation_sides(utterance: str, side: str) -> None:
    speakers = units("switchboard", [utterance])
    assert (speakers.names, speakers.of) == ((side,), "conversation sides")


@pytest.mark.parametrize(
    ("scheme", "utterance"),
    [("librispeech", "1089-134686"), ("librispeech", "a-b-0000"), ("switchboard", "sw02001_000098-001156")],
)
def test_another_scheme_is_named(scheme: str, utterance: str) -> None:
    with pytest.raises(InputError, match=f"'{utterance}' is not of the scheme {scheme}, as"):
        units(scheme, [utterance])


def test_folders_of_a_manifest(tmp_path: Path) -> None:
    files = ["p225/1.wav", "p225/2.wav", "p226/1.wav", "p227/1.wav"]
    write_manifest(tmp_path / "test.tsv", tmp_path, [(file, 100) for file in files])
    assert units(tmp_path / "test.tsv", ["p226-1", "p225-2", "p225-1"]).names == ("p226", "p225", "p225")
    with pytest.raises(InputError, match=r"test\.tsv: lacks 1 utterances: p9-1; give their manifest"):
        units(tmp_path / "test.tsv", ["p9-1", "p225-1"])
    with pytest.raises(InputError, match=r"test\.tsv: all files lie in one folder"):
        units(tmp_path / "test.tsv", ["p225-1", "p225-2"])


def test_a_manifest_of_librispeech_keeps_a_speakers_chapters_together(tmp_path: Path) -> None:
    files = [
        "dev/84/121123/84-121123-0000.flac",
        "dev/84/121550/84-121550-0001.flac",
        "dev/174/50561/174-50561-0000.wav",
    ]
    others = ["anna/2020-10-0001.wav", "7/8/9-8-0001.wav"]  # dates, and ids of other folders
    write_manifest(tmp_path / "train.tsv", tmp_path, [(file, 100) for file in [*files, *others]])
    ids = utterance_ids(read_manifest(tmp_path / "train.tsv"))
    names = units(tmp_path / "train.tsv", ids).names
    assert names == ("dev/84", "dev/84", "dev/174", "anna", "7/8")
    write_manifest(tmp_path / "dev.tsv", tmp_path / "dev", [(file.removeprefix("dev/"), 100) for file in files])
    assert units(tmp_path / "dev.tsv", ["84-121550-84-121550-0001", "174-50561-174-50561-0000"]).names == ("84", "174")


def test_without_a_source_utterances_are_the_units(tmp_path: Path) -> None:
    speakers = units(None, ["a", "b"])
    assert (speakers.names, speakers.of, speakers.count) == (("a", "b"), "utterances", 2)
    with pytest.raises(InputError, match="gone: no such speaker map; expected .* librispeech or switchboard"):
        units(tmp_path / "gone", ["a"])
