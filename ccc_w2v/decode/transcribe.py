"""A manifest's transcripts, resumable by utterance, and the files they are written to."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ccc_w2v.data.decoding import FILE_NAMES, SETTINGS
from ccc_w2v.data.labels import read_references
from ccc_w2v.data.manifest import Manifest
from ccc_w2v.data.stm import TimedWord, write_ctm
from ccc_w2v.data.trn import trn_text, utterance_ids, write_trn
from ccc_w2v.decode.batching import MAX_BATCH_SAMPLES
from ccc_w2v.decode.beam import FILES, BeamSettings
from ccc_w2v.decode.ctc_model import CtcModel
from ccc_w2v.decode.greedy import greedy_search
from ccc_w2v.decode.hypothesis import Hypothesis, Search, Word
from ccc_w2v.decode.journal import add_line, journal_identity, open_journal
from ccc_w2v.decode.log_probs import emitted_segments
from ccc_w2v.decode.long_segments import joined
from ccc_w2v.decode.long_windows import Windows
from ccc_w2v.decode.search_pool import searched
from ccc_w2v.files import sha256, write_whole
from ccc_w2v.run_folder import Output, claim, remove

# Seconds of audio, and how many of them in a second.
BAR = "{l_bar}{bar}| {n:.0f}/{total:.0f} s [{elapsed}<{remaining}, {rate_fmt}]"


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


@dataclass(frozen=True)
class DecodingOptions:
    """How a manifest is decoded, and what is written beside its transcripts.

    Greedily without a ``search``. With ``search_processes`` the searches run in so many processes while the network
    computes the next batch; the results and their order in the journal are the same. ``max_samples`` bounds a batch,
    padding included. Recordings longer than ``windows`` are read and computed window by window and searched in segments
    (see long_windows.py and long_segments.py), so that memory does not grow with their length. ``logits`` also writes
    each utterance's log-probabilities, ``nbest`` the lists of hypotheses.
    """

    search: Search | None = None
    search_processes: int = 0
    max_samples: int = MAX_BATCH_SAMPLES
    windows: Windows | None = None
    logits: bool = False
    nbest: bool = False


GREEDILY = DecodingOptions()


def transcribe(
    model: CtcModel,
    manifest: Manifest,
    journal_path: Path,
    identity: dict[str, str],
    options: DecodingOptions = GREEDILY,
    logits_dir: Path | None = None,
) -> Transcription:
    """Decode every utterance of ``manifest``, keeping finished ones in the journal.

    With ``logits_dir``, each utterance's log-probabilities (T, V) are written there as <id>.npy, float32.

    A journal of the same ``identity`` (see decoding_identity) is continued; raises InputError for one of another.
    """
    ids, search = utterance_ids(manifest), options.search or greedy_search(model)
    hypotheses, journal = open_journal(journal_path, identity)
    todo = [position for position, utterance in enumerate(ids) if utterance not in hypotheses]
    resumed = len(ids) - len(todo)
    started = time.perf_counter()
    samples = sum(manifest.entries[position].samples for position in todo)
    segments: list[tuple[float, list[Hypothesis]]] = []
    emitted = emitted_segments(model, manifest, todo, options.max_samples, options.windows, logits_dir)
    with (
        journal,
        tqdm(total=samples, unit="s", unit_scale=1 / model.sample_rate, bar_format=BAR, desc="decoding") as bar,
        closing(searched(emitted, search, options.search_processes)) as results,
    ):
        for segment, segment_hypotheses in results:
            segments.append((segment.start, segment_hypotheses))
            if segment.last:
                hypotheses[segment.utterance] = joined(segments)
                segments.clear()
                add_line(journal, segment.utterance, hypotheses[segment.utterance])
            bar.update(segment.samples)
    in_order = {utterance: hypotheses[utterance] for utterance in ids}
    return Transcription(in_order, resumed, samples / model.sample_rate, time.perf_counter() - started)


def decode_into(
    out: Path,
    model: CtcModel,
    manifest: Manifest,
    identity: dict[str, str],
    options: DecodingOptions = GREEDILY,
    *,
    names: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Transcription | None:
    """Transcribe into a folder: hyp.trn, hyp.ctm, what made them in decoding.json, ref.trn where <split>.wrd exists.

    See transcribe and write_nbest. ``identity`` goes into decoding.json, with ``names`` of what it holds the hashes of
    (FILE_NAMES) before it. A folder that holds the same decoding already is left as it is but for changed references:
    returns None.

    Raises InputError as transcribe does, for a folder of another decoding (removed with ``overwrite``, and what was
    scored of it), and for ids and references that cannot be written, before anything is.
    """
    utterance_ids(manifest)
    references = read_references(manifest)
    identity = {**identity, "logits": str(options.logits), "windows": str(options.windows)}
    folder = _DecodingFolder(out, options.logits, options.nbest)
    if folder.done(identity, manifest, overwrite=overwrite):
        folder.write_references(manifest, references)
        return None
    result = transcribe(model, manifest, folder.journal, identity, options, folder.logits_dir)
    folder.write(result, manifest, references, {**(names or {}), **identity})
    return result


class _DecodingFolder:
    """The folder of one decoding: its files, and whether they are those of an identity."""

    def __init__(self, out: Path, logits: bool, nbest: bool) -> None:
        self.out, self.nbest, self.journal = out, nbest, out / "hyp.partial.jsonl"
        self.logits_dir = out / "logits" if logits else None

    def done(self, identity: dict[str, str], manifest: Manifest, *, overwrite: bool) -> bool:
        """Claim the folder; tell whether the decoding in it is finished, else make it ready to begin or resume."""
        logits, settings = self.out / "logits", self.out / SETTINGS
        written = [self.out / name for name in ("hyp.trn", "hyp.ctm", "ref.trn", "nbest.jsonl")]
        if settings.is_file():  # those of an unfinished decoding belong to its journal
            written.append(logits)
        inputs: list[str | Path] = [manifest.source, Path(manifest.source).with_suffix(".wrd")]
        output = Output(self.out, identity, settings, written, inputs, ignored=FILE_NAMES)
        same = claim(output, overwrite=overwrite)
        if overwrite and self.journal.is_file() and journal_identity(self.journal) != identity:
            remove([self.journal, logits])
        wanted = ["hyp.trn", "hyp.ctm", *(["nbest.jsonl"] if self.nbest else [])]
        if same and not self.journal.exists() and all((self.out / name).is_file() for name in wanted):
            return True
        (self.logits_dir or self.out).mkdir(parents=True, exist_ok=True)
        return False

    def write(
        self, result: Transcription, manifest: Manifest, references: list[str] | None, settings: Mapping[str, str]
    ) -> None:
        """Write whose the folder is, then what was decoded, hyp.trn last, and end the journal."""
        write_whole(self.out / SETTINGS, json.dumps(dict(settings), indent=2) + "\n")
        self.write_references(manifest, references)
        if self.nbest:
            nbest = {utterance: list(map(as_scores, ranked)) for utterance, ranked in result.hypotheses.items()}
            write_nbest(self.out / "nbest.jsonl", nbest)
        write_words(self.out / "hyp.ctm", {utterance: best[0].words for utterance, best in result.hypotheses.items()})
        write_trn(self.out / "hyp.trn", result.texts)
        self.journal.unlink()

    def write_references(self, manifest: Manifest, references: list[str] | None) -> None:
        """Let ref.trn hold the references of now; where they have changed, what was scored against it is removed."""
        path = self.out / "ref.trn"
        if references is None:
            remove([path])
            return
        texts = dict(zip(utterance_ids(manifest), references, strict=True))
        if path.is_file() and path.read_text(encoding="utf-8") == trn_text(texts):
            return
        remove([path])
        write_trn(path, texts)


def write_words(path: str | Path, words: Mapping[str, Sequence[Word]]) -> None:
    """Write a NIST .ctm file of utterances, each as a recording of channel 1; see data.stm.write_ctm."""
    write_ctm(
        path,
        (
            TimedWord(utterance, "1", word.start, word.duration, word.text, word.confidence)
            for utterance, timed in words.items()
            for word in timed
        ),
    )


def as_scores(hypothesis: Hypothesis) -> dict[str, Any]:
    """Return what an n-best list says of a hypothesis."""
    scores = {"acoustic": hypothesis.acoustic, "lm": hypothesis.lm, "total": hypothesis.total}
    return {"text": hypothesis.text, **scores}


def write_nbest(path: str | Path, nbest: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Write a JSON line for each utterance: its id and its hypotheses (see as_scores), best first."""
    lines = ({"id": utterance, "nbest": list(ranked)} for utterance, ranked in nbest.items())
    write_whole(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def decoding_identity(
    model: CtcModel, files: Sequence[str | Path], manifest: Manifest, settings: BeamSettings | None = None
) -> dict[str, str]:
    """Return what decides a transcript: hashes of the files that it is made from, the precision, the search."""
    precision = str(next(model.network.parameters()).dtype).removeprefix("torch.")
    searched = {} if settings is None else {key: str(value) for key, value in asdict(settings).items()}
    for name in FILES:
        if path := getattr(settings, name, None):
            searched[name] = sha256(Path(path))
    return {
        "checkpoint": " ".join(sha256(Path(file)) for file in files),
        "manifest": sha256(Path(manifest.source)),
        "labels": hashlib.sha256("\n".join(model.labels).encode()).hexdigest(),
        "dtype": precision,
        **searched,
    }
