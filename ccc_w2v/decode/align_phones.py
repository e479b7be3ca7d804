"""Forced alignment of English transcripts on phones by PocketSphinx, without any network of ours.

Its wheel holds an acoustic model of English and a pronunciation dictionary, so that the phones of a corpus are known
before the first fine-tuning. It searches twice: for the words and the pronunciations that were said, then for their
phones. Labels are those of the CMU dictionary without stress (AA to ZH), and SIL for silence. Letters: S samples.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ccc_w2v.data.alignments import AlignedLabel
from ccc_w2v.data.audio import read_audio
from ccc_w2v.data.labels import read_references
from ccc_w2v.data.manifest import Manifest
from ccc_w2v.data.trn import utterance_ids
from ccc_w2v.errors import InputError
from ccc_w2v.text_files import read_lines

SAMPLE_RATE = 16_000
FRAME_SECONDS = 0.01
# An acoustic score counts steps of this many nats: the base of its logarithms is 1.0001 ** 1024 (SENSCR_SHIFT).
SCORE_NATS = 1024 * math.log(1.0001)

logger = logging.getLogger(__name__)


def align_phones(manifest: Manifest, pronunciations: Path | None = None) -> dict[str, list[AlignedLabel]]:
    """Align each utterance with its line of <split>.wrd, in the manifest's order; frames are of 10 ms.

    Utterances without words, with a word that the dictionary lacks, or that do not fit their transcripts are left out
    with a warning. ``pronunciations`` adds words, a line each: the word, its phones. Raises InputError for missing
    transcripts, unreadable audio or pronunciations, and where nothing is left.
    """
    transcripts = read_references(manifest)
    if transcripts is None:
        raise InputError(f"{manifest.source}: no .wrd beside it; phones are aligned from transcripts in words")
    decoder = _decoder()
    if pronunciations is not None:
        _add_words(decoder, pronunciations)
    words_of = {
        utterance: transcript.lower().split()
        for utterance, transcript in zip(utterance_ids(manifest), transcripts, strict=True)
    }
    known = {word: decoder.lookup_word(word) is not None for words in words_of.values() for word in words}
    unknown = Counter(word for words in words_of.values() for word in set(words) if not known[word])
    todo = [
        (utterance, entry)
        for utterance, entry in zip(words_of, manifest.entries, strict=True)
        if words_of[utterance] and all(known[word] for word in words_of[utterance])
    ]
    aligned: dict[str, list[AlignedLabel]] = {}
    for utterance, entry in tqdm(todo, unit="utt", desc="aligning", disable=not todo):
        path, where = manifest.audio_path(entry), manifest.where(entry)
        wave_S = read_audio(path, SAMPLE_RATE, where=where, declared_samples=entry.samples, resample=True)
        if rows := _align(decoder, wave_S, words_of[utterance]):
            aligned[utterance] = rows
    _warn_of_the_rest(manifest, len(manifest) - len(aligned), unknown)
    return aligned


def _decoder() -> Any:
    try:
        from pocketsphinx import Decoder
    except ImportError as error:
        raise InputError(f"pocketsphinx cannot be imported ({error}); pip install 'ccc-w2v[phones]'") from error
    return Decoder(lm=None, loglevel="FATAL")


def _add_words(decoder: Any, path: Path) -> None:
    """Add the pronunciations of a file in the CMU dictionary's form: WORD P P P, ;;; before a remark."""
    for number, line in enumerate(read_lines(path, "pronunciations", "a line for each word: the word, its phones"), 1):
        word, *phones = line.split() or [";;;"]
        if word.startswith(";;;"):
            continue
        bare = " ".join(phone.rstrip("012").upper() for phone in phones)
        try:
            if not phones:  # which PocketSphinx does not survive
                raise ValueError(line)
            decoder.add_word(word.lower(), bare, False)
        except (RuntimeError, ValueError):
            raise InputError(
                f"{path}:{number}: expected a word that is not there yet and its phones, of the CMU dictionary, "
                f"found {line!r}"
            ) from None


def _align(decoder: Any, wave_S: torch.Tensor, words: Sequence[str]) -> list[AlignedLabel]:
    """Return the phones of one recording, silences among them; none where the words do not fit it."""
    raw = (wave_S * 32767).round().clamp(-32768, 32767).to(torch.int16).numpy().tobytes()
    try:
        decoder.set_align_text(" ".join(words))
        _search(decoder, raw)
        decoder.set_alignment()  # the second search looks for the phones of the words that the first one heard
        _search(decoder, raw)
        # What the alignment gives lives no longer than its iterator.
        segments = [(word.name, [_row(phone) for phone in word]) for word in decoder.get_alignment() or ()]
    except RuntimeError:
        return []
    # A search that does not reach the end of the words may end without an error, before the last ones.
    heard = [name.partition("(")[0] for name, _ in segments if not name.startswith("<")]
    return [row for _, rows in segments for row in rows] if heard == list(words) else []


def _row(phone: Any) -> AlignedLabel:
    end = phone.start + phone.duration
    score = phone.score * SCORE_NATS / phone.duration
    return AlignedLabel(phone.name, phone.start, end, phone.start * FRAME_SECONDS, end * FRAME_SECONDS, score)


def _search(decoder: Any, raw: bytes) -> None:
    decoder.start_utt()
    try:
        decoder.process_raw(raw, full_utt=True)
    finally:
        decoder.end_utt()


def _warn_of_the_rest(manifest: Manifest, left_out: int, unknown: Counter[str]) -> None:
    words = ", ".join(word for word, _ in unknown.most_common(5))
    cause = f"{len(unknown)} words are not in the dictionary ({words}); --pronunciations adds words"
    if left_out == len(manifest):
        raise InputError(
            f"{manifest.source}: no utterance could be aligned: " + (cause if unknown else "none fits its words")
        )
    if left_out:
        logger.warning(f"{left_out} of {len(manifest)} utterances are left out" + (f": {cause}" if unknown else ""))
