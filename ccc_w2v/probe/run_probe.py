"""A probe from files to files: a checkpoint and manifests in, error rates, layer weights and transcripts out."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ccc_w2v.data.manifest import Manifest, read_manifest, write_whole
from ccc_w2v.errors import InputError
from ccc_w2v.evaluate.decode import sha256
from ccc_w2v.evaluate.features import Encoder, load_encoder
from ccc_w2v.evaluate.wer import read_references, write_trn
from ccc_w2v.probe.cached_states import cached_states
from ccc_w2v.probe.ctc_probe import (
    Labelled,
    ProbeSettings,
    describe,
    measure_probe,
    train_probe,
    transcripts,
)


def run_probe(
    checkpoint: str | Path,
    train: str | Path,
    dev: str | Path,
    tests: Mapping[str, str | Path],
    out: Path,
    settings: ProbeSettings,
    *,
    cache: Path | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Probe ``checkpoint`` and write <out>/probe.json, and hyp.trn and ref.trn of each test in <out>/<its name>.

    ``tests`` are manifests by name, none of them ``train``'s or ``dev``'s audio. Features are kept in ``cache``, by
    default <out>/features. Returns probe.json. Raises InputError for manifests without transcripts and as the parts do.
    """
    began = time.perf_counter()
    encoder = load_encoder(checkpoint, device)
    cache = cache or out / "features"

    def labelled(path: str | Path) -> Labelled:
        return _labelled(encoder, checkpoint, read_manifest(path), cache)

    letters = _letters(Path(train).parent)
    trained_on, tuned_on = labelled(train), labelled(dev)
    features_seconds = time.perf_counter() - began
    probe = train_probe(trained_on, tuned_on, letters, settings, device)
    result: dict[str, Any] = {
        "checkpoint": str(checkpoint),
        "sha256": sha256(Path(checkpoint)),
        "train": str(train),
        "dev": str(dev),
        **describe(probe),
        "tests": {},
    }
    for name, path in tests.items():
        test = labelled(path)
        (out / name).mkdir(parents=True, exist_ok=True)
        write_trn(out / name / "ref.trn", test.references)
        write_trn(out / name / "hyp.trn", transcripts(probe, test.states))
        measured = measure_probe(probe, test)
        result["tests"][name] = {key: measured[key] for key in ("utterances", "cer", "wer", "bootstrap")}
    result["seconds"] = {
        "features": round(features_seconds, 1),
        "all": round(time.perf_counter() - began, 1),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "probe.json", json.dumps(result, indent=1) + "\n")
    return result


def _labelled(encoder: Encoder, checkpoint: str | Path, manifest: Manifest, cache: Path) -> Labelled:
    words = read_references(manifest)
    if words is None:
        raise InputError(f"{manifest.source}: no transcripts (.wrd) beside it; a probe needs them")
    return Labelled(cached_states(encoder, checkpoint, manifest, cache), tuple(words))


def _letters(folder: Path) -> list[str]:
    path = folder / "dict.ltr.txt"
    if not path.is_file():
        raise InputError(f"{path}: no such dictionary; expected lines of letter count beside the training manifest")
    return [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
