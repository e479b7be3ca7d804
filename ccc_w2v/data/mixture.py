"""A mixture of corpora for one training: its YAML file, fairseq's settings for the same, and what share each gets.

    weights: hours                 # or: temperature, with `temperature: 2`; or: given, with a weight for each corpus
    corpora:
      read:      {manifest: libri.tsv}
      telephone: {manifest: fisher.tsv, weight: 2, augment: telephone, on_bad_audio: skip}

A manifest may be a stream (data/streams.py). A relative one is relative to the file's folder. With ``hours`` every
corpus is processed once in an epoch; with a temperature T its share of the hours is its hours' to the power of 1/T (1:
hours; large: all alike); with ``given`` the weights are shares of the hours, up to a common factor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ccc_w2v.data.sources import join_source, source_of
from ccc_w2v.errors import InputError
from ccc_w2v.text_files import read_yaml

HOURS, TEMPERATURE, GIVEN = "hours", "temperature", "given"
KINDS = (HOURS, TEMPERATURE, GIVEN)
EXPECTED = "weights, corpora and, for weights: temperature, a temperature"


@dataclass(frozen=True)
class MixedCorpus:
    """A part of a mixture; ``augment`` and ``on_bad_audio`` are the task's where they are None."""

    name: str
    manifest: str | Path
    weight: float | None = None
    augment: str | None = None
    on_bad_audio: str | None = None


@dataclass(frozen=True)
class Mixture:
    """Corpora and how they are weighted; shares are of hours, or, as fairseq's, of utterances."""

    source: str
    corpora: tuple[MixedCorpus, ...]
    weights: str = HOURS
    temperature: float = 1.0
    of_utterances: bool = False

    def shares(self, hours: Sequence[float]) -> list[float]:
        """Return what share of an epoch each corpus gets, by the hours that it has; they add up to 1."""
        if self.weights == GIVEN:
            raw = [corpus.weight or 0.0 for corpus in self.corpora]
        else:
            raw = [each_hours ** (1 / self.temperature) for each_hours in hours]
        return [weight / math.fsum(raw) for weight in raw]


def read_mixture(path: str | Path) -> Mixture:
    """Read a mixture's YAML file; raises InputError that names what is unknown, missing or out of range."""
    path = Path(path)
    content = read_yaml(path, "mixture", EXPECTED)
    if not isinstance(content, dict) or not isinstance(content.get("corpora"), dict) or not content["corpora"]:
        raise InputError(f"{path}: expected {EXPECTED}; corpora has a name and a manifest for each")
    if unknown := set(content) - {"weights", "temperature", "corpora"}:
        raise InputError(f"{path}: unknown key {min(map(str, unknown))!r}; expected {EXPECTED}")
    weights = content.get("weights", HOURS)
    if weights not in KINDS:
        raise InputError(f"{path}: weights: {weights}: expected one of {', '.join(KINDS)}")
    temperature = content.get("temperature", 1.0)
    if not _number(temperature) or temperature <= 0 or ("temperature" in content) != (weights == TEMPERATURE):
        raise InputError(f"{path}: temperature: a positive number, for weights: temperature alone")
    corpora = tuple(_corpus(path, str(name), entry, weights) for name, entry in content["corpora"].items())
    return _checked(Mixture(str(path), corpora, weights, float(temperature)))


def _corpus(path: Path, name: str, entry: Any, weights: str) -> MixedCorpus:
    known = {field.name for field in fields(MixedCorpus)} - {"name"}
    if not isinstance(entry, Mapping) or "manifest" not in entry or set(entry) - known:
        raise InputError(f"{path}: corpus {name}: expected manifest and, if need be, {', '.join(sorted(known))}")
    if not name.replace("_", "a").isalnum():
        raise InputError(f"{path}: corpus {name!r}: a name has letters, digits and _: the log's columns bear it")
    weight = entry.get("weight")
    if (weight is None) == (weights == GIVEN) or (weight is not None and (not _number(weight) or weight < 0)):
        raise InputError(
            f"{path}: corpus {name}: weight: {weight}: with weights: given every corpus has one, of at least 0; "
            "otherwise none has"
        )
    if entry.get("on_bad_audio") not in (None, "raise", "skip"):
        raise InputError(f"{path}: corpus {name}: on_bad_audio: {entry['on_bad_audio']}: expected raise or skip")
    manifest = join_source(path.parent, str(entry["manifest"]))
    return MixedCorpus(name, manifest, **{k: entry[k] for k in entry if k != "manifest"})


def fairseq_mixture(data: str | Path, split: str, keys: str, weights: str | None) -> Mixture:
    """Return the mixture of fairseq's settings: a split "key:manifest,key:manifest" and a weight for each key.

    Weights are shares of the utterances, as fairseq's are. Raises InputError for settings that do not fit together.
    """
    names = [key.strip() for key in keys.split(",")]
    numbers = _weights(weights, names)
    corpora = []
    for part in split.split(","):
        name, colon, manifest = (word.strip() for word in part.partition(":"))
        if not colon or name not in numbers:
            raise InputError(
                f"dataset.train_subset={split}: {part.strip()!r}: with task.multi_corpus_keys={keys}, expected "
                "key:manifest for each corpus, joined by commas"
            )
        corpora.append(MixedCorpus(name, source_of(data, manifest), numbers[name]))
    source = f"task.multi_corpus_keys={keys}"
    return _checked(Mixture(source, tuple(corpora), GIVEN, of_utterances=True))


def _weights(weights: str | None, names: list[str]) -> dict[str, float]:
    try:
        numbers = [float(weight) for weight in (weights or "").split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != len(names) or not all(0 <= number < math.inf for number in numbers):
        raise InputError(
            f"task.multi_corpus_sampling_weights={weights}: expected a number of at least 0 for each of the "
            f"{len(names)} task.multi_corpus_keys, joined by commas"
        )
    return dict(zip(names, numbers, strict=True))


def _checked(mixture: Mixture) -> Mixture:
    """Leave out corpora of weight 0; raise InputError where nothing is left or a name stands twice."""
    names = [corpus.name for corpus in mixture.corpora]
    if len(set(names)) < len(names):
        raise InputError(f"{mixture.source}: a corpus stands there twice: {', '.join(names)}")
    kept = tuple(corpus for corpus in mixture.corpora if corpus.weight != 0)
    if not kept:
        raise InputError(f"{mixture.source}: every corpus has weight 0; give one of them more")
    return Mixture(mixture.source, kept, mixture.weights, mixture.temperature, mixture.of_utterances)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
