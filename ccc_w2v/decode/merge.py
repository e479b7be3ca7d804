"""Decodings and alignments of a manifest's shards put together: the files that one call would have written."""

from __future__ import annotations

import json
from pathlib import Path

from ccc_w2v.data.alignments import AlignedLabel, read_alignments, write_alignments
from ccc_w2v.data.decoding import FILE_NAMES, SETTINGS, read_settings
from ccc_w2v.data.merging import Shards, common_settings, take_file, whole_manifest
from ccc_w2v.data.trn import read_trn, utterance_ids
from ccc_w2v.errors import InputError
from ccc_w2v.files import sha256, write_whole
from ccc_w2v.run_folder import Output, beside, claim, content_of, keep_record, recorded_settings

TEXTS = ("ref.trn", "nbest.jsonl", "hyp.ctm", "hyp.trn")  # hyp.trn last: it says that all is there


def merge_decodings(out: Path, shards: Shards, *, overwrite: bool = False) -> int:
    """Write hyp.trn, hyp.ctm and what else the shards hold into ``out``; returns the number of utterances.

    Raises InputError where the shards do not hold each utterance of the manifest once, or do not fit together.
    """
    manifest = whole_manifest(shards)
    folders = [place / out.name for place, _ in shards]
    decoded = [utterance for folder in folders for utterance in read_trn(folder / "hyp.trn")]
    ids = utterance_ids(manifest)
    if decoded != ids:
        raise InputError(f"{out}: its shards hold {len(decoded)} utterances that are not the manifest's {len(ids)}")
    settings = common_settings([(folder, read_settings(folder)) for folder in folders], ("manifest", "manifest file"))
    settings |= {"manifest": sha256(manifest.source), "manifest file": manifest.source}
    logits = [path for folder in folders for path in sorted((folder / "logits").glob("*.npy"))]
    inputs: list[str | Path] = [manifest.source, *(folder / "hyp.trn" for folder in folders)]
    written = [*(out / name for name in TEXTS), out / "logits"]
    claim(Output(out, settings, out / SETTINGS, written, inputs, ignored=FILE_NAMES), overwrite=overwrite)
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / SETTINGS, json.dumps(settings, indent=2) + "\n")
    for path in logits:
        take_file(path, out / "logits" / path.name)
    for name in TEXTS:
        parts = [folder / name for folder in folders if (folder / name).is_file()]
        if parts and len(parts) < len(folders):
            raise InputError(f"{out}: {len(parts)} of {len(folders)} shards have {name}; run the others again")
        lines = [line for part in parts for line in part.read_text(encoding="utf-8").splitlines(keepends=True)]
        if name == "hyp.ctm":
            lines.sort(key=lambda line: line.split(" ", 2)[:2])
        if parts:
            write_whole(out / name, "".join(lines))
    return len(ids)


def merge_alignments(out: Path, shards: Shards, *, overwrite: bool = False) -> int:
    """Write the alignments of all shards into ``out``; returns the number of utterances.

    Raises InputError where the shards do not fit together.
    """
    manifest = whole_manifest(shards)
    parts = [place / out.name for place, _ in shards]
    recorded = [(part, recorded_settings(beside(part)) or {}) for part in parts]
    settings = common_settings(recorded, ("manifest", "transcripts"))
    labels = Path(manifest.source).with_suffix(f".{settings['labels']}")
    settings |= {"manifest": sha256(manifest.source), "transcripts": content_of(labels)}
    aligned: dict[str, list[AlignedLabel]] = {}
    for part in parts:
        aligned |= read_alignments(part)
    output = Output(out, settings, beside(out), [out], [manifest.source, labels, *parts])
    claim(output, overwrite=overwrite)
    keep_record(output)
    write_alignments(out, aligned)
    return len(aligned)
