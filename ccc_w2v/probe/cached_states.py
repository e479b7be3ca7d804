"""Hidden states of a manifest's utterances, computed once and kept in a folder.

Letters: L layers with what enters the first one, T frames, D width.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from ccc_w2v.data.manifest import Manifest
from ccc_w2v.errors import InputError
from ccc_w2v.files import sha256
from ccc_w2v.probe.features import Encoder, Wanted, extract

WANTED = Wanted(half=True)


@dataclass(frozen=True)
class States:
    """Names and states (L, T, D) of utterances in the manifest's order: float16, every frame of unit variance."""

    utterances: tuple[str, ...]
    values: tuple[torch.Tensor, ...]


def cached_states(encoder: Encoder, checkpoint: str | Path, manifest: Manifest, cache: Path) -> States:
    """Return the states of ``manifest`` under ``encoder``, the network of ``checkpoint``; reuses those in ``cache``.

    A cache holds any number of checkpoints and manifests, told apart by their content; a computation that was stopped
    continues. Raises InputError as features.extract does, and for states that are not finite.
    """
    identity = sha256(checkpoint)
    key = hashlib.sha256(f"{identity} {sha256(manifest.source)}".encode()).hexdigest()[:12]
    folder = cache / f"{Path(manifest.source).stem}-{key}"
    extract(encoder, manifest, folder, WANTED, identity)
    return _read(folder)


def _read(folder: Path) -> States:
    rows = [line.split("\t") for line in (folder / "index.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    by_shard: dict[str, list[tuple[str, int, int]]] = defaultdict(list)
    for utterance, shard, first_row, count, *_ in rows:
        by_shard[shard].append((utterance, int(first_row), int(count)))
    utterances, values = [], []
    for shard, members in by_shard.items():
        states_RLD = load_file(folder / f"{shard}.safetensors")["features"]
        for utterance, first, length in members:
            utterances.append(utterance)
            values.append(_normalized(states_RLD[first : first + length], f"{folder}: {utterance}"))
    return States(tuple(utterances), tuple(values))


def _normalized(states_TLD: torch.Tensor, where: str) -> torch.Tensor:
    """Return states (L, T, D) at one scale: those of the layers differ by orders of magnitude."""
    states_LTD = states_TLD.float().transpose(0, 1).contiguous()
    if not states_LTD.isfinite().all():
        raise InputError(f"{where}: the network's states are not finite in float16; its training has diverged")
    return F.layer_norm(states_LTD, states_LTD.shape[-1:]).half()
