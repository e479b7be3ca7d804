"""The file that leads from utterances to recordings."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccc_w2v.data.cuts import Cut, read_cuts, write_cuts
from ccc_w2v.errors import InputError


def test_cuts_come_back(tmp_path: Path) -> None:
    cuts = [Cut("sw_1-A-2", "sw_1", "A", 4.125, 6.5), Cut("sw_1-A-1", "sw_1", "A", 0.0, 4.25)]
    write_cuts(tmp_path / "cuts", cuts)
    assert (tmp_path / "cuts").read_text().splitlines()[0] == "sw_1-A-2 sw_1 A 4.125 6.500"
    assert list(read_cuts(tmp_path / "cuts").items()) == [(cut.utterance, cut) for cut in cuts]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n", "holds no utterance"),
        ("u r A 0\n", "file:1: expected utterance recording channel start end"),
        ("u r A 0 x\n", "file:1: expected a time in seconds, found 'x'"),
        ("u r A -1 1\n", "file:1: '-1' is before the recording's start"),
        ("u r A 1 1\n", "file:1: the utterance ends at 1 s, it starts at 1 s"),
        ("u r A 0 1\nu r A 1 2\n", "file:2: utterance 'u' is there already"),
        ("u r A 0 1\r\n", "file:1: Windows line ends"),
    ],
)
def test_refuses_a_broken_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "file").write_bytes(text.encode())
    with pytest.raises(InputError, match=message):
        read_cuts(tmp_path / "file")
