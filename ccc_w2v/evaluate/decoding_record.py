"""What made a decoding: the file that lies beside its hypotheses, so that a result can say its decoder and LM."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import ccc_w2v
from ccc_w2v.data.manifest import write_whole
from ccc_w2v.errors import InputError

NAME = "decoding.json"


def write_record(folder: Path, made_from: Mapping[str, str]) -> None:
    """Write the hashes and settings that decide a transcript (transcribe.decoding_identity), and our version."""
    record = {"version": f"ccc-w2v {ccc_w2v.__version__}", **made_from}
    write_whole(folder / NAME, json.dumps(record, indent=2) + "\n")


def read_record(hypothesis: str | Path) -> dict[str, str] | None:
    """Read the record beside a hypothesis; None where there is none.

    Raises InputError for a file of this name that is no record.
    """
    path = Path(hypothesis).with_name(NAME)
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: no record of a decoding ({error}); decode again or remove it") from error
    if not isinstance(record, dict):
        raise InputError(f"{path}: no record of a decoding; decode again or remove it")
    return {str(key): str(value) for key, value in record.items()}
