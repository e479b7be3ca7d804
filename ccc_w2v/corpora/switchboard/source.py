"""What a person has of Switchboard-1: the calls on LDC's discs, the MS-State transcripts, what is missing of both."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ccc_w2v.corpora.download import LONG_ATTEMPTS, DownloadError, digest_of, fetch, unpack
from ccc_w2v.corpora.switchboard.audio import Excerpt, excerpt_name
from ccc_w2v.corpora.switchboard.sphere import SIDES
from ccc_w2v.corpora.switchboard.text import read_acronyms, words_of
from ccc_w2v.data.stm import nist_lines
from ccc_w2v.errors import InputError
from ccc_w2v.files import appearing
from ccc_w2v.shared_files import shared_folder

TRANSCRIPTS_URL = "https://www.openslr.org/resources/5/switchboard_word_alignments.tar.gz"
DICTIONARY = "sw-ms98-dict.text"
# Of the dictionary, from the list data/sha256sums.txt of https://github.com/phiresky/backchannel-prediction: nobody has
# published a checksum of the archive itself.
DICTIONARY_SHA256 = "c5283e1d11127af443230f120a4f77dd7a76081e276578957975432db82a340c"
TRANSCRIPT_FILES = 2 * 2438
DISCS = ("swb1_d1", "swb1_d2", "swb1_d3", "swb1_d4")
# One edition of LDC97S62 has 2,438 calls, the other 2,435.
MAX_ABSENT = 3
# sw_4390.sph is one of Hub5'00.
_CALL_FILE = re.compile(r"sw0?([2-4]\d{3})\.sph", re.IGNORECASE)
_SIDE_FILE = re.compile(r"sw([2-4]\d{3})([AB])-ms98-a-trans\.text", re.IGNORECASE)
_DISC = re.compile(r"swb1_d\d", re.IGNORECASE)


@dataclass(frozen=True)
class Utterance:
    """A segment of one side of a call with its words (see words_of)."""

    call: str
    excerpt: Excerpt
    text: str

    @property
    def speaker(self) -> str:
        """The side of the call, which stands for its speaker: sw02001-A."""
        return f"{self.call}-{self.excerpt.side}"

    @property
    def id(self) -> str:
        """The name that Kaldi's recipe gives it: sw02001-A_000098-001156."""
        return f"{self.call}-{self.excerpt.name}"


def find_calls(source: str | Path) -> dict[str, Path]:
    """Return the SPHERE files below a folder of LDC97S62, in whatever layout, by call (sw02001), sorted.

    Raises InputError where there is none, and for two files of one call.
    """
    calls: dict[str, Path] = {}
    others = 0
    for path in files_below(source):
        match = _CALL_FILE.fullmatch(path.name)
        others += not match and path.suffix.lower() == ".sph"
        if match:
            call = f"sw0{match[1]}"
            if call in calls:
                raise InputError(f"{path}: call {call} is in {calls[call]} too; give a folder that has each call once")
            calls[call] = path
    if not calls:
        contents = f"{others} other .sph files" if others else "no .sph file"
        raise InputError(
            f"{source}: holds {contents}, none of Switchboard-1's (sw02001.sph ...); expected LDC97S62 as unpacked, "
            f"with the discs {', '.join(DISCS)}"
        )
    return dict(sorted(calls.items()))


def files_below(folder: str | Path) -> Iterator[Path]:
    """Yield every file below a folder, links followed, each folder once; raises InputError where it is no folder."""
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder")
    seen = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield from (Path(root, name) for name in sorted(names))


def find_transcripts(folder: str | Path) -> tuple[dict[tuple[str, str], Path], Path]:
    """Return the transcript of each side (sw02001, A) below a folder, sorted, and the dictionary that comes with them.

    Raises InputError where there are none, for a call that lacks a side, and without the dictionary.
    """
    sides: dict[tuple[str, str], Path] = {}
    dictionary = None
    for path in files_below(folder):
        if match := _SIDE_FILE.fullmatch(path.name):
            sides[f"sw0{match[1]}", match[2].upper()] = path
        elif path.name == DICTIONARY:
            dictionary = path
    if not sides:
        raise InputError(f"{folder}: holds no transcript sw2001A-ms98-a-trans.text; expected swb_ms98_transcriptions")
    calls = Counter(call for call, _ in sides)
    if half := [call for call, sides in calls.items() if sides < len(SIDES)]:
        raise InputError(f"{folder}: {half[0]} has a transcript of one side only; unpack the transcripts again")
    if dictionary is None:
        raise InputError(f"{folder}: lacks {DICTIONARY}, which tells the acronyms; unpack the transcripts again")
    return dict(sorted(sides.items())), dictionary


def fetch_transcripts(downloads: Path, url: str | None = None) -> Path:
    """Return the folder of the MS-State transcripts below ``downloads``, fetched where they are not there yet.

    Raises InputError when they cannot be fetched or are not what was published.
    """
    folder = downloads / "swb_ms98"
    if folder.is_dir():
        return folder
    url = url or TRANSCRIPTS_URL
    archive = downloads / url.rsplit("/", 1)[1]
    try:
        with appearing(folder, durable=False) as unpacked:
            unpack(fetch(url, archive, lambda: None, attempts=LONG_ATTEMPTS), unpacked)
            if different := transcript_differences(*find_transcripts(unpacked)):
                raise DownloadError(f"{url}: not what was published ({'; '.join(different)}); it was discarded")
    except (DownloadError, InputError) as error:
        archive.unlink(missing_ok=True)
        raise InputError(f"{error}; call again, or pass the unpacked folder as --transcripts") from error
    return folder


