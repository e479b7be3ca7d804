"""Which recordings the corpus `small` consists of, and who speaks where: the pinned lists, and the rule behind them.

manifests/small_<source>.tsv has a line for each recording: its path in the source without the ending, its samples in
the source's file, the lists it belongs to, and the first 16 digits of an MD5, of the samples as 16 bit little-endian
(what a FLAC file's header has of them) where the source is lossless, else of the file.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ccc_w2v.errors import InputError
from ccc_w2v.shared_files import shared_folder

SAMPLE_RATE = 16_000
LABELLED = ("train", "train_1h", "train_10m", "dev", "test")
LISTS = ("unlabelled", *LABELLED, "noise_train", "noise_test")
SUBSET_SECONDS = {"train_1h": 3600, "train_10m": 600}
TRAIN_SPEAKERS = ("174", "251", "422", "1272", "1673", "1919", "1988", "1993", "2035", "2078", "2086", "2428")
DEV_SPEAKERS = ("652", "1462")
TEST_SPEAKERS = ("84", "777", "2277", "2412", "2803", "2902")
# Folds of ESC-10, the first digit of a recording's name.
NOISE_FOLDS = {"noise_train": ("1", "2"), "noise_test": ("5",)}

_UTTERANCE = re.compile(r"(\d+)-\d+-\d+(\.|$)")


@dataclass(frozen=True)
class Recording:
    """One line of a list: path in the source without ending, samples at the source's rate, lists, digits of an MD5."""

    name: str
    samples: int
    lists: tuple[str, ...]
    digest: str


def pinned_list(source: str) -> list[Recording]:
    """Return the recordings of a source, from manifests/small_<source>.tsv."""
    lines = (shared_folder("manifests") / f"small_{source}.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return [Recording(name, int(samples), tuple(lists.split(",")), digest) for name, samples, lists, digest in rows]


def assigned_lists(
    source: str, samples: Mapping[str, int], subset_seconds: Mapping[str, float] = SUBSET_SECONDS
) -> dict[str, tuple[str, ...]]:
    """Return the lists of each recording of a source by the rule that the pinned ones were made with.

    ``samples`` gives the length of each recording by its name, ``subset_seconds`` that of each labelled subset.
    """
    if source == "noises":
        return {name: tuple(fold for fold, folds in NOISE_FOLDS.items() if fold_of(name) in folds) for name in samples}
    if source != "librispeech":
        return dict.fromkeys(samples, ("unlabelled",))
    train = {name: length for name, length in samples.items() if speaker_of(name) in TRAIN_SPEAKERS}
    subsets = {name: set(labelled_subset(train, seconds)) for name, seconds in subset_seconds.items()}
    lists: dict[str, tuple[str, ...]] = {
        name: ("test",) if speaker_of(name) in TEST_SPEAKERS else ("dev",) for name in samples
    }
    for name in train:
        lists[name] = ("unlabelled", "train", *(subset for subset, names in subsets.items() if name in names))
    return lists


def speaker_of(path: str) -> str:
    """Return the speaker of an utterance of LibriSpeech by its path: "84" for .../84-121123-0000.flac.

    Any other recording has no known speaker: the empty string.
    """
    name = _UTTERANCE.match(path.rsplit("/", 1)[-1])
    return name[1] if name else ""


def fold_of(path: str) -> str:
    """Return the fold of a noise of ESC-10 by its path: "5" for .../5-189212-A.ogg."""
    return path.rsplit("/", 1)[-1].partition("-")[0]


def labelled_subset(samples: Mapping[str, int], seconds: float) -> list[str]:
    """Return the utterances, by name, that make up a labelled subset of so many seconds.

    The speaker with the least audio so far gives the next utterance (the smaller number of two equal ones), speakers'
    utterances coming in the order of the BLAKE2b digest (8 bytes, hexadecimal) of "small:" and the utterance's name;
    until ``seconds`` are reached, or nothing is left. So a subset contains every smaller one. ``samples`` gives the
    length of each utterance.
    """
    waiting: dict[str, list[str]] = defaultdict(list)
    for name in sorted(samples, key=_draw, reverse=True):
        waiting[speaker_of(name)].append(name)
    taken = dict.fromkeys(sorted(waiting, key=int), 0)
    subset: list[str] = []
    while any(waiting.values()) and sum(taken.values()) < seconds * SAMPLE_RATE:
        speaker = min((speaker for speaker in taken if waiting[speaker]), key=taken.__getitem__)
        subset.append(waiting[speaker].pop())
        taken[speaker] += samples[subset[-1]]
    return sorted(subset)


def _draw(name: str) -> str:
    return hashlib.blake2b(f"small:{name.rsplit('/', 1)[-1]}".encode(), digest_size=8).hexdigest()


def require_unheard(paths: Mapping[str, Sequence[str]]) -> None:
    """Raise InputError where a list holds what it must not: ``paths`` gives each list's recordings.

    No utterance of a test or dev speaker may be in what is trained on, none of a test speaker in dev, no noise of the
    test's fold among the training noises, and no utterance of a training speaker in dev or test.
    """
    banned = {"dev": TEST_SPEAKERS + TRAIN_SPEAKERS, "test": TRAIN_SPEAKERS + DEV_SPEAKERS}
    banned |= dict.fromkeys(("unlabelled", "train", "train_1h", "train_10m"), TEST_SPEAKERS + DEV_SPEAKERS)
    for name, speakers in banned.items():
        if wrong := [path for path in paths.get(name, ()) if speaker_of(path) in speakers]:
            raise InputError(f"list '{name}' of the corpus small holds {wrong[0]}, whose speaker must not be in it")
    for name, folds in NOISE_FOLDS.items():
        if wrong := [path for path in paths.get(name, ()) if fold_of(path) not in folds]:
            raise InputError(f"list '{name}' of the corpus small holds {wrong[0]}, of another fold than {folds}")
