"""From the written transcript of a voice prompt to the words that are spoken: upper-case A-Z and the apostrophe.

The transcripts (core-sounds-en.txt) are written for people: remarks in brackets, digits, symbols, abbreviations, a few
typing errors. The tables below say how each is read aloud. Whatever they do not cover is refused, not guessed: that
prompt then stays out of the labelled set.
"""

from __future__ import annotations

import re
from pathlib import Path

from ccc_w2v.errors import InputError
from ccc_w2v.text_files import text_lines

# Typing errors of the source, and words that the source writes in two ways.
CORRECTIONS = {
    "represenatives": "representatives",
    "exclaimation-point": "exclamation point",
    "umute": "unmute",
    "decending": "descending",
    "un-indentified": "unidentified",
    "witheld": "withheld",
    "fourtieth": "fortieth",
    "thru": "through",
    "de-activated": "deactivated",
    "re-enter": "reenter",
    "re-entered": "reentered",
    "re-record": "rerecord",
    "xray": "x ray",
    "mail box": "mailbox",
    "voice mail": "voicemail",
    "touch tone": "touchtone",
}
SYMBOLS = {"*": "star", "#": "pound"}
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# In this collection each number of several digits is an extension, a password or a protocol, and a forced alignment
# with a speech recogniser prefers the reading digit by digit, zeros as "zero", for every one of them.
NUMBERS = {
    "500": "five zero zero",
    "600": "six zero zero",
    "1234": "one two three four",
    "4242": "four two four two",
    "8500": "eight five zero zero",
    "28.8": "twenty eight point eight",
    "3d": "three d",
    "h.323": "h three two three",
}
WEB = {"www.asterisk.org": "w w w dot asterisk dot org"}
SPELLED = frozenset({"am", "iax", "ip", "ivr", "mgcp", "nbs", "pbx", "pm", "usb"})
SAID_AS_WORDS = frozenset({"dahdi", "sip"})
# Prompts whose transcript is not what one hears.
DOUBTFUL = {
    "spy-iax": "IAX sounds like one syllable here, not like its letters",
    "spy-iax2": "IAX sounds like one syllable here, not like its letters",
}

_REMARK = re.compile(r"\[[^]]*\]|\([^)]*\)|<[^>]*>")
_EDGES = ".,;:!?\"'…"
_PHRASES = {wrong: right for wrong, right in CORRECTIONS.items() if " " in wrong}
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")


class UnknownReadingError(ValueError):
    """A transcript holds something that none of the tables can read aloud."""


def read_transcripts(path: str | Path) -> dict[str, str]:
    """Read core-sounds-XX.txt or .txt.gz: lines "name: text", comments behind a semicolon.

    Raises InputError for a file that is not UTF-8 text and for the first line without a colon.
    """
    transcripts = {}
    for number, line in enumerate(text_lines(path, "transcript file", "lines 'prompt name: text'"), start=1):
        line = line.strip()
        if not line or line.startswith(";"):
            continue
        name, colon, text = line.partition(":")
        if not colon:
            raise InputError(f"{path}:{number}: expected 'prompt name: text', found {line[:40]!r}")
        transcripts[name.strip()] = text.strip()
    return transcripts


def without_remarks(text: str) -> str:
    """Drop what stands in brackets; an entry that is no speech leaves nothing: "[beep]", "(1 second of silence)"."""
    return " ".join(_REMARK.sub(" ", text).split())


def spoken_words(text: str) -> str:
    """Spell a transcript as spoken: "Press 1, or # (beep)" -> "PRESS ONE OR POUND".

    Empty for an entry that is no speech. Raises UnknownReadingError naming the first token that no table covers.
    """
    text = without_remarks(text).replace("’", "'")
    for wrong, right in _PHRASES.items():
        text = re.sub(rf"\b{wrong}\b", right, text, flags=re.IGNORECASE)
    return " ".join(word for token in text.split() for word in _read_token(token)).upper()


def _read_token(token: str) -> list[str]:
    """Return one written token's spoken words, in lower case; none for punctuation alone."""
    token = token.strip(_EDGES)
    lower = token.lower()
    for table in (SYMBOLS, CORRECTIONS, NUMBERS, WEB):
        if lower in table:
            return table[lower].split()
    if "-" in token:
        return [word for part in token.split("-") for word in _read_token(part)]
    initials = lower.replace(".", "")
    if initials in SPELLED and (token.isupper() or "." in token):
        return list(initials)
    if len(lower) == 1 and lower.isdecimal():
        return [DIGITS[int(lower)]]
    shouted = len(token) > 1 and token.isupper() and lower not in SAID_AS_WORDS
    if lower and (shouted or not _WORD.fullmatch(lower)):
        raise UnknownReadingError(token)
    return [lower] if lower else []


def letters_per_second(words: str, seconds: float) -> float:
    """Return the speaking rate; a letter that stands alone counts for three, about as long as its name takes."""
    return sum(3 if len(word) == 1 else len(word) for word in words.split()) / seconds
