"""A manifest's transcripts: resumable by utterance, with word times and, on request, the log-probabilities."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from tqdm import tqdm

from ccc_w2v.data.audio import read_audio
from ccc_w2v.data.manifest import Manifest, write_whole
from ccc_w2v.errors import InputError
from ccc_w2v.evaluate.ctc_model import CtcModel
from ccc_w2v.evaluate.decode import MAX_BATCH_SAMPLES, Word, batches_for, best_path, emit, sha256, timed_words
from ccc_w2v.evaluate.wer import utterance_ids


@dataclass(frozen=True)
class Transcription:
    """Words of each utterance, in the manifest's order, and what it took: seconds of this run, without the resumed."""

    words: dict[str, list[Word]]
    resumed: int
    audio_seconds: float
    wall_seconds: float

    @property
    def texts(self) -> dict[str, str]:
        """Text of each utterance."""
        return {utterance: " ".join(word.text for word in words) for utterance, words in self.words.items()}


def transcribe(
    model: CtcModel,
    manifest: Manifest,
    journal_path: Path,
    identity: dict[str, str],
    *,
    max_samples: int = MAX_BATCH_SAMPLES,
    logits_dir: Path | None = None,
) -> Transcription:
    """Decode every utterance of ``manifest`` greedily, keeping each finished batch in the journal.

    A journal of the same ``identity`` (see decoding_identity) is continued; raises InputError for one of another. With
    ``logits_dir``, each utterance's log-probabilities (T, V) are written there as <id>.npy, float32.
    """
    ids = utterance_ids(manifest)
    words, journal = _open_journal(journal_path, identity)
    todo = [position for position, utterance in enumerate(ids) if utterance not in words]
    resumed = len(ids) - len(todo)
    started = time.perf_counter()
    lengths = [manifest.entries[position].samples for position in todo]
    with journal, tqdm(total=len(ids), initial=resumed, unit="utt", desc="decoding") as bar:
        for batch in batches_for(model, lengths, max_samples):
            positions = [todo[index] for index in batch]
            emissions = _emit_positions(model, manifest, ids, positions, max_samples)
            for position, log_probs_TV in zip(positions, emissions, strict=True):
                utterance = ids[position]
                if logits_dir is not None:
                    _write_array(logits_dir / f"{utterance}.npy", log_probs_TV.numpy())
                words[utterance] = timed_words(best_path(log_probs_TV, model.blank), model)
                line = {"id": utterance, "words": [astuple(word) for word in words[utterance]]}
                journal.write(json.dumps(line, ensure_ascii=False) + "\n")
            journal.flush()
            bar.update(len(batch))
    audio_seconds = sum(lengths) / model.sample_rate
    in_order = {utterance: words[utterance] for utterance in ids}
    return Transcription(in_order, resumed, audio_seconds, time.perf_counter() - started)


def _emit_positions(
    model: CtcModel, manifest: Manifest, ids: Sequence[str], positions: Sequence[int], max_samples: int
) -> list[torch.Tensor]:
    waves = [
        read_audio(
            manifest.audio_path(entry),
            model.sample_rate,
            where=manifest.where(entry),
            declared_samples=entry.samples,
            min_samples=model.min_samples,
        )
        for entry in (manifest.entries[position] for position in positions)
    ]
    return emit(model, waves, [ids[position] for position in positions], max_samples)


def _write_array(path: Path, values: np.ndarray) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            np.save(file, values)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_ctm(path: str | Path, words: Mapping[str, Sequence[Word]]) -> None:
    """Write a NIST .ctm file: utterance, channel 1, start and duration in seconds, word, confidence; sorted by id."""
    write_whole(
        path,
        "".join(
            f"{utterance} 1 {word.start:.3f} {word.duration:.3f} {word.text} {word.confidence:.4f}\n"
            for utterance in sorted(words)
            for word in words[utterance]
        ),
    )


def decoding_identity(model: CtcModel, files: Sequence[str | Path], manifest: Manifest) -> dict[str, str]:
    """Return what decides a transcript: hashes of the model's files, manifest and dictionary, and the precision."""
    precision = str(next(model.network.parameters()).dtype).removeprefix("torch.")
    return {
        "checkpoint": " ".join(sha256(Path(file)) for file in files),
        "manifest": sha256(Path(manifest.source)),
        "labels": hashlib.sha256("\n".join(model.labels).encode()).hexdigest(),
        "dtype": precision,
    }


def _open_journal(path: Path, identity: dict[str, str]) -> tuple[dict[str, list[Word]], TextIO]:
    content = path.read_bytes() if path.is_file() else b""
    # A kill can leave half a line at the end: that utterance is decoded again.
    complete = content[: content.rfind(b"\n") + 1]
    words: dict[str, list[Word]] = {}
    try:
        header, *lines = [json.loads(line) for line in complete.splitlines()] or [identity]
        words = {line["id"]: [Word(*fields) for fields in line["words"]] for line in lines}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a journal of this tool ({error}); remove it to decode from the start") from error
    if header != identity:
        raise InputError(
            f"{path}: an unfinished decoding of another checkpoint, manifest, dictionary or precision; remove it to "
            "give it up, or choose another output folder"
        )
    if not complete:
        write_whole(path, json.dumps(identity) + "\n")
    elif len(complete) < len(content):
        os.truncate(path, len(complete))
    return words, open(path, "a", encoding="utf-8")
