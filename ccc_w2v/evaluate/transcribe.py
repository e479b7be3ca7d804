"""A manifest's transcripts, resumable by utterance, and the files they are written to."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from tqdm import tqdm

from ccc_w2v.data.audio import read_audio
from ccc_w2v.data.manifest import Manifest, write_whole
from ccc_w2v.data.stm import TimedWord, write_ctm
from ccc_w2v.errors import InputError
from ccc_w2v.evaluate.batch_threads import batches_at_once, compute_ahead
from ccc_w2v.evaluate.beam import BeamSettings
from ccc_w2v.evaluate.ctc_model import CtcModel
from ccc_w2v.evaluate.decode import (
    MAX_BATCH_SAMPLES,
    Hypothesis,
    Search,
    Word,
    batches_for,
    emit,
    greedy_search,
    sha256,
)
from ccc_w2v.evaluate.decoding_record import write_record
from ccc_w2v.evaluate.search_pool import searching
from ccc_w2v.evaluate.wer import read_references, utterance_ids, write_trn

# For each search process, so many utterances may wait for it: enough work for all of them during a batch, and a bound
# on the memory of log-probabilities.
WAITING = 8


@dataclass(frozen=True)
class Transcription:
    """Hypotheses of each utterance, best first, in the manifest's order, and what it took.

    Seconds are those of this run, without the resumed utterances.
    """

    hypotheses: dict[str, list[Hypothesis]]
    resumed: int
    audio_seconds: float
    wall_seconds: float

    @property
    def texts(self) -> dict[str, str]:
        """Best text of each utterance."""
        return {utterance: best[0].text for utterance, best in self.hypotheses.items()}


def transcribe(
    model: CtcModel,
    manifest: Manifest,
    journal_path: Path,
    identity: dict[str, str],
    *,
    search: Search | None = None,
    search_processes: int = 0,
    max_samples: int = MAX_BATCH_SAMPLES,
    logits_dir: Path | None = None,
) -> Transcription:
    """Decode every utterance of ``manifest`` (greedily without a ``search``), keeping finished ones in the journal.

    With ``search_processes`` the searches run in so many processes while the network computes the next batch; the
    results and their order in the journal are the same.

    A journal of the same ``identity`` (see decoding_identity) is continued; raises InputError for one of another. With
    ``logits_dir``, each utterance's log-probabilities (T, V) are written there as <id>.npy, float32.
    """
    ids, search = utterance_ids(manifest), search or greedy_search(model)
    hypotheses, journal = _open_journal(journal_path, identity)
    todo = [position for position, utterance in enumerate(ids) if utterance not in hypotheses]
    resumed = len(ids) - len(todo)
    started = time.perf_counter()
    lengths = [manifest.entries[position].samples for position in todo]
    at_once = batches_at_once(next(model.network.parameters()).device)

    def emitted(positions: list[int]) -> list[torch.Tensor]:
        return _emit_positions(model, manifest, ids, positions, max_samples)

    with (
        journal,
        tqdm(total=len(ids), initial=resumed, unit="utt", desc="decoding") as bar,
        searching(search, search_processes) as submit,
    ):

        def searches() -> Iterator[tuple[str, Future[list[Hypothesis]]]]:
            # Together the batches in memory are as large as one.
            batches = batches_for(model, lengths, max_samples // at_once)
            positions_of = [[todo[index] for index in batch] for batch in batches]
            for positions, emissions in compute_ahead(emitted, positions_of, at_once):
                for position, log_probs_TV in zip(positions, emissions, strict=True):
                    if logits_dir is not None:
                        _write_array(logits_dir / f"{ids[position]}.npy", log_probs_TV.numpy())
                    yield ids[position], submit(log_probs_TV)

        def keep(utterance: str, found: Future[list[Hypothesis]]) -> None:
            hypotheses[utterance] = found.result()
            line = {"id": utterance, "hypotheses": [_as_line(each) for each in hypotheses[utterance]]}
            journal.write(json.dumps(line, ensure_ascii=False) + "\n")
            journal.flush()
            bar.update()

        _in_order(searches(), keep, waiting=WAITING * search_processes)
    audio_seconds = sum(lengths) / model.sample_rate
    in_order = {utterance: hypotheses[utterance] for utterance in ids}
    return Transcription(in_order, resumed, audio_seconds, time.perf_counter() - started)


def _in_order(
    searches: Iterator[tuple[str, Future[list[Hypothesis]]]],
    keep: Callable[[str, Future[list[Hypothesis]]], None],
    waiting: int,
) -> None:
    """Keep the searches' results in the order in which they were started, at most ``waiting`` of them unfinished."""
    started: deque[tuple[str, Future[list[Hypothesis]]]] = deque()
    for search in searches:
        started.append(search)
        while started and (started[0][1].done() or len(started) > waiting):
            keep(*started.popleft())
    while started:
        keep(*started.popleft())


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


