"""A folder of speaker/chapter/speaker-chapter-number.flac, as in LibriSpeech, listed as utterances with their words.

The lines are those of fairseq's wav2vec_manifest.py and libri_labels.py, links resolved as there, in the order of their
paths; fairseq's is the one in which the file system happens to hand them out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ccc_w2v.data.audio import audio_samples, read_audio
from ccc_w2v.errors import InputError
from ccc_w2v.text_files import text_lines

SAMPLE_RATE = 16_000
_PLACE = re.compile(r"/(\d+)/(\d+)/(\1-\2-\d+)\.flac$")


@dataclass(frozen=True)
class Listing:
    """Good utterances, (path below the root, samples) and words; a message for each bad one; what else is not usual."""

    entries: list[tuple[str, int]]
    words: list[str]
    bad: list[str]
    odd: list[str]


def list_utterances(root: Path, folder: str, symbols: Collection[str], *, decode: bool, workers: int) -> Listing:
    """List the recordings of ``folder`` below ``root``, a resolved path, by ``workers`` threads with a progress bar.

    With ``decode`` every recording is read to its end, else its header alone. Bad is a recording that cannot be used,
    or has no transcript, or one with characters that are not among ``symbols``. Odd is a FLAC file in another place,
    which is left out, and a transcript without a recording. Raises InputError where there is no recording at all.
    """
    files, odd = [], []
    for path in sorted(_flac_files(root / folder)):
        real = os.path.realpath(path)
        if _PLACE.search(real):
            files.append(real)
        else:
            odd.append(f"{path}: not placed and named speaker/chapter/speaker-chapter-number.flac, left out")
    if not files:
        raise InputError(f"{root / folder}: holds no recording speaker/chapter/*.flac; extract the archive again")
    transcripts = {chapter: transcripts_of(chapter) for chapter in dict.fromkeys(map(os.path.dirname, files))}
    recorded = {name_of(file) for file in files}
    silent = [name for texts in transcripts.values() for name in texts if name not in recorded]
    if silent:
        odd.append(f"{root / folder}: {len(silent)} transcripts without a recording, the first is {silent[0]}")

    def look(file: str) -> tuple[int, str, str]:
        words = transcripts[os.path.dirname(file)].get(name_of(file), "")
        try:
            _check_words(words, file, symbols)
            return (len(read_audio(file, SAMPLE_RATE)) if decode else audio_samples(file, SAMPLE_RATE)), words, ""
        except InputError as error:
            return 0, words, str(error)

    entries, words, bad = [], [], []
    with ThreadPoolExecutor(workers) as pool:
        bar = tqdm(pool.map(look, files), total=len(files), desc=f"reading {folder}", unit="file", leave=False)
        for file, (samples, text, problem) in zip(files, bar, strict=True):
            if problem:
                bad.append(problem)
            else:
                entries.append((os.path.relpath(file, root), samples))
                words.append(text)
    return Listing(entries, words, bad, odd)


def name_of(path: str) -> str:
    """Return an utterance's name, 103-1240-0000, by its path."""
    return os.path.basename(path).split(".")[0]


def _flac_files(folder: Path) -> Iterator[str]:
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (os.path.join(place, name) for name in names if name.endswith(".flac") and not name.startswith("."))


def transcripts_of(chapter: str) -> dict[str, str]:
    """Read speaker-chapter.trans.txt of a chapter's folder, words by utterance; nothing where there is none."""
    speaker, number = chapter.split(os.sep)[-2:]
    path = Path(chapter, f"{speaker}-{number}.trans.txt")
    if not path.is_file():
        return {}
    rows = [line.split() for line in text_lines(path, "transcript file", "lines of an utterance and its words")]
    return {row[0]: " ".join(row[1:]) for row in rows if row}


def _check_words(words: str, file: str, symbols: Collection[str]) -> None:
    if not words:
        raise InputError(f"{file}: no transcript in the .trans.txt beside it; extract the archive again")
    if unknown := sorted(set(words) - set(symbols) - {" "}):
        raise InputError(f"{file}: its transcript has {unknown[0]!r}, expected {''.join(sorted(symbols))} and space")
