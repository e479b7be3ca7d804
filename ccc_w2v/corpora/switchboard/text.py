"""From a line of the MS-State transcripts to words, by the rules of Kaldi's recipe for Switchboard (egs/swbd/s5c).

    [laughter-story]        story       said laughing
    [it'n/isn't]            it'n        mispronounced, as it was said
    ab[solute]-  -[an]y     ab-  -y     only a part was said
    {yuppiedom}             yuppiedom   a coinage
    them_1                  them        a second pronunciation
    [silence] <b_aside>     (dropped)
    [noise] [vocalized-noise] [laughter]    kept here; labels keep or drop them

Spelled words are written as the Fisher transcripts do: IBM and I B M both become "i._b._m." or "i. b. m.".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from string import ascii_lowercase

from ccc_w2v.data.stm import nist_lines

NOISES = frozenset(("[noise]", "[vocalized-noise]", "[laughter]"))
_DROPPED = frozenset(("[silence]", "<b_aside>", "<e_aside>"))
_LAUGHED = re.compile(r"\[laughter-(.+)\](-?)", re.IGNORECASE)
_MISPRONOUNCED = re.compile(r"\[(.+)/.+\](-?)")
_UNSAID = re.compile(r"-?\[[^][]+\]-?")
_COINAGE = re.compile(r"\{(.+)\}")
_VARIANT = re.compile(r"_\d")
_SPELLED = re.compile(r"[a-z]\.(?:_[a-z]\.)*(?:'?s)?")
# What the letters are called, in the phones of the transcripts' dictionary.
_NAMES = """ey, b iy, s iy, d iy, iy, eh f, jh iy, ey ch, ay, jh ey, k ey, eh l, eh m, eh n, ow, p iy, k y uw, aa r,
eh s, t iy, y uw, v iy, d ah b ax l y uw, eh k s, w ay, z iy"""
LETTER_NAMES = {letter: name.split() for letter, name in zip(ascii_lowercase, _NAMES.split(","), strict=True)}


def said(token: str) -> str:
    """Return what was said of one token of a transcript, in the transcript's case: "ab[solute]-" -> "ab-"."""
    if token.lower() in NOISES:
        return token
    if match := _LAUGHED.fullmatch(token):
        token = "".join(match.groups())
    if match := _MISPRONOUNCED.fullmatch(token):
        token = "".join(match.groups())
    token = _UNSAID.sub("-", token)
    if token.endswith("]") and "/" in token:
        token = token.split("/")[0]  # "ex[specially]-/especially]": the first bracket was forgotten
    if match := _COINAGE.fullmatch(token):
        token = match[1]
    return _VARIANT.sub("", token, count=1)


def words_of(text: str, acronyms: Mapping[str, str], *, cased: bool) -> str:
    """Return a transcript's words in lower case, spelled ones as Fisher writes them; empty where nothing was said.

    ``cased`` says that capitals mean something, as they do in the transcripts as published: "a" is a word and "A" a
    letter. In a text of capitals alone, A and I are letters only beside other letters.
    """
    tokens = [said(token) for token in text.split() if token.lower() not in _DROPPED]
    words: list[str] = []
    for capitals, run in groupby(tokens, lambda token: len(token) == 1 and "A" <= token <= "Z"):
        run_tokens = list(run)
        words += _letters(run_tokens, cased) if capitals else [_acronym(token, acronyms, cased) for token in run_tokens]
    return " ".join(words)


def _letters(run: list[str], cased: bool) -> list[str]:
    """Spell neighbouring capitals: I, and without case A too, is a word unless another letter stands beside it."""
    words = {"I"} if cased else {"A", "I"}
    return [capital.lower() if words.issuperset(run) else f"{capital.lower()}." for capital in run]


def _acronym(token: str, acronyms: Mapping[str, str], cased: bool) -> str:
    return acronyms.get(token if cased else token.lower(), token).lower()


def read_acronyms(dictionary: str | Path, *, cased: bool) -> dict[str, str]:
    """Find the words of the transcripts' dictionary that are said letter by letter: IBM -> i._b._m., CDs -> c._d.s.

    Without ``cased`` the keys are in lower case, and what is a word too is left out: US, because of us. Raises
    InputError as nist_lines does.
    """
    spelled: dict[str, str] = {}
    words: set[str] = set()
    for _, line in nist_lines(dictionary, "dictionary"):
        word, _, phones = line.strip().partition(" ")
        if not word or word.startswith("#"):
            continue
        word = said(word)
        if spelling := _spelling(word, phones.split()):
            spelled[word] = spelling
        else:
            words.add(word.lower())
    return (
        spelled if cased else {key.lower(): spelling for key, spelling in spelled.items() if key.lower() not in words}
    )


def _spelling(word: str, phones: list[str]) -> str:
    """Return a word as Fisher spells it if it is said like its letters, with or without an s behind; else ""."""
    for ending in ("'s", "s", ""):
        stem, said_so = word.lower().removesuffix(ending), phones
        if not word.lower().endswith(ending) or len(stem) < 2 or not stem.isascii() or not stem.isalpha():
            continue
        if ending:
            said_so = phones[:-1] if phones[-1:] in (["s"], ["z"]) else []
        if said_so == [phone for letter in stem for phone in LETTER_NAMES[letter]]:
            return "._".join(stem) + f".{ending}"
    return ""


def label_words(text: str, *, keep_noises: bool) -> str:
    """Return what a model is to write: upper case, acronyms as letters (B B C'S), noises kept as [NOISE] or dropped."""
    words = []
    for word in text.split():
        if word in NOISES:
            words += [word] if keep_noises else []
        elif _SPELLED.fullmatch(word):
            *letters, ending = word.replace("_", "").split(".")
            # A plural is written like a possessive, as in the references of Hub5: c._d.s is C D'S.
            words += [*letters[:-1], letters[-1] + ("'s" if ending else "")]
        elif "&" in word:
            # at&t is A T AND T
            words += [" and ".join(" ".join(part) if len(part) <= 2 else part for part in word.split("&"))]
        else:
            words += [word]
    return " ".join(words).upper()


def unknown_characters(labels: Iterable[str]) -> str:
    """Return the first character of a label's words that no dictionary of letters, apostrophe and hyphen has, or ""."""
    for word in labels:
        if word.lower() not in NOISES and (unknown := re.search(r"[^A-Z'\-]", word)):
            return unknown[0]
    return ""