def transcript_differences(sides: Collection[object], dictionary: Path) -> list[str]:
    """Name what differs from the transcripts as published."""
    differences = []
    if len(sides) != TRANSCRIPT_FILES:
        differences.append(f"{len(sides)} transcripts, published are {TRANSCRIPT_FILES}")
    if digest_of(dictionary, "sha256") != DICTIONARY_SHA256:
        differences.append(f"{dictionary}: not the published dictionary (its SHA-256 is another)")
    return differences


def read_transcripts(sides: Mapping[tuple[str, str], Path], dictionary: Path) -> list[Utterance]:
    """Read all transcripts in Kaldi's order, without what says nothing; a side in capitals alone has no case.

    Raises InputError as nist_lines does and for the first malformed line.
    """
    acronyms = {cased: read_acronyms(dictionary, cased=cased) for cased in (True, False)}
    utterances = []
    for (call, side), path in sides.items():
        lines = list(_lines(path, call, side))
        cased = any(text != text.upper() for _, _, text, _ in lines)
        for start, end, text, where in lines:
            if end > start and (words := words_of(text, acronyms[cased], cased=cased)):
                utterances.append(
                    Utterance(call, Excerpt(excerpt_name(side, start, end), side, start, end, where), words)
                )
    named: dict[str, Utterance] = {}
    for utterance in sorted(utterances, key=lambda utterance: utterance.id):
        if utterance.id in named:
            raise InputError(
                f"{utterance.excerpt.where}: same times as {named[utterance.id].excerpt.where}; remove one of them"
            )
        named[utterance.id] = utterance
    return list(named.values())


def _lines(path: Path, call: str, side: str) -> Iterator[tuple[float, float, str, str]]:
    """Yield start, end, text and "file:line" of each segment of a side."""
    name = re.compile(f"sw{call[3:]}{side}-ms98-a-\\d{{4}}", re.IGNORECASE)
    for number, line in nist_lines(path, "transcript"):
        where, fields = f"{path}:{number}", line.split(maxsplit=3)
        if not fields:
            continue
        try:
            start, end = map(float, fields[1:3])
        except ValueError:
            start, end = math.nan, math.nan
        if not name.fullmatch(fields[0]) or not 0 <= start <= end < math.inf:
            raise InputError(
                f"{where}: expected sw{call[3:]}{side}-ms98-a-0001 start end words, with times in seconds, found "
                f"{line[:60]!r}"
            )
        yield start, end, fields[3] if len(fields) > 3 else "", where


def check_complete(source: Path, calls: Mapping[str, Path], transcribed: Collection[str]) -> list[str]:
    """Compare the calls that have audio with those that have transcripts; name each difference that can be borne.

    Raises InputError where a disc, or more than a few calls, are missing.
    """
    absent = sorted(set(transcribed) - set(calls))
    if absent:
        discs = missing_discs(source, calls)
        if discs or len(absent) > MAX_ABSENT:
            missing = f"missing disc: {', '.join(discs)}" if discs else "no whole disc is missing"
            raise InputError(
                f"{source}: {len(absent)} of {len(transcribed)} transcribed calls have no audio ({absent[0]} to "
                f"{absent[-1]}); {missing}; copy LDC97S62 whole"
            )
    extra = sorted(set(calls) - set(transcribed))
    differences = [f"{len(absent)} transcribed calls without audio: {', '.join(absent)}"] if absent else []
    if extra:
        differences.append(f"{len(extra)} calls without a transcript, not used: {', '.join(extra[:5])}")
    if unknown := sorted(set(calls) - known_calls()):
        differences.append(f"{len(unknown)} calls that Switchboard-1 Release 2 has not: {', '.join(unknown[:5])}")
    return differences


def missing_discs(source: Path, calls: Mapping[str, Path]) -> list[str]:
    """Name the discs that are missing, by the disc table where it is there (docs/swb1_all.dvd.tbl), else by folders."""
    tables = [path for path in files_below(source) if path.name.lower() == "swb1_all.dvd.tbl"]
    if tables:
        on_disc: dict[str, list[bool]] = {}
        for _, line in nist_lines(tables[0], "disc table"):
            if len(fields := line.split()) >= 2 and (match := _CALL_FILE.fullmatch(fields[1])):
                on_disc.setdefault(fields[0], []).append(f"sw0{match[1]}" in calls)
        return sorted(disc for disc, there in on_disc.items() if not any(there))
    folders = {part.lower() for path in calls.values() for part in path.parts if _DISC.fullmatch(part)}
    return sorted(set(DISCS) - folders) if folders else []


def known_calls() -> set[str]:
    """Return the calls of manifests/switchboard_conversations.txt."""
    ranges = [part.partition("-") for part in _pinned("switchboard_conversations.txt")]
    return {f"sw{number:05}" for first, _, last in ranges for number in range(int(first), int(last or first) + 1)}


def calls_of_30h() -> set[str]:
    """Return the calls of manifests/switchboard_30h.txt."""
    return set(_pinned("switchboard_30h.txt"))


def _pinned(name: str) -> list[str]:
    lines = (shared_folder("manifests") / name).read_text(encoding="utf-8").splitlines()
    return [part for line in lines if not line.startswith("#") for part in line.split()]
