"""The model card: what the checkpoint and its configuration say, and the numbers that were measured, nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccc_w2v.errors import InputError

_FRONT = """---
library_name: transformers
pipeline_tag: {pipeline}
tags:
- speech
- audio
- wav2vec2
- ccc-wav2vec2
---
"""

_USE = {
    "feature-extraction": """from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model
import soundfile, torch

extractor = Wav2Vec2FeatureExtractor.from_pretrained("{name}")
model = Wav2Vec2Model.from_pretrained("{name}").eval()
wave, rate = soundfile.read("speech.wav", dtype="float32")  # mono, {rate} Hz
inputs = extractor(wave, sampling_rate=rate, return_tensors="pt")
with torch.no_grad():
    features = model(**inputs).last_hidden_state  # (1, frames, {width})
""",
    "automatic-speech-recognition": """from transformers import Wav2Vec2ForCTC, Wav2Vec2Processor
import soundfile, torch

processor = Wav2Vec2Processor.from_pretrained("{name}")
model = Wav2Vec2ForCTC.from_pretrained("{name}").eval()
wave, rate = soundfile.read("speech.wav", dtype="float32")  # mono, {rate} Hz
inputs = processor(wave, sampling_rate=rate, return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs).logits
print(processor.batch_decode(logits.argmax(-1))[0])
""",
}

_LICENCE = """The code that trained and exported this model is under the MIT licence. The weights were learnt from recordings \
that have licences of their own: whoever publishes the weights states which, and checks that they allow it."""

_CITATION = """- CCC-wav2vec 2.0: Clustering aided Cross Contrastive Self-supervised learning of speech representations, \
SLT 2022, arXiv 2210.02592
- wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations, NeurIPS 2020, arXiv 2006.11477"""


@dataclass(frozen=True)
class Score:
    """A measured score: the name of its file without suffix, and the numbers in it."""

    name: str
    numbers: dict[str, Any]


def read_score(path: str | Path) -> Score:
    """Read a score file (JSON) as tools/score.py writes it; raises InputError where it holds no ``wer``."""
    path = Path(path)
    try:
        numbers = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a JSON file ({error}); expected one written by tools/score.py") from error
    if not isinstance(numbers, dict) or not isinstance(numbers.get("wer"), (int, float)):
        raise InputError(f"{path}: holds no number 'wer'; expected a file written by tools/score.py")
    return Score(path.stem, numbers)


def model_card(plain: dict[str, Any], report: dict[str, Any], name: str, scores: Sequence[Score] = ()) -> str:
    """Return the card (Markdown) of a plain state, its export's ``report`` and the ``scores`` that were measured."""
    finetuned = "ccc_dictionary" in plain
    cfg = plain["cfg"]
    encoder = cfg["model"]["w2v_args"]["model"] if finetuned else cfg["model"]
    pipeline = "automatic-speech-recognition" if finetuned else "feature-extraction"
    use = _USE[pipeline].format(name=name, rate=cfg["task"]["sample_rate"], width=encoder["encoder_embed_dim"])
    sections = [
        f"{_FRONT.format(pipeline=pipeline)}\n# {name}\n\n{_summary(cfg, encoder, finetuned)}",
        f"## How to use\n\n```python\n{use}```",
        f"## Training\n\n{_training(plain['ccc_export'])}",
        f"## Fidelity\n\n{_fidelity(report, cfg['task']['normalize'])}",
        *([f"## Word error rate\n\n{_score_table(scores)}"] if scores else []),
        f"## Licence\n\n{_LICENCE}",
        f"## Citation\n\n{_CITATION}",
    ]
    return "\n\n".join(sections) + "\n"


def _summary(cfg: dict[str, Any], encoder: dict[str, Any], finetuned: bool) -> str:
    kind = (
        f"a speech recogniser (CTC, labels `{cfg['task']['labels']}`), fine-tuned from a wav2vec 2.0 encoder"
        if finetuned
        else "a wav2vec 2.0 encoder, pre-trained without transcripts"
    )
    return (
        f"This is {kind}: {encoder['encoder_layers']} Transformer layers of width {encoder['encoder_embed_dim']}, for "
        f"mono speech at {cfg['task']['sample_rate']} Hz."
    )


def _training(known: dict[str, Any]) -> str:
    lines = [f"- updates: {known['updates']:,}"]
    if "hours_heard" in known:
        lines.append(f"- audio heard, repetitions counted: {known['hours_heard']:,.1f} h")
    manifest = known.get("manifest")
    if manifest:
        lines.append(
            f"- manifest: `{manifest['name']}`, {manifest['utterances']:,} utterances, {manifest['hours']:,.1f} h, "
            f"SHA-256 `{manifest['sha256']}`"
        )
    else:
        lines.append("- data: not recorded in the checkpoint")
    if known["objective"]:
        lines.append("- objective of the pre-training (`ccc_w2v`):")
        lines += [f"  - `{key}`: {value}" for key, value in sorted(known["objective"].items())]
    lines.append(f"- exported by {known['package']} {known['version']}")
    return "\n".join(lines)


def _fidelity(report: dict[str, Any], normalize: bool) -> str:
    text = (
        f"Compared in fp32 on {report['recordings']} recording(s), each layer and each output: the largest difference "
        f"between transformers and fairseq is {report['difference']:.1e}, at {report['where']}."
    )
    if normalize:
        text += (
            " transformers' feature extractor normalises with another small constant than fairseq (1e-7 and 1e-5 added "
            f"to the variance): with it, the last output differs by {report['as_used']:.1e} on the first recording."
        )
    return text


def _score_table(scores: Sequence[Score]) -> str:
    rows = ["| set | utterances | words | WER | 95 % interval | CER |", "|---|---|---|---|---|---|"]
    for score in scores:
        numbers = score.numbers
        has_interval = "wer_low" in numbers and "wer_high" in numbers
        interval = f"{_number(numbers['wer_low'])} to {_number(numbers['wer_high'])}" if has_interval else "-"
        cells = [score.name, *(_number(numbers.get(key)) for key in ("utterances", "words", "wer"))]
        rows.append(f"| {' | '.join(cells)} | {interval} | {_number(numbers.get('cer'))} |")
    return "\n".join(rows)


def _number(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.2f}" if isinstance(value, float) else "-"
