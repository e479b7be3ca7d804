"""NIST's global mapping file (GLM) and the filter that applies it: what csrfilt.sh and rfilter1 do to English text.

A GLM maps spellings that count as one word, on references and hypotheses: a line is "[SOURCE] => [TARGET] / [left] __
[right]", where the brackets guard spaces and the contexts stand as they are ("[ ]" is a blank, so that whole words
match). A target may hold alternatives in braces and optionally deletable words in parentheses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ccc_w2v.data.stm import nist_lines
from ccc_w2v.errors import InputError

# rfilter1 reads lines of 132 bytes with their end, and takes the rest of a longer one for a rule of its own.
LINE_BYTES = 131
# Rules that rfilter1 makes room for where the file does not say.
_MAX_RULES = 400
_COMMENT = ";;"
_SECTION = re.compile(r';;\s+INPUT_DEPENDENT_APPLICATION\s*=\s*"([^"]*)"')
_HEADER = re.compile(r"""\*\s*(\w+)[^"']*["']([^"']*)["']""")
_LIKE_A_CONFIDENCE = re.compile(r"[0-9.-]+")
_OPTIONAL_PHRASE = re.compile(r"(\(\s+[^()\s]+\s+)([^()\s]+)")
_TRUE = ("T", "YES", "TRUE")


@dataclass(frozen=True)
class GlmRule:
    """Replace ``source`` by ``target`` where ``left`` comes before it and ``right`` after it."""

    source: str
    target: str
    left: str
    right: str


