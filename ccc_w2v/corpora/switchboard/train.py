"""Switchboard-1 as training data: everything is read and judged first, then audio, manifests and labels are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ccc_w2v.corpora.labels import ranked_letters, write_dictionary, write_labels
from ccc_w2v.corpora.switchboard.audio import SAMPLE_RATE, Excerpt, look_at_calls, samples_of, write_calls
from ccc_w2v.corpora.switchboard.fisher import fisher_text
from ccc_w2v.corpora.switchboard.lists import LABELLED, lists_of
from ccc_w2v.corpora.switchboard.source import (
    Utterance,
    check_complete,
    fetch_transcripts,
    find_calls,
    find_transcripts,
    read_transcripts,
    transcript_differences,
)
from ccc_w2v.corpora.switchboard.sphere import Call
from ccc_w2v.corpora.switchboard.text import label_words, unknown_characters
from ccc_w2v.data.manifest import write_manifest
from ccc_w2v.errors import InputError
from ccc_w2v.files import write_whole
from ccc_w2v.sharding import Shard

# Shorter ones hold no masked span of wav2vec 2.0.
MIN_PRETRAIN_SECONDS = 2.0


@dataclass(frozen=True)
class SwitchboardCorpus:
    """Switchboard-1 before anything of it is written; ``labels`` has no entry for an utterance that cannot have one."""

    calls: Mapping[str, Call]
    utterances: Sequence[Utterance]
    labels: Mapping[str, str]
    lists: Mapping[str, Sequence[Utterance]]
    fisher: Sequence[str]
    differences: list[str]

    def samples(self, utterance: Utterance) -> int:
        """Return an utterance's length at 16 kHz."""
        start, end = samples_of(utterance.excerpt, self.calls[utterance.call])
        return end - start


def read_corpus(
    source: Path,
    transcripts: str | Path | None,
    fisher: Sequence[str | Path],
    *,
    downloads: Path,
    url: str | None = None,
    keep_noises: bool,
    dev: int,
    first: int,
) -> SwitchboardCorpus:
    """Read transcripts, headers and lists; raises InputError for anything wrong with them.

    Without ``transcripts`` a folder swb_ms98_transcriptions among the audio is taken, else they are fetched.
    """
    paths = find_calls(source)
    if transcripts is None:
        inside = [path for path in source.rglob("swb_ms98_transcriptions") if path.is_dir()]
        transcripts = inside[0] if inside else fetch_transcripts(downloads, url)
    sides, dictionary = find_transcripts(transcripts)
    differing = check_complete(source, paths, sorted({call for call, _ in sides}))
    differing += transcript_differences(sides, dictionary)
    utterances = [utterance for utterance in read_transcripts(sides, dictionary) if utterance.call in paths]
    calls = look_at_calls(paths, _excerpts(utterances))
    written = {utterance.id: label_words(utterance.text, keep_noises=keep_noises) for utterance in utterances}
    labels = {name: words for name, words in written.items() if words and not unknown_characters(words.split())}
    if unknown := sum(map(bool, written.values())) - len(labels):
        differing.append(f"{unknown} utterances with other characters than letters, ' and -, in no labelled list")
    lists = dict(lists_of(utterances, dev=dev, first=first))
    corpus = SwitchboardCorpus(
        calls, utterances, labels, lists, [line for folder in fisher for line in fisher_text(folder)], differing
    )
    least = MIN_PRETRAIN_SECONDS * SAMPLE_RATE
    for name in lists:
        kept = (
            labels
            if name in LABELLED
            else {utterance.id for utterance in lists[name] if corpus.samples(utterance) >= least}
        )
        lists[name] = [utterance for utterance in lists[name] if utterance.id in kept]
        if not lists[name]:
            raise InputError(f"{source}: no utterance is left for the list '{name}'; use the whole corpus")
    return corpus


def write_corpus(
    out: Path, corpus: SwitchboardCorpus, *, zipped: bool, workers: int | None = None
) -> dict[str, dict[str, float]]:
    """Write a corpus into ``out``, as ccc_w2v/corpora/switchboard/prepare.py says; returns counts by list."""
    excerpts = _excerpts(corpus.utterances)
    where = write_calls(out / "audio", corpus.calls, excerpts, zipped=zipped, workers=workers)
    counts: dict[str, dict[str, float]] = {"all": {"calls": len(excerpts), "utterances": len(corpus.utterances)}}
    for name, listed in corpus.lists.items():
        entries = [(where[utterance.id], corpus.samples(utterance)) for utterance in listed]
        hours = sum(samples for _, samples in entries) / SAMPLE_RATE / 3600
        calls = {utterance.call for utterance in listed}
        counts[name] = {"calls": len(calls), "utterances": len(listed), "hours": round(hours, 5)}
        if name in LABELLED:
            words = [corpus.labels[utterance.id] for utterance in listed]
            write_labels(out / f"{name}.tsv", words)
            counts[name]["words"] = sum(len(line.split()) for line in words)
        write_manifest(out / f"{name}.tsv", out / "audio", entries)
    _write_text(out, corpus)
    return counts


def write_share(
    out: Path, corpus: SwitchboardCorpus, shard: Shard, *, zipped: bool, workers: int | None = None
) -> tuple[int, int]:
    """Write the audio of one shard's calls alone, about an n-th of the hours; returns how many calls of how many."""
    excerpts = _excerpts(corpus.utterances)
    own = shard.take(list(excerpts), [corpus.calls[name].samples for name in excerpts])
    write_calls(out / "audio", corpus.calls, {name: excerpts[name] for name in own}, zipped=zipped, workers=workers)
    return len(own), len(excerpts)


def _write_text(out: Path, corpus: SwitchboardCorpus) -> None:
    """Write the dictionary of letters, the text for language models, and all transcripts."""
    training, dev = (
        [corpus.labels[utterance.id] for utterance in corpus.lists[name]] for name in ("train_nodup", "dev")
    )
    write_dictionary(out / "dict.ltr.txt", ranked_letters(training, dev))
    held_out = {utterance.id for utterance in corpus.lists["dev"]}
    text = [words for name, words in corpus.labels.items() if name not in held_out]
    write_whole(out / "lm.txt", "".join(f"{line}\n" for line in [*text, *corpus.fisher]))
    rows = (
        f"{utterance.id}\t{utterance.speaker}\t{utterance.excerpt.start:.3f}\t{utterance.excerpt.end:.3f}\t{utterance.text}\n"
        for utterance in corpus.utterances
    )
    write_whole(out / "utterances.tsv", "".join(rows))


def _excerpts(utterances: Sequence[Utterance]) -> dict[str, list[Excerpt]]:
    excerpts: dict[str, list[Excerpt]] = {}
    for utterance in utterances:
        excerpts.setdefault(utterance.call, []).append(utterance.excerpt)
    return excerpts