def _as_line(hypothesis: Hypothesis) -> list[Any]:
    return [[astuple(word) for word in hypothesis.words], hypothesis.acoustic, hypothesis.lm, hypothesis.total]


def _from_line(line: list[Any]) -> Hypothesis:
    words, *scores = line
    return Hypothesis([Word(*fields) for fields in words], *scores)


def _write_array(path: Path, values: np.ndarray) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            np.save(file, values)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def decode_into(
    out: Path,
    model: CtcModel,
    manifest: Manifest,
    identity: dict[str, str],
    *,
    search: Search | None = None,
    search_processes: int = 0,
    max_samples: int = MAX_BATCH_SAMPLES,
    logits: bool = False,
    nbest: bool = False,
) -> Transcription:
    """Transcribe into a folder: hyp.trn, hyp.ctm, what made them in decoding.json, ref.trn where <split>.wrd exists.

    See transcribe and write_nbest. Raises InputError as transcribe does, and for ids and references that cannot be
    written, before anything is.
    """
    ids, references = utterance_ids(manifest), read_references(manifest)
    logits_dir = out / "logits" if logits else None
    (logits_dir or out).mkdir(parents=True, exist_ok=True)
    journal = out / "hyp.partial.jsonl"
    identity = {**identity, "logits": str(logits)}
    result = transcribe(
        model,
        manifest,
        journal,
        identity,
        search=search,
        search_processes=search_processes,
        max_samples=max_samples,
        logits_dir=logits_dir,
    )
    if references is not None:
        write_trn(out / "ref.trn", dict(zip(ids, references, strict=True)))
    if nbest:
        found = {utterance: list(map(as_scores, each)) for utterance, each in result.hypotheses.items()}
        write_nbest(out / "nbest.jsonl", found)
    write_words(out / "hyp.ctm", {utterance: best[0].words for utterance, best in result.hypotheses.items()})
    write_trn(out / "hyp.trn", result.texts)
    write_record(out, identity)
    journal.unlink()
    return result


def write_words(path: str | Path, words: Mapping[str, Sequence[Word]]) -> None:
    """Write a NIST .ctm file of utterances, each as a recording of channel 1; see data.stm.write_ctm."""
    write_ctm(
        path,
        (
            TimedWord(utterance, "1", word.start, word.duration, word.text, word.confidence)
            for utterance, found in words.items()
            for word in found
        ),
    )


def as_scores(hypothesis: Hypothesis) -> dict[str, Any]:
    """Return what an n-best list says of a hypothesis."""
    scores = {"acoustic": hypothesis.acoustic, "lm": hypothesis.lm, "total": hypothesis.total}
    return {"text": hypothesis.text, **scores}


def write_nbest(path: str | Path, nbest: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Write a JSON line for each utterance: its id and its hypotheses (see as_scores), best first."""
    lines = ({"id": utterance, "nbest": list(found)} for utterance, found in nbest.items())
    write_whole(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def decoding_identity(
    model: CtcModel, files: Sequence[str | Path], manifest: Manifest, settings: BeamSettings | None = None
) -> dict[str, str]:
    """Return what decides a transcript: hashes of the files that it is made from, the precision, the search."""
    precision = str(next(model.network.parameters()).dtype).removeprefix("torch.")
    searched = {} if settings is None else {key: str(value) for key, value in asdict(settings).items()}
    for name in ("lm", "lexicon"):
        if path := getattr(settings, name, None):
            searched[name] = sha256(Path(path))
    return {
        "checkpoint": " ".join(sha256(Path(file)) for file in files),
        "manifest": sha256(Path(manifest.source)),
        "labels": hashlib.sha256("\n".join(model.labels).encode()).hexdigest(),
        "dtype": precision,
        **searched,
    }


def _open_journal(path: Path, identity: dict[str, str]) -> tuple[dict[str, list[Hypothesis]], TextIO]:
    content = path.read_bytes() if path.is_file() else b""
    # A kill can leave half a line at the end: that utterance is decoded again.
    complete = content[: content.rfind(b"\n") + 1]
    hypotheses: dict[str, list[Hypothesis]] = {}
    try:
        header, *lines = [json.loads(line) for line in complete.splitlines()] or [identity]
        hypotheses = {line["id"]: list(map(_from_line, line["hypotheses"])) for line in lines}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a journal of this tool ({error}); remove it to decode from the start") from error
    if header != identity:
        raise InputError(
            f"{path}: an unfinished decoding of another checkpoint, manifest, precision or search; remove it to "
            "give it up, or choose another output folder"
        )
    if not complete:
        write_whole(path, json.dumps(identity) + "\n")
    elif len(complete) < len(content):
        os.truncate(path, len(complete))
    return hypotheses, open(path, "a", encoding="utf-8")
