"""A test set under fixed conditions: every utterance through a pipeline once, the same audio for all systems.

The draws depend on (seed, condition, utterance) alone; a condition is a pipeline's YAML file and named after it.
Written below a folder `out`:
    <list>_<condition>.{tsv,wrd,ltr}    as the list that it was made of, utterance ids included; dict.ltr.txt
    <condition>/**/*.flac               16 bit, at the level of the original, or lower where that would clip
    <list>_<condition>.settings.json    what decides the content
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import soundfile
import torch
from tqdm import tqdm

from ccc_w2v.augment.pipeline import Pipeline, load_pipeline
from ccc_w2v.data.audio import read_audio
from ccc_w2v.data.labels import all_labels, write_all_labels
from ccc_w2v.data.manifest import Entry, Manifest, read_manifest, write_manifest
from ccc_w2v.data.randomness import generator_for
from ccc_w2v.data.slices import copy_path
from ccc_w2v.errors import InputError
from ccc_w2v.files import appearing, sha256
from ccc_w2v.run_folder import Output, claim, content_of, keep_record

SAMPLE_RATE = 16_000
PEAK = 0.99  # of full scale


def write_conditions(
    manifest: str | Path,
    pipelines: Sequence[str | Path],
    out: str | Path,
    *,
    noise_manifest: str | Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Path]:
    """Write ``manifest`` under each pipeline; returns the new manifests by condition.

    A condition that is there already is left as it is; one that was begun is finished. Raises InputError for two
    pipelines of one name, for a condition of other settings (unless ``overwrite``), and as pipelines and audio do.
    """
    out, listed = Path(out).resolve(), read_manifest(manifest)
    names = [Path(path).stem for path in pipelines]
    if len(set(names)) < len(names):
        raise InputError(f"found the conditions {', '.join(names)}; expected each name once")
    return {
        name: _write(listed, name, path, out, noise_manifest, seed, overwrite)
        for name, path in zip(names, pipelines, strict=True)
    }


def _write(
    listed: Manifest,
    condition: str,
    pipeline_path: str | Path,
    out: Path,
    noise_manifest: str | Path | None,
    seed: int,
    overwrite: bool,
) -> Path:
    target = out / f"{Path(listed.source).stem}_{condition}.tsv"
    settings = {
        "list": sha256(listed.source),
        "pipeline": content_of(pipeline_path),
        "noise": content_of(noise_manifest),
        "seed": seed,
    }
    output = Output(target, settings, target.with_suffix(".settings.json"), [target], [listed.source])
    if claim(output, overwrite=overwrite):
        if target.is_file():
            return target
    else:
        out.mkdir(parents=True, exist_ok=True)
        keep_record(output)
    pipeline = load_pipeline(pipeline_path, SAMPLE_RATE, noise_manifest=noise_manifest)
    pipeline.prepare()
    # Files of other settings must not be taken for those of these ones.
    audio = out / condition / sha256(output.record)[:8]
    entries = []
    for position, entry in enumerate(tqdm(listed.entries, desc=condition, unit="utt", leave=False)):
        path = audio / copy_path(entry.path)
        if not path.is_file():
            generator = generator_for(seed, f"condition {condition}", position)
            _write_one(listed, entry, pipeline, generator, path)
        entries.append((str(path.relative_to(audio)), entry.samples))
    write_all_labels(listed, target, all_labels(listed))
    write_manifest(target, audio, entries)
    return target


def _write_one(listed: Manifest, entry: Entry, pipeline: Pipeline, generator: torch.Generator, path: Path) -> None:
    wave_S = read_audio(
        listed.audio_path(entry), SAMPLE_RATE, where=listed.where(entry), declared_samples=entry.samples
    )
    drawn = pipeline.load(pipeline.draw(generator, len(wave_S)), len(wave_S))
    heard_S = pipeline.apply(wave_S[None], [drawn])[0]
    heard_S = heard_S * min(1.0, PEAK / float(heard_S.abs().max()))
    with appearing(path, durable=False) as partial:
        soundfile.write(partial, heard_S.numpy(), SAMPLE_RATE, subtype="PCM_16", format="FLAC")
