"""Text rules applied to references and hypotheses alike before they are scored; each rule is named in every report."""

from __future__ import annotations

import re

from ccc_w2v.errors import InputError

HESITATIONS = frozenset(
    ("uh", "um", "uhm", "eh", "er", "mm", "hm", "hmm", "ah", "ha", "huh", "hee", "ach", "eee", "ew", "oof")
)
_EVENT = re.compile(r"\[[^\]]*\]|<[^>]*>|%\S+")
_FRAGMENT = re.compile(r"(?<![^\s(])(?:[^\s(]+-|-[^\s)]+)(?![^\s)])")
_OUTSIDE_HUB5 = re.compile(r"[^a-z0-9']+")
_OUTSIDE_LIBRISPEECH = re.compile(r"[^A-Z']+")


def normalize(text: str, rules: str) -> str:
    """Return ``text`` under the named rules, its words separated by single spaces.

    ``none``: words as they are. ``librispeech``: upper-case; the typographic apostrophe becomes '; every run of other
    characters than A-Z and ' becomes one space, so that WELL-KNOWN is two words and digits disappear.

    ``hub5``: for telephone conversations whose references are plain text, with neither NIST's .stm nor its mapping file
    (GLM); numbers to stand beside published ones come from ``ccc-w2v score --standard hub5``. It does on both sides
    what the GLM, sclite -F -D and the .stm's markup do together, as far as a text alone allows, but removes what they
    forgive: lower-case; events in [brackets] or <angles> and %MARKS go; words broken off ("wor-", "-ord") and
    hesitations (uh, um, hmm ...) go; of the rest a-z, 0-9 and ' stay and all else parts words, so that "well-known" is
    two and "u._s." is "u s". So a hesitation too many is no error here, and one in sclite; a broken word in the
    reference is no word here, and a right one in sclite where the hypothesis has a word that it may be a part of; and
    spellings ("gonna") are not mapped.

    Raises InputError for rules of another name.
    """
    if rules not in RULES:
        raise InputError(f"unknown normalisation {rules!r}; available: {', '.join(RULES)}")
    return " ".join(RULES[rules](text).split())


def _unchanged(text: str) -> str:
    return text


def _librispeech(text: str) -> str:
    return _OUTSIDE_LIBRISPEECH.sub(" ", text.upper().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))


def _hub5(text: str) -> str:
    lower = _EVENT.sub(" ", text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    words = _OUTSIDE_HUB5.sub(" ", _FRAGMENT.sub(" ", lower)).split()
    return " ".join(word for word in words if word not in HESITATIONS)


RULES = {"none": _unchanged, "librispeech": _librispeech, "hub5": _hub5}
