"""Which prompts are trained on, tuned on and tested on: one rule, from the words alone; and the lists that say so."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ccc_w2v.corpora.labels import letters, ranked_letters, write_dictionary, write_labels
from ccc_w2v.data.audio import read_audio
from ccc_w2v.data.manifest import Manifest, read_manifest, write_manifest
from ccc_w2v.errors import InputError

SAMPLE_RATE = 16_000
LABELLED = ("train", "valid", "test")
MANIFESTS = ("pretrain", "pretrain_valid", *LABELLED, "noise")
TEST_SHARE, VALID_SHARE = 0.11, 0.05
# Chosen among twelve for splits of the same share in words as in utterances, before anything was trained on them.
SPLIT_SALT = "0"


@dataclass(frozen=True)
class Prompt:
    """One recording: its path below audio/, its source, its length, what it holds and, unless labelled, why not."""

    path: str
    source: Path
    seconds: float
    kind: str
    words: str
    unlabelled: str

    @property
    def split(self) -> str:
        """Return "train", "valid" or "test", from the words alone where they are known: equal words, equal split."""
        return split_of(self.words or self.path)


def split_of(words: str) -> str:
    """Return the split of a text: the same for the same text, in any version of the collection."""
    digest = hashlib.blake2b(f"{SPLIT_SALT}:{words}".encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2**64
    return "test" if place < TEST_SHARE else "valid" if place < TEST_SHARE + VALID_SHARE else "train"


def lists_of(prompts: list[Prompt]) -> dict[str, list[Prompt]]:
    """Return the prompts of each manifest; raises InputError when there are too few to fill every one."""
    speech = [prompt for prompt in prompts if prompt.kind == "speech"]
    labelled = [prompt for prompt in speech if not prompt.unlabelled]
    tested = {prompt.words for prompt in labelled if prompt.split == "test"}
    # An unlabelled recording of words that are tested is kept from pre-training too.
    untested = [prompt for prompt in speech if not (prompt.words and prompt.words in tested)]
    lists = {split: [prompt for prompt in labelled if prompt.split == split] for split in LABELLED}
    lists["pretrain"] = [prompt for prompt in untested if prompt.split != "valid"]
    lists["pretrain_valid"] = [prompt for prompt in untested if prompt.split == "valid"]
    lists["noise"] = [prompt for prompt in prompts if prompt.kind == "noise"]
    if empty := [name for name in MANIFESTS if not lists[name]]:
        raise InputError(
            f"the source holds {len(prompts)} prompts, which leaves the list '{empty[0]}' empty; use a whole release"
        )
    return lists


def write_lists(out: Path, lists: Mapping[str, list[Prompt]], samples: Mapping[str, int]) -> None:
    """Write manifests, .wrd and .ltr files and dict.ltr.txt; ``samples`` gives each path's length."""
    for name in MANIFESTS:
        entries = [(prompt.path, samples[prompt.path]) for prompt in lists[name]]
        write_manifest(out / f"{name}.tsv", out / "audio", entries)
    words = {split: [prompt.words for prompt in lists[split]] for split in LABELLED}
    for split in LABELLED:
        write_labels(out / f"{split}.tsv", words[split])
    held_out = (line for split in LABELLED for line in words[split])
    write_dictionary(out / "dict.ltr.txt", ranked_letters(words["train"], held_out))


def check(out: str | Path) -> dict[str, dict[str, float]]:
    """Verify a prepared folder; return utterances, hours, words and utterances of several words for each list.

    Raises InputError for audio that is missing or not as declared, for labels that do not fit their manifest, and for
    any text or recording of the test set in training or pre-training.
    """
    out = Path(out)
    manifests = {name: read_manifest(out / f"{name}.tsv") for name in MANIFESTS}
    for manifest in manifests.values():
        for entry in manifest.entries:
            where = manifest.where(entry)
            read_audio(manifest.audio_path(entry), SAMPLE_RATE, where=where, declared_samples=entry.samples)
    texts = {split: _read_labels(out, split, len(manifests[split])) for split in LABELLED}
    for held_out, seen in (("test", "train"), ("test", "valid"), ("valid", "train")):
        if shared := sorted(set(texts[held_out]) & set(texts[seen])):
            raise InputError(f"{out}/{held_out}.wrd: {shared[0]!r} is in {seen}.wrd too; prepare the corpus again")
    paths = {name: {entry.path for entry in manifest.entries} for name, manifest in manifests.items()}
    for held_out, seen in (("test", "pretrain"), ("test", "pretrain_valid"), ("pretrain_valid", "pretrain")):
        if shared := sorted(paths[held_out] & paths[seen]):
            raise InputError(f"{out}/{seen}.tsv: {shared[0]} is in {held_out}.tsv too; prepare the corpus again")
    return {name: _size(manifest, texts.get(name, [])) for name, manifest in manifests.items()}


def _read_labels(out: Path, split: str, utterances: int) -> list[str]:
    words, spelled = ((out / f"{split}.{kind}").read_text(encoding="utf-8").splitlines() for kind in ("wrd", "ltr"))
    if spelled != [letters(line) for line in words] or len(words) != utterances:
        raise InputError(
            f"{out}/{split}.ltr: {len(spelled)} lines that do not fit {split}.wrd ({len(words)} lines) and {split}.tsv "
            f"({utterances} utterances); prepare the corpus again"
        )
    return words


def _size(manifest: Manifest, texts: list[str]) -> dict[str, float]:
    seconds = sum(entry.samples for entry in manifest.entries) / SAMPLE_RATE
    size: dict[str, float] = {"utterances": len(manifest), "hours": round(seconds / 3600, 5)}
    if texts:
        size |= {"words": sum(len(text.split()) for text in texts), "multi_word": sum(" " in text for text in texts)}
    return size


def table(sizes: Mapping[str, Mapping[str, float]]) -> str:
    """Return one line per list: utterances, minutes, words, utterances of more than one word."""
    lines = [f"{'list':<16}{'utterances':>12}{'minutes':>10}{'words':>8}{'multi-word':>12}"]
    for name, size in sizes.items():
        words, multi = (size.get(key, "-") for key in ("words", "multi_word"))
        lines.append(f"{name:<16}{size['utterances']:>12}{size['hours'] * 60:>10.2f}{words:>8}{multi:>12}")
    return "\n".join(lines)
