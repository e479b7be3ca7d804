"""NIST's mapping files: what csrfilt.sh writes for the same text, and broken files."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from ccc_w2v.data.stm import read_ctm, read_stm
from ccc_w2v.errors import InputError
from ccc_w2v.score.hub5.glm import Glm, GlmRule, filter_text, filter_word, read_glm
from ccc_w2v.score.hub5.sclite import command
from tests.score.hub5.pairs import GLM, HEARD, STORED
from tests.score.nist import needs_sclite

HEADER = ";;\n* name 'x.glm'\n* case_sensitive = 'F'\n"
RULE = "[A] => [B] / [ ] __ [ ]\n"


def mapped(text: str, kind: str = "stm", side: str = "ref") -> str:
    return filter_text(text, read_glm(GLM, kind, side), "here")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Gonna do", "going to DO"),
        ("all right gonnabe", "ALRIGHT GONNABE"),
        ("i'd", "{I WOULD / I HAD / I'D}"),
        ("colourful", "colorFUL"),
        ("that's 'cause the cat's", "THAT IS CAUSE THE CAT'S"),
        ("u._s. tv", "U. S. {T. V. / TV}"),
        ("uh-huh UH (um well) hmm", "%BCACK %HESITATION (%HESITATION) (WELL) %HESITATION"),
        ("[noise] x [Laughter] [other]", "X [OTHER]"),
        ("well-known wa- -ful a--b", "WELL KNOWN WA- -FUL A -B"),
        ("mhm yep nope", "%BCACK {YEP / YEAH} NO"),
        ("", ""),
    ],
)
def test_filters_references(text: str, expected: str) -> None:
    assert mapped(text) == expected


def test_sections_hold_for_their_side() -> None:
    assert mapped("mhm yep nope", "ctm", "hyp") == "(%BCACK) YEP NO"


def test_words_of_a_hypothesis_stand_alone() -> None:
    glm = read_glm(GLM, "ctm", "hyp")
    assert [filter_word(word, glm, "here") for word in ("all", "well-known", "[noise]", "sorta")] == [
        [["ALL"]],
        [["WELL", "KNOWN"]],
        [],
        # NIST's script parts alternatives at every slash, also in nested braces.
        [["SORT", "OF"], ["A"], ["SORTA"], ["@"]],
    ]


def test_contexts_are_those_of_the_text_before() -> None:
    glm = Glm((GlmRule("A", "B", " ", " "), GlmRule("C", "D", "A ", " ")), case_sensitive=True)
    assert glm.apply(" A C B C ") == " B D B C "


@needs_sclite
def test_the_references_are_filtered_as_csrfilt_does() -> None:
    draw = random.Random(0)
    texts = [f"{' '.join(draw.choices(HEARD, k=6))} (uh {draw.choice(HEARD)}) a(b)c" for _ in range(300)]
    texts += [segment.text for segment in read_stm(STORED / "pairs.stm").segments]
    lines = "".join(f"sw A s 0 1 <O> {text}\n" for text in texts)
    arguments = [*command("csrfilt.sh"), "-i", "stm", "-t", "ref", "-dh", str(GLM)]
    written = subprocess.run(arguments, input=lines, capture_output=True, text=True, check=True).stdout
    assert [line.partition("<O>")[2].strip() for line in written.splitlines()] == [mapped(text) for text in texts]


@needs_sclite
def test_the_hypotheses_are_filtered_as_csrfilt_does() -> None:
    words = sorted({word.word for word in read_ctm(STORED / "pairs.ctm")} | set(HEARD))
    lines = "".join(f"sw{index} A 0.10 0.20 {word}\n" for index, word in enumerate(words))
    arguments = [*command("csrfilt.sh"), "-i", "ctm", "-t", "hyp", "-dh", str(GLM)]
    written = subprocess.run(arguments, input=lines, capture_output=True, text=True, check=True).stdout
    filtered: dict[int, list[str]] = {index: [] for index in range(len(words))}
    for line in written.splitlines():
        recording, *_, word = line.split()
        filtered[int(recording.removeprefix("sw"))].append(word)
    glm = read_glm(GLM, "ctm", "hyp")
    for index, word in enumerate(words):
        marked = " <ALT> ".join(" ".join(alternative) for alternative in filter_word(word, glm, "here")).split()
        assert [mark for mark in filtered[index] if mark not in ("<ALT_BEGIN>", "<ALT_END>")] == marked


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a comment"),
        (RULE, "must be a comment"),
        (HEADER, "x.glm: no rule for the ref .stm file"),
        (HEADER + "A B\n", "x.glm:4: no '=>' in 'A B'"),
        (HEADER + "A =>B / [ ] __ [ ]\n", "x.glm:4: no blank after"),
        (HEADER + "A => B /[ ] __ [ ]\n", "x.glm:4: no blank after"),
        (HEADER + "A => {B / C}\n", "x.glm:4: a slash without a context"),
        (HEADER + "AND/OR => OR\n", "x.glm:4: a slash without a context"),
        (HEADER + "A => B / [ ] [ ]\n", "x.glm:4: a slash without a context"),
        (HEADER + "A => B / [ ] __ [/]\n", "x.glm:4: a slash without a context"),
        (HEADER + "A => B / [ __ [ ]\n", r"x.glm:4: unbalanced \[\]"),
        (HEADER + "[A => B / [ ] __ [ ]\n", r"x.glm:4: unbalanced \[\]"),
        (HEADER + "A => {B / C / [ ] __ [ ]\n", "x.glm:4: unbalanced {}"),
        (HEADER + "A => (B / [ ] __ [ ]\n", r"x.glm:4: unbalanced \(\)"),
        (HEADER + "A => {B / } / [ ] __ [ ]\n", "x.glm:4: an empty alternative"),
        (HEADER + "[] => B / [ ] __ [ ]\n", "x.glm:4: nothing on the left side"),
        (HEADER + "  ;; indented\n", "x.glm:4: no '=>'"),
        (HEADER + RULE + ";;" + 130 * "x" + "\n", "x.glm:5: 132 bytes"),
        (HEADER + "* max_nrules = 5\n", "x.glm:4: expected . name 'value'"),
        (HEADER + "* max_nrules = '1'\n" + 2 * RULE, "x.glm: 2 rules and max_nrules '1'"),
        (HEADER + "* format = 'NIST2'\n" + RULE, "format 'NIST2'"),
        (HEADER + "* copy_no_hit = 'F'\n" + RULE, "copy_no_hit 'F'"),
        (HEADER + RULE.replace("\n", "\r\n"), "x.glm:4: Windows line ends"),
        (HEADER + ';; INPUT_DEPENDENT_APPLICATION = "*"\n', "x.glm:4: .* is no regular expression"),
        (HEADER + RULE + ';; INPUT_DEPENDENT_APPLICATION = "hyp"\nA B\n', "x.glm:6: no '=>'"),
    ],
)
def test_refuses_a_broken_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.glm").write_bytes(text.encode())
    with pytest.raises(InputError, match=message):
        read_glm(tmp_path / "x.glm", "stm", "ref")


@pytest.mark.parametrize("text", ["a (b", "a) b", "((a))", "()"])
def test_refuses_parentheses_that_nist_refuses(text: str) -> None:
    with pytest.raises(InputError, match="here: parentheses that are empty, nested or not closed"):
        mapped(text)


def test_refuses_a_word_that_nist_would_lose() -> None:
    glm = Glm((GlmRule("A", "B 66", " ", " "),), case_sensitive=True)
    with pytest.raises(InputError, match="of which NIST's filter loses the end"):
        filter_word("A", glm, "here")
