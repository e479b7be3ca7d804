"""A wav2vec 2.0 of another origin -> a plain fairseq checkpoint; the format is detected automatically."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ccc_w2v.checkpoint.from_fairseq import Imported, import_fairseq
from ccc_w2v.checkpoint.parity import OutputDifference
from ccc_w2v.checkpoint.plain import write_plain
from ccc_w2v.errors import InputError
from ccc_w2v.files import refuse_existing


def import_any(
    source: str | Path,
    out: str | Path,
    *,
    sample_audio: Sequence[str | Path] = (),
    dictionary: str | Path | None = None,
    overwrite: bool = False,
) -> tuple[Imported, OutputDifference | None, list[Path]]:
    """Import a transformers folder or a fairseq checkpoint file; returns it, the difference found, the files written.

    A checkpoint keeps its tensors as they are, so that there is nothing to compare and the difference is None.

    Raises InputError as import_fairseq and import_huggingface do, and for a target that exists while ``overwrite`` is
    false. The target appears whole or not at all.
    """
    source, out = Path(source), Path(out)
    refuse_existing(out, overwrite)
    difference = None
    if source.is_dir():
        if dictionary is not None:
            raise InputError("--dictionary is for fairseq checkpoints: a transformers folder has its tokenizer")
        from ccc_w2v.checkpoint.from_huggingface import import_huggingface

        imported, difference = import_huggingface(source, sample_audio)
    else:
        imported = import_fairseq(source, dictionary)
    return imported, difference, write_plain(imported.plain, out, overwrite=overwrite)
