"""Each rule says exactly what it keeps."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccc_w2v.errors import InputError
from ccc_w2v.score.normalize import RULES, normalize


@pytest.mark.parametrize(
    ("rules", "text", "expected"),
    [
        ("none", "  a  B-c\t7 ", "a B-c 7"),
        ("librispeech", "Don't stop, well-known Mr. Fox!", "DON'T STOP WELL KNOWN MR FOX"),
        ("librispeech", "it\u2019s 7 o'clock", "IT'S O'CLOCK"),
        ("librispeech", "caf\u00e9 stra\u00dfe", "CAF STRASSE"),
        ("librispeech", "...", ""),
        ("hub5", "UH i- I don\u2019t [laughter] know (%HESITATION) <b_aside> well-known", "i don't know well known"),
        ("hub5", "um (th-) (-self) U._S. route 66 mhm hmm", "u s route 66 mhm"),
        ("hub5", "umbrella hahaha -", "umbrella hahaha"),
    ],
)
def test_rules(rules: str, text: str, expected: str) -> None:
    assert normalize(text, rules) == expected


@given(st.text())
def test_librispeech_keeps_only_its_alphabet(text: str) -> None:
    normalized = normalize(text, "librispeech")
    assert re.fullmatch(r"([A-Z']+( [A-Z']+)*)?", normalized)


@given(st.text(), st.sampled_from(sorted(RULES)))
def test_rules_are_stable(text: str, rules: str) -> None:
    assert normalize(normalize(text, rules), rules) == normalize(text, rules)


def test_unknown_rules_name_the_known() -> None:
    with pytest.raises(InputError, match=f"unknown normalisation 'whisper'; available: {', '.join(RULES)}"):
        normalize("A", "whisper")
