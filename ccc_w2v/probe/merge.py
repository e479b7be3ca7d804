"""Features of a manifest's shards put together, under one index."""

from __future__ import annotations

from pathlib import Path

from ccc_w2v.data.merging import Shards, common_settings, take_file, whole_manifest
from ccc_w2v.data.trn import utterance_ids
from ccc_w2v.errors import InputError
from ccc_w2v.files import sha256, write_whole
from ccc_w2v.probe.features import INDEX_COLUMNS
from ccc_w2v.run_folder import Output, claim, keep_record, recorded_settings
from ccc_w2v.text_files import read_lines


def merge_features(out: Path, shards: Shards, *, overwrite: bool = False) -> int:
    """Give the shards' files consecutive numbers in ``out``, and write their index; returns the utterances.

    The files are second names of the shards' own where the file system has such. Raises InputError where the shards do
    not hold each utterance of the manifest once, or do not fit together.
    """
    manifest = whole_manifest(shards)
    folders = [place / out.name for place, _ in shards]
    recorded = [(folder, recorded_settings(folder / "settings.json") or {}) for folder in folders]
    settings = common_settings(recorded, ("manifest",))
    # Where one call would have begun a new file, these do not: it must not resume here.
    settings |= {"manifest": sha256(manifest.source), "shards": len(shards)}
    rows: list[list[str]] = []
    files: list[tuple[Path, str, str]] = []
    for folder in folders:
        head, *lines = read_lines(folder / "index.tsv", "index", "what ccc-w2v features writes")
        if tuple(head.split("\t")) != INDEX_COLUMNS:
            raise InputError(f"{folder / 'index.tsv'}: not what ccc-w2v features writes; run that shard again")
        fields = [line.split("\t") for line in lines]
        names = list(dict.fromkeys(row[1] for row in fields))
        new = {name: f"shard-{len(files) + number:05d}" for number, name in enumerate(names)}
        files += [(folder, name, new[name]) for name in names]
        rows += [[row[0], new[row[1]], *row[2:]] for row in fields]
    if [row[0] for row in rows] != utterance_ids(manifest):
        raise InputError(f"{out}: the utterances of its shards are not those of {manifest.source}; run them again")
    output = Output(out, settings, out / "settings.json", [*out.glob("shard-*"), out / "index.tsv"], [manifest.source])
    claim(output, overwrite=overwrite)
    out.mkdir(parents=True, exist_ok=True)
    keep_record(output)
    for folder, name, renamed in files:
        for path in sorted(folder.glob(f"{name}.*")):
            if path.suffix != ".tsv":
                take_file(path, out / f"{renamed}{path.name[len(name) :]}")
    lines = ["\t".join(row) for row in ([*INDEX_COLUMNS], *rows)]
    write_whole(out / "index.tsv", "".join(f"{line}\n" for line in lines))
    return len(rows)
