"""n-best lists scored again by a neural language model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ccc_w2v.data.trn import write_trn
from ccc_w2v.decode.transcribe import write_nbest
from ccc_w2v.errors import InputError
from ccc_w2v.files import sha256, write_whole
from ccc_w2v.lm.causal import LanguageModel, load_transformers_lm, log_probabilities
from ccc_w2v.lm.fairseq import load_fairseq_lm
from ccc_w2v.run_folder import Output, claim, content_of, keep_record
from ccc_w2v.text_files import text_lines

# Each utterance's hypotheses, best first.
NBest = dict[str, list[dict[str, Any]]]
SCORES = ("acoustic", "lm", "total")
RECORD = "rescoring.json"


def load_language_model(
    path: str | Path, dictionary: str | Path | None = None, sentencepiece: str | Path | None = None
) -> LanguageModel:
    """Load a causal model from a folder of transformers, or a transformer_lm from a checkpoint file of fairseq.

    ``dictionary`` and ``sentencepiece`` are for fairseq's. Raises InputError as load_transformers_lm and
    load_fairseq_lm do.
    """
    if Path(path).is_file():
        return load_fairseq_lm(path, dictionary, sentencepiece)
    if dictionary or sentencepiece:
        raise InputError(f"{path}: no checkpoint of fairseq, and only those take a dictionary or sentencepiece units")
    return load_transformers_lm(path)


def read_nbest(path: str | Path) -> NBest:
    """Read an nbest.jsonl of ccc-w2v decode; raises InputError for a missing file and for a line of another form."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such n-best file; write one with ccc-w2v decode --beam 50 --nbest 20")
    nbest: NBest = {}
    for number, line in enumerate(text_lines(path, "n-best file", "lines of ccc-w2v decode --nbest"), start=1):
        try:
            entry = json.loads(line)
            utterance = entry["id"]
            hypotheses = [
                {"text": str(hypothesis["text"]), **{name: float(hypothesis[name]) for name in SCORES}}
                for hypothesis in entry["nbest"]
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}:{number}: not a line of ccc-w2v decode --nbest ({error!r})") from error
        if utterance in nbest or not hypotheses:
            raise InputError(f"{path}:{number}: utterance {utterance!r} is listed twice or empty; decode again")
        nbest[utterance] = hypotheses
    if not nbest:
        raise InputError(f"{path}: holds no utterance; decode again")
    return nbest


def decided_by(
    nbest: str | Path, language_model: Mapping[str, str | Path | None], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what decides the new scores of n-best lists: their digest, the model's, and ``settings``.

    ``language_model`` holds the files or folder that the model comes from.
    """
    return {"nbest": sha256(nbest), **{name: _digest(path) for name, path in language_model.items()}, **settings}


def claim_rescoring(out: Path, nbest: str | Path, decided: Mapping[str, Any], *, overwrite: bool = False) -> Output:
    """Return a folder that is this rescoring's; raises InputError for one of another, or which the lists are read from.

    ``decided`` is what decided_by returns.
    """
    beside = Path(nbest).with_name("ref.trn")
    references = content_of(beside) if beside.is_file() else ""
    written = [out / name for name in ("nbest.jsonl", "hyp.trn", "ref.trn")]
    inputs = [nbest, *([beside] if beside.is_file() else [])]
    output = Output(out, {**decided, "references": references}, out / RECORD, written, inputs)
    claim(output, overwrite=overwrite)
    return output


def _digest(path: str | Path | None) -> str:
    """Return what stands for a model: the digest of a file, or of all files of a folder."""
    if path is None or not Path(path).is_dir():
        return content_of(path)
    return " ".join(sha256(file) for file in sorted(Path(path).iterdir()) if file.is_file())


def write_rescored(output: Output, nbest: str | Path, rescored: Mapping[str, list[dict[str, Any]]]) -> None:
    """Write the lists, their best texts, and the references that lie beside the lists that were read."""
    output.name.mkdir(parents=True, exist_ok=True)
    keep_record(output)
    references = Path(nbest).with_name("ref.trn")
    if references.is_file():
        write_whole(output.name / "ref.trn", references.read_bytes())
    write_nbest(output.name / "nbest.jsonl", rescored)
    write_trn(output.name / "hyp.trn", {utterance: best[0]["text"] for utterance, best in rescored.items()})


def rescore(
    model: LanguageModel, nbest: dict[str, list[dict[str, Any]]], weight: float, *, lower: bool = False
) -> dict[str, list[dict[str, Any]]]:
    """Add ``neural``, the model's log-probability, and ``weight`` times it to each total; best first.

    ``lower`` shows the model the texts in lower case. Texts with equal totals keep their order.
    """
    rescored = {}
    for utterance, hypotheses in tqdm(nbest.items(), unit="utt", desc="rescoring"):
        texts = [hypothesis["text"].lower() if lower else hypothesis["text"] for hypothesis in hypotheses]
        again = [
            {**hypothesis, "neural": score, "total": hypothesis["total"] + weight * score}
            for hypothesis, score in zip(hypotheses, log_probabilities(model, texts), strict=True)
        ]
        rescored[utterance] = sorted(again, key=lambda hypothesis: -hypothesis["total"])
    return rescored
