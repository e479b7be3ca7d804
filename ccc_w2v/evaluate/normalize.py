"""Text rules applied to references and hypotheses alike before they are scored; each rule is named in every report."""

from __future__ import annotations

import re

from ccc_w2v.errors import InputError

_OUTSIDE_LIBRISPEECH = re.compile(r"[^A-Z']+")


def normalize(text: str, rules: str) -> str:
    """Return ``text`` under the named rules, its words separated by single spaces.

    ``none``: words as they are. ``librispeech``: upper-case; the typographic apostrophe becomes '; every run of other
    characters than A-Z and ' becomes one space, so that WELL-KNOWN is two words and digits disappear.

    Raises InputError for rules of another name.
    """
    if rules not in RULES:
        raise InputError(f"unknown normalisation {rules!r}; available: {', '.join(RULES)}")
    return " ".join(RULES[rules](text).split())


def _unchanged(text: str) -> str:
    return text


def _librispeech(text: str) -> str:
    return _OUTSIDE_LIBRISPEECH.sub(" ", text.upper().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))


RULES = {"none": _unchanged, "librispeech": _librispeech}