@dataclass(frozen=True)
class Glm:
    """The rules that hold for one kind of file, in file order: at each place the first that matches is applied."""

    rules: tuple[GlmRule, ...]
    case_sensitive: bool
    _patterns: dict[str, re.Pattern[str]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # One pattern for each first letter: a pattern of all rules would try each of them at each letter.
        starting: dict[str, list[str]] = {}
        for number, rule in enumerate(self.rules):
            source, left, right = (re.escape(self._fold(part)) for part in (rule.source, rule.left, rule.right))
            pattern = f"(?P<r{number}>(?<={left}){source}(?={right}))"
            starting.setdefault(self._fold(rule.source[0]), []).append(pattern)
        patterns = {letter: re.compile("|".join(patterns_of_letter)) for letter, patterns_of_letter in starting.items()}
        object.__setattr__(self, "_patterns", patterns)

    def apply(self, text: str) -> str:
        """Rewrite ``text`` from left to right; contexts are looked up in the text as it was, as rfilter1 does."""
        folded, written, at = self._fold(text), [], 0
        while at < len(text):
            pattern = self._patterns.get(folded[at])
            match = pattern.match(folded, at) if pattern else None
            if match is None or match.lastgroup is None:
                written.append(text[at])
                at += 1
            else:
                written.append(self.rules[int(match.lastgroup[1:])].target)
                at = match.end()
        return "".join(written)

    def _fold(self, text: str) -> str:
        return text if self.case_sensitive else upper(text)


def read_glm(path: str | Path, kind: str, side: str) -> Glm:
    """Read the rules of a GLM that hold for files of ``kind`` (stm, ctm) on one ``side`` (ref, hyp).

    A ";; INPUT_DEPENDENT_APPLICATION" comment limits the rules below it to kinds or sides.

    Raises InputError, with the line, for all that rfilter1 stops at (whereupon NIST's scripts go on without text), and
    for lines that it takes for something else than they say: a slash that starts no context, unbalanced brackets.
    """
    lines = [(f"{path}:{number}", line.rstrip()) for number, line in nist_lines(path, "GLM")]
    applying = list(_applying(lines, kind, side))
    if not applying or applying[0][1].split(maxsplit=1)[:1] != [_COMMENT]:
        raise InputError(
            f"{path}: the first line must be a comment, ';;' and a blank, which rfilter1 takes as the sign"
        )
    for where, line in lines:
        if len(line.encode()) > LINE_BYTES:
            raise InputError(f"{where}: {len(line.encode())} bytes, rfilter1 reads {LINE_BYTES}; break the line")
    header = dict(_header(line, where) for where, line in applying if line.startswith("*"))
    # Those of the other side too, which its scoring would stop at later.
    parsed = {where: _rule(line, where) for where, line in lines if line and not line.startswith((_COMMENT, "*"))}
    rules = [parsed[where] for where, _ in applying if where in parsed]
    if not rules:
        raise InputError(f"{path}: no rule for the {side} .{kind} file, without which rfilter1 stops; add one")
    _check_header(path, header, len(rules))
    return Glm(tuple(rules), header.get("CASE_SENSITIVE", "T").upper() in _TRUE)


def _applying(lines: list[tuple[str, str]], kind: str, side: str) -> Iterator[tuple[str, str]]:
    applies = True
    for where, line in lines:
        if section := _SECTION.match(line):
            try:
                wanted = re.compile(section[1].lower())
            except re.error as error:
                raise InputError(f"{where}: {section[1]!r} is no regular expression ({error}); correct it") from error
            applies = bool(wanted.search(kind) or wanted.search(side))
        if applies:
            yield where, line


def _header(line: str, where: str) -> tuple[str, str]:
    match = _HEADER.match(line)
    if match is None:
        raise InputError(f"{where}: expected * name 'value' with the value in quotes, found {line!r}")
    return match[1].upper(), match[2]


def _check_header(path: str | Path, header: dict[str, str], rules: int) -> None:
    kind, copies, limit = (
        header.get(name, default)
        for name, default in (("FORMAT", "NIST1"), ("COPY_NO_HIT", "T"), ("MAX_NRULES", str(_MAX_RULES)))
    )
    if kind != "NIST1":
        raise InputError(f"{path}: format {kind!r}, expected 'NIST1'; rfilter1 applies no other")
    if copies.upper() not in _TRUE:
        raise InputError(f"{path}: copy_no_hit {copies!r} would drop each word without a rule; set 'T'")
    if not limit.isdecimal() or int(limit) < rules:
        raise InputError(f"{path}: {rules} rules and max_nrules {limit!r}; raise it, or rfilter1 stops")


def _rule(line: str, where: str) -> GlmRule:
    text = line.partition(_COMMENT)[0].rstrip()

    def broken(reason: str) -> InputError:
        return InputError(f"{where}: {reason} in {text!r}; expected [SOURCE] => [TARGET] / [left] __ [right]")

    source, arrow, rest = text.partition("=>")
    if not arrow:
        raise broken("no '=>'")
    target, slash, context = rest.rpartition("/")
    if slash and _opens_after_closing(context):
        # The last slash is inside of brackets, so that nothing is left for a context.
        target, slash, context = rest, "", ""
    target, context = (target, context) if slash else (rest, "")
    left, slot, right = context.partition("_")
    if (slash and not slot) or (not slash and ("__" in rest or "/" in source)):
        raise broken("a slash without a context")
    right = right.lstrip("_")
    if any(part and not part[0].isspace() for part in (rest, left, right)):
        raise broken("no blank after '=>', '/' or '__'")
    source, target, left, right = (_unwrap(part) for part in (source, target, left, right))
    if not source:
        raise broken("nothing on the left side")
    for opening, closing in ("{}", "()"):
        if target.count(opening) != target.count(closing):
            raise broken(f"unbalanced {opening}{closing}")
    if re.search(r"[{/]\s*[}/]", target):
        raise broken("an empty alternative, for which '@' stands,")
    for part in (source, left, right):
        if part.startswith("[") and "]" not in part:
            raise broken("unbalanced []")
    return GlmRule(source, target, left, right)


def _opens_after_closing(context: str) -> bool:
    closing, opening = context.find("]"), context.find("[")
    return 0 <= closing < opening


def _unwrap(part: str) -> str:
    part = part.strip()
    wrapped = len(part) > 1 and part[0] + part[-1] in ("[]", '""')
    return part[1:-1] if wrapped else part


def upper(text: str) -> str:
    """Raise a-z and nothing else, as NIST's filter does."""
    return text.encode().upper().decode()


def filter_text(text: str, glm: Glm, where: str) -> str:
    """Return a reference's words as ``csrfilt.sh -dh`` writes them: upper-case, mapped, hyphens between letters parted.

    Each word of an optionally deletable phrase gets parentheses of its own.

    Raises InputError for parentheses that are empty, nested or not closed.
    """
    if re.search(r"[()]", re.sub(r"\([^()]+\)", "", text)):
        raise InputError(f"{where}: parentheses that are empty, nested or not closed in {text!r}; correct the line")
    spaced = upper(" ".join(text.split())).replace("(", "( ").replace(")", " )")
    mapped = glm.apply(f"  {spaced}  ")
    mapped = re.sub(r"([^( ])-(?=[^) ])", r"\1 ", mapped)
    while (parted := _OPTIONAL_PHRASE.sub(r"\1) ( \2", mapped)) != mapped:
        mapped = parted
    return re.sub(r"\s+\)", ")", re.sub(r"\(\s+", "(", " ".join(mapped.split())))


def filter_word(word: str, glm: Glm, where: str) -> list[list[str]]:
    """Return the alternatives that ``csrfilt.sh -dh`` makes of one word of a .ctm file; none for a word that goes.

    The filter sees the words of a .ctm one by one, so that rules for several words never match there; a rule that makes
    several words of it gives each an equal part of its time.

    Raises InputError for a replacement whose end NIST's script would take for a confidence.
    """
    words = re.sub(r"([{}])", r" \1 ", filter_text(word, glm, where)).split()
    if len(words) < 2:
        return [words] if words else []
    if _LIKE_A_CONFIDENCE.fullmatch(words[-1]):
        raise InputError(f"{where}: the GLM maps {word!r} to {' '.join(words)!r}, of which NIST's filter loses the end")
    alternatives = (part.replace("{", " ").replace("}", " ").split() for part in " ".join(words).split("/"))
    return [alternative for alternative in alternatives if alternative]
