"""Labels beside a manifest against their dictionary and their audio: what fine-tuning would learn badly, unsaid.

fairseq reads a symbol that the dictionary lacks as <unk>, trains on empty lines, and gives a text that is longer than
its frames a loss of zero (zero_infinity) or of infinity: none of them stops a training.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ccc_w2v.data.labels import read_labels
from ccc_w2v.data.manifest import Manifest, read_manifest
from ccc_w2v.errors import InputError
from ccc_w2v.text_files import read_lines

logger = logging.getLogger(__name__)

# What fairseq's Dictionary holds before the file's first line.
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
WORD_END = "|"  # alone it is a text without a word
MAX_UNKNOWN = 0.01  # of all symbols; more is another dictionary, or text under other rules
EXAMPLES = 3
# wav2vec 2.0's feature encoder: samples of the first frame, and from one frame to the next.
FIRST_FRAME, NEXT_FRAME = 400, 320


@dataclass(frozen=True)
class LabelReport:
    """What is wrong with a label file: counts, shares and examples; ``lines`` are numbers in it, from 1.

    ``too_long`` lines need more CTC frames than their audio has: a frame for each symbol, and a blank between two equal
    ones. ``repeated`` lines have a recording that an earlier line of the manifest has too.
    """

    path: str
    dictionary: str
    symbols: int
    unknown: Counter[str] = field(default_factory=Counter)
    unknown_lines: list[int] = field(default_factory=list)
    empty: list[int] = field(default_factory=list)
    too_long: list[int] = field(default_factory=list)
    repeated: list[int] = field(default_factory=list)
    lines: int = 0

    @property
    def unknown_share(self) -> float:
        """Share of all symbols that the dictionary lacks."""
        return self.unknown.total() / max(1, self.symbols)

    def warnings(self) -> list[str]:
        """Return a sentence for each kind of trouble, with its share and examples."""
        findings = []
        if self.unknown:
            findings.append(f"{self._unknown()}; fairseq reads them as <unk>")
        for lines, what in (
            (self.empty, "are empty: CTC learns silence from them"),
            (self.too_long, "hold more symbols than their audio has frames of 20 ms: no CTC path exists"),
            (self.repeated, "belong to a recording that the manifest lists already"),
        ):
            if lines:
                shown = ", ".join(map(str, lines[:EXAMPLES])) + (", ..." if len(lines) > EXAMPLES else "")
                findings.append(f"{self.path}: {len(lines)} of {self.lines} lines {what} (lines {shown})")
        return findings

    def _unknown(self) -> str:
        shown = ", ".join(f"{symbol!r} ({count})" for symbol, count in self.unknown.most_common(EXAMPLES))
        return (
            f"{self.path}: {self.unknown_share:.1%} of the symbols are not in {self.dictionary}: {shown}, first on "
            f"line {self.unknown_lines[0]}"
        )

    def refuse_unknown(self, known: Collection[str]) -> None:
        """Raise InputError where more than MAX_UNKNOWN of the symbols are unknown, with what is to be done."""
        if self.unknown_share <= MAX_UNKNOWN:
            return
        upper, lower = (sum(n for s, n in self.unknown.items() if f(s) in known) for f in (str.upper, str.lower))
        remedy = "write the dictionary from these labels, or normalise the text as the dictionary's was"
        if max(upper, lower) > 0.5 * self.unknown.total():
            remedy = (
                f"the dictionary knows them in {'upper' if upper >= lower else 'lower'} case: change the labels' case"
            )
        raise InputError(f"{self._unknown()}; at most {MAX_UNKNOWN:.0%} may be unknown; {remedy}")


def read_dictionary(path: str | Path) -> list[str]:
    """Return the symbols of a fairseq dictionary, without fairseq's own four.

    Raises InputError for a line that is not "symbol count", and for a symbol that comes twice, which fairseq refuses.
    """
    line_of: dict[str, int] = {}
    for number, line in enumerate(read_lines(path, "dictionary", "lines of symbol, space, count"), start=1):
        symbol, _, count = line.rstrip().removesuffix(" #fairseq:overwrite").rpartition(" ")
        if not symbol or not count.isdecimal():
            raise InputError(
                f"{path}:{number}: expected symbol, space, count, found {line!r}; write the dictionary again"
            )
        if symbol in line_of and "#fairseq:overwrite" not in line:
            raise InputError(f"{path}:{number}: {symbol!r} was on line {line_of[symbol]} already; remove one")
        line_of.setdefault(symbol, number)
    if not line_of:
        raise InputError(f"{path}: holds no symbol; expected lines of symbol, space, count")
    return list(line_of)


def check_labels(manifest: Manifest, kind: str) -> LabelReport | None:
    """Compare the labels beside a manifest (``kind``: ltr, spm1000 ...) with dict.<kind>.txt; None without either.

    Raises InputError where the labels do not fit the manifest, for a damaged dictionary, and for more unknown symbols
    than MAX_UNKNOWN.
    """
    path, dictionary = Path(manifest.source).with_suffix(f".{kind}"), Path(manifest.source).parent / f"dict.{kind}.txt"
    lines = read_labels(manifest, f".{kind}")
    if lines is None or not dictionary.is_file():
        return None
    known = {*SPECIAL, *read_dictionary(dictionary)}
    texts = [line.split() for line in lines]
    report = LabelReport(str(path), str(dictionary), sum(map(len, texts)), lines=len(lines))
    recordings = set()
    for number, (entry, symbols) in enumerate(zip(manifest.entries, texts, strict=True), start=1):
        unknown = [symbol for symbol in symbols if symbol not in known]
        report.unknown.update(unknown)
        if unknown:
            report.unknown_lines.append(number)
        if not set(symbols) - {WORD_END}:
            report.empty.append(number)
        if frames_needed(symbols) > max(0, (entry.samples - FIRST_FRAME) // NEXT_FRAME + 1):
            report.too_long.append(number)
        if entry.path in recordings:
            report.repeated.append(number)
        recordings.add(entry.path)
    report.refuse_unknown(known)
    return report


def warn_of_labels(data: str | Path, split: str, kind: str) -> None:
    """Log what is wrong with the labels that a fine-tuning is about to load, where they and a dictionary are there.

    Raises InputError as check_labels does.
    """
    manifest = Path(data) / f"{split}.tsv"
    if manifest.is_file() and (report := check_labels(read_manifest(manifest), kind)):
        for warning in report.warnings():
            logger.warning(warning)


def frames_needed(symbols: Sequence[str]) -> int:
    """Return how many frames CTC needs for symbols: one each, and a blank between two equal ones."""
    return len(symbols) + sum(before == after for before, after in zip(symbols, symbols[1:], strict=False))
