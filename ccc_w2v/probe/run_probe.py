"""A probe from files to files: a checkpoint and manifests in, error rates, layer weights and transcripts out."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ccc_w2v.data.labels import read_references
from ccc_w2v.data.manifest import Manifest, read_manifest
from ccc_w2v.data.trn import write_trn
from ccc_w2v.errors import InputError
from ccc_w2v.files import sha256, write_whole
from ccc_w2v.probe.cached_states import cached_states
from ccc_w2v.probe.ctc_head import ProbeSettings
from ccc_w2v.probe.ctc_probe import Labelled, describe, measure_probe, train_probe, transcripts
from ccc_w2v.probe.features import Encoder, load_encoder
from ccc_w2v.run_folder import Output, claim, keep_record


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
    overwrite: bool = False,
) -> dict[str, Any]:
    """Probe ``checkpoint`` and write <out>/probe.json, and hyp.trn and ref.trn of each test in <out>/<its name>.

    Features are kept in ``cache``, by default <out>/features. Returns probe.json, which is read where the same probe
    was made before. Raises InputError for manifests without transcripts, for an ``out`` of other settings unless
    ``overwrite``, and as the parts do.
    """
    began = time.perf_counter()
    if not Path(checkpoint).is_file():
        raise InputError(f"{checkpoint}: no such checkpoint; expected a file of fairseq's trainer or ccc-w2v export")
    output = _output(checkpoint, {"train": train, "dev": dev, **tests}, tests, out, settings)
    if claim(output, overwrite=overwrite) and (out / "probe.json").is_file():
        return json.loads((out / "probe.json").read_text(encoding="utf-8"))
    out.mkdir(parents=True, exist_ok=True)
    keep_record(output)
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
        "sha256": output.settings["checkpoint"],
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
        measured = measure_probe(probe, test).as_dict()
        result["tests"][name] = {key: measured[key] for key in ("utterances", "cer", "wer", "bootstrap")}
    result["seconds"] = {
        "features": round(features_seconds, 1),
        "all": round(time.perf_counter() - began, 1),
    }
    write_whole(out / "probe.json", json.dumps(result, indent=1) + "\n")
    return result


def _output(
    checkpoint: str | Path,
    manifests: Mapping[str, str | Path],
    tests: Mapping[str, str | Path],
    out: Path,
    settings: ProbeSettings,
) -> Output:
    """Return what is written into ``out``, and everything that it depends on."""
    digests = {
        f"{name} {Path(path).suffix}": sha256(path)
        for name, listed in manifests.items()
        for path in (Path(listed), Path(listed).with_suffix(".wrd"))
        if path.is_file()
    }
    inputs = {"checkpoint": sha256(checkpoint), "tests": sorted(tests), **digests, **asdict(settings)}
    transcribed = [out / name / file for name in tests for file in ("hyp.trn", "ref.trn")]
    return Output(out, inputs, out / "settings.json", [out / "probe.json", *transcribed], [checkpoint])


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
