"""Speed-perturbed copies of a labelled set: the cheapest way to make a few minutes of labels go further.

Three-way copies at 0.9, 1 and 1.1 are the usual choice (Ko et al., "Audio augmentation for speech recognition",
Interspeech 2015). The copies are files, because fairseq's fine-tuning task augments nothing on the fly.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import soundfile
import torch
from tqdm import tqdm

from ccc_w2v.data.audio import read_audio
from ccc_w2v.data.labels import all_labels, labelled_content, listing_paths, write_all_labels
from ccc_w2v.data.manifest import Manifest, read_manifest, write_manifest
from ccc_w2v.data.resample import resample
from ccc_w2v.data.slices import copy_path
from ccc_w2v.errors import InputError
from ccc_w2v.files import appearing
from ccc_w2v.run_folder import Output, beside, claim, keep_record
from ccc_w2v.sharding import Shard

MIN_FACTOR, MAX_FACTOR = 0.5, 2.0


def perturb_speed(
    manifest: str | Path,
    factors: tuple[float, ...],
    out: str | Path,
    sample_rate: int = 16_000,
    *,
    overwrite: bool = False,
) -> int:
    """Write ``out`` (.tsv, and the labels that ``manifest`` has) with one copy of every line for each factor.

    Factor 1 lists the recording itself; another one writes FLAC below the folder ``out`` without its suffix. Tempo and
    pitch change together, as on a tape. Returns the number of lines. A second call writes only the copies that are
    missing; other settings are refused, or with ``overwrite`` replace what is there. Raises InputError for that, for
    factors outside 0.5 to 2 or given twice, for an ``out`` that is the manifest, and for labels that do not fit it.
    """
    out, source = Path(out).resolve(), read_manifest(manifest)
    labels = all_labels(source)
    _begin(source, factors, out, sample_rate, overwrite=overwrite)
    entries = _copies(source, range(len(source)), factors, out, sample_rate)
    root = os.path.commonpath([path.parent for path, _ in entries])
    write_all_labels(source, out, {kind: lines * len(factors) for kind, lines in labels.items()})
    write_manifest(out, root, [(str(path.relative_to(root)), samples) for path, samples in entries])
    return len(entries)


def copy_share(
    manifest: str | Path,
    factors: tuple[float, ...],
    out: str | Path,
    shard: Shard,
    sample_rate: int = 16_000,
    *,
    overwrite: bool = False,
) -> tuple[tuple[int, int], dict[str, Any]]:
    """Write the copies of one shard's lines; ``perturb_speed`` then finds them, and writes the lists.

    Returns how many lines of how many, and the settings that all shards have in common. Raises InputError as
    perturb_speed does, and where there are more shards than lines.
    """
    out, source = Path(out).resolve(), read_manifest(manifest)
    start, end = shard.bounds(source.samples)
    settings = _begin(source, factors, out, sample_rate, overwrite=overwrite)
    _copies(source, range(start, end), factors, out, sample_rate)
    return (end - start, len(source)), settings


def _begin(
    source: Manifest, factors: tuple[float, ...], out: Path, sample_rate: int, *, overwrite: bool
) -> dict[str, Any]:
    """Claim the output, and return the settings that decide it."""
    if wrong := [factor for factor in factors if not MIN_FACTOR <= factor <= MAX_FACTOR]:
        raise InputError(f"speed factor {wrong[0]:g}; expected {MIN_FACTOR:g} to {MAX_FACTOR:g}")
    if not factors or len(set(factors)) < len(factors):
        raise InputError(f"speed factors {', '.join(f'{f:g}' for f in factors)}: expected each once, at least one")
    labels = all_labels(source)
    settings = {**labelled_content(source), "factors": list(factors), "sample rate": sample_rate}
    written = [*listing_paths(out, labels), out.with_suffix("")]
    output = Output(out, settings, beside(out), written, listing_paths(source.source, labels))
    if not claim(output, overwrite=overwrite):
        out.parent.mkdir(parents=True, exist_ok=True)
        keep_record(output)
    return settings


def _copies(
    source: Manifest, places: range, factors: tuple[float, ...], out: Path, sample_rate: int
) -> list[tuple[Path, int]]:
    """Write the copies of some lines that are missing; return all of them with their lengths, factor by factor."""
    audio, entries = out.with_suffix(""), []
    with tqdm(total=len(factors) * len(places), desc="changing speed", unit="utterance") as bar:
        for factor in factors:
            for entry in (source.entries[place] for place in places):
                bar.update()
                path = Path(source.audio_path(entry))
                if factor == 1:
                    entries.append((path, entry.samples))
                    continue
                target = audio / f"{factor:g}" / copy_path(entry.path)
                if not target.is_file():
                    wave_S = read_audio(path, sample_rate, where=source.where(entry), declared_samples=entry.samples)
                    _write_copy(wave_S, sample_rate, factor, target)
                entries.append((target, soundfile.info(target).frames))
    return entries


def _write_copy(wave_S: torch.Tensor, sample_rate: int, factor: float, target: Path) -> None:
    copy_S = resample(wave_S, round(factor * sample_rate), sample_rate)
    try:
        with appearing(target, durable=False) as partial:
            soundfile.write(partial, copy_S.clamp(-1, 1).numpy(), sample_rate, subtype="PCM_16", format="FLAC")
    except (OSError, soundfile.LibsndfileError, AssertionError) as error:
        # libsndfile does not say why a write failed, and soundfile asserts that it wrote everything.
        raise InputError(
            f"{target}: cannot be written ({' '.join(str(error).split()) or 'the disk may be full'}); free some space, "
            "then the same command resumes"
        ) from error
