"""Who speaks in each utterance: from a map, from a manifest's folders, or from the ids of a well-known corpus.

The bootstrap resamples these units, because utterances of one speaker err together.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.data.trn import utterance_ids
from ccc_w2v.errors import InputError
from ccc_w2v.score.bootstrap import read_groups


@dataclass(frozen=True)
class Scheme:
    """How a corpus names utterances: the unit in an id, what the unit is, and an id to show."""

    pattern: re.Pattern[str]
    unit: str
    example: str


# ccc-w2v decode puts the folders of a file in front of its name.
SCHEMES = {
    "librispeech": Scheme(re.compile(r"(?:^|.*-)(\d+)-\d+-\d{4,}"), "speakers", "1089-134686-0000"),
    # Also the Fisher and CallHome conversations, whose two sides are told apart in the same way.
    "switchboard": Scheme(
        re.compile(r"(?:^|.*[-_])?((?:sw|en|fsh|fe_03)[-_]?\d{4,6}[-_]?[AB])(?:[-_].*)?"),
        "conversation sides",
        "sw02001-A_000098-001156",
    ),
}

LIBRISPEECH_LAYOUT = re.compile(r"(?:.*/)?(\d+)/(\d+)/\1-\2-\d{4,}\.\w+")


@dataclass(frozen=True)
class Units:
    """What the bootstrap resamples: the unit of each utterance, and what these units are ("speakers")."""

    names: tuple[str, ...]
    of: str

    @property
    def count(self) -> int:
        """How many different ones there are."""
        return len(set(self.names))


def units(source: str | Path | None, utterances: Sequence[str]) -> Units:
    """Return the units of ``utterances``: the utterances themselves where no ``source`` says who speaks.

    ``source`` is a name of SCHEMES, a manifest (.tsv: the folder that holds a file is its speaker, and in LibriSpeech's
    layout, SPEAKER/CHAPTER/SPEAKER-CHAPTER-NUMBER, the folder above), or a file of lines utterance-id speaker. Raises
    InputError for a source that is missing or malformed, an id that is not of the scheme, and an utterance that the
    source does not know.
    """
    if source is None:
        return Units(tuple(utterances), "utterances")
    if str(source) in SCHEMES:
        scheme = SCHEMES[str(source)]
        return Units(tuple(_unit_in(utterance, scheme, str(source)) for utterance in utterances), scheme.unit)
    if Path(source).suffix == ".tsv":
        return Units(tuple(_folders(source, utterances)), "speakers")
    if not Path(source).exists():
        raise InputError(
            f"{source}: no such speaker map; expected a file of utterance-id speaker, a .tsv manifest, or the ids' "
            f"scheme: {' or '.join(SCHEMES)}"
        )
    return Units(tuple(read_groups(source, utterances)), "speakers")


def _unit_in(utterance: str, scheme: Scheme, name: str) -> str:
    match = scheme.pattern.fullmatch(utterance)
    if match is None:
        raise InputError(f"utterance id {utterance!r} is not of the scheme {name}, as {scheme.example}; give a map")
    return match[1]


def _speaker_folder(below_root: str, whole: str) -> str:
    """Return the folder of a file's speaker, below the manifest's root; ``whole`` is the file's whole path."""
    folder = os.path.dirname(below_root)
    # LibriSpeech keeps a speaker's chapters apart.
    return os.path.dirname(folder) if LIBRISPEECH_LAYOUT.fullmatch(whole) else folder


def _folders(source: str | Path, utterances: Sequence[str]) -> list[str]:
    manifest = read_manifest(source)
    folder_of = {
        utterance: _speaker_folder(entry.path, manifest.audio_path(entry))
        for utterance, entry in zip(utterance_ids(manifest), manifest.entries, strict=True)
    }
    missing = [utterance for utterance in utterances if utterance not in folder_of]
    if missing:
        raise InputError(f"{source}: lacks {len(missing)} utterances: {', '.join(missing[:3])}; give their manifest")
    if len({folder_of[utterance] for utterance in utterances}) == 1:
        raise InputError(f"{source}: all files lie in one folder, which says nothing of speakers; give a map")
    return [folder_of[utterance] for utterance in utterances]
