"""The model card: what the checkpoint and its configuration say, and the numbers that were measured, nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ccc_w2v.compat import field_defaults
from ccc_w2v.errors import InputError
from ccc_w2v.files import sha256
from ccc_w2v.run_folder import SETTINGS_KEY

_FRONT = """---
library_name: transformers
pipeline_tag: {pipeline}
tags:
- speech
- audio
- wav2vec2
- ccc-wav2vec2
{licence}---
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

_LICENCE = """The code that trained and exported this model is under the MIT licence. The weights were learnt from
recordings with licences of their own: whoever publishes the weights states which, and checks that they allow it."""

_LICENCE_NAMED = """The weights are under the licence `{licence}`, named by who exported them. The code that trained and
exported this model is under the MIT licence."""

_CITATION = """- arXiv 2210.02592: CCC-wav2vec 2.0: Clustering aided Cross Contrastive Self-supervised learning of
  speech representations (SLT 2022)
- arXiv 2006.11477: wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations (NeurIPS 2020)"""


@dataclass(frozen=True)
class SetScore:
    """What ccc-w2v score measured on one set, rates with 1.0 for 100 %; None is what its file does not say."""

    name: str
    wer: float
    interval: tuple[float, float] | None = None
    level: float = 0.95
    utterances: int | None = None
    words: int | None = None
    cer: float | None = None
    normalization: str | None = None
    scored_by: str | None = None


@dataclass(frozen=True)
class Notes:
    """What is added to the card: name, data in words, recipe, licence, scores, what the run's folder says."""

    name: str | None = None
    data: str | None = None
    recipe: str | None = None
    licence: str | None = None
    scores: Sequence[SetScore] = ()
    run: Mapping[str, str] = field(default_factory=dict)  # what the run's folder says: training/run_record.summary


def read_score(path: str | Path) -> SetScore:
    """Read a file of ``ccc-w2v score --json``; raises InputError where it holds no word error rate.

    Also for one that lies beside other hypotheses than it was made from.
    """
    path = Path(path)
    try:
        numbers = json.loads(path.read_text(encoding="utf-8"))
        wer, cer, bootstrap = (numbers.get(name) or {} for name in ("wer", "cer", "bootstrap"))
        score = SetScore(
            name="/".join(path.parts[-2:]),
            wer=float(wer["rate"]),
            interval=wer.get("interval") and (wer["interval"][0], wer["interval"][1]),
            level=bootstrap.get("level", SetScore.level),
            utterances=numbers.get("utterances"),
            words=wer.get("units"),
            cer=cer.get("rate"),
            normalization=numbers.get("normalization"),
            scored_by=numbers.get("version"),
        )
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: no word error rate found in it; expected a file of ccc-w2v score --json") from error
    hypotheses, scored = path.with_name("hyp.trn"), numbers.get(SETTINGS_KEY, {}).get("hyp")
    if scored and hypotheses.is_file() and sha256(hypotheses) != scored:
        raise InputError(f"{path}: scores other hypotheses than {hypotheses} holds now; score it again")
    return score


def model_card(plain: dict[str, Any], report: dict[str, Any], name: str, notes: Notes | None = None) -> str:
    """Return the card (Markdown) of a plain state, its export's ``report`` and what the exporting person adds."""
    notes = notes or Notes()
    finetuned = "ccc_dictionary" in plain
    cfg = plain["cfg"]
    encoder = cfg["model"]["w2v_args"]["model"] if finetuned else cfg["model"]
    pipeline = "automatic-speech-recognition" if finetuned else "feature-extraction"
    use = _USE[pipeline].format(name=name, rate=cfg["task"]["sample_rate"], width=encoder["encoder_embed_dim"])
    front = _FRONT.format(pipeline=pipeline, licence=f"license: {notes.licence}\n" if notes.licence else "")
    sections = [
        f"{front}\n# {name}\n\n{_summary(cfg, encoder, finetuned)}",
        f"## How to use\n\n```python\n{use}```",
        f"## Training\n\n{_training(plain['ccc_export'], finetuned, notes)}",
        f"## Recipe\n\n{_recipe(plain['ccc_export'], notes)}",
        *([f"## The run\n\n{_run(notes.run)}"] if notes.run else []),
        f"## Configuration\n\n{_configuration(cfg, encoder, finetuned)}",
        f"## Fidelity\n\n{_fidelity(report, cfg['task']['normalize'])}",
        *([f"## Word error rate\n\n{_score_table(notes.scores)}"] if notes.scores else []),
        f"## Licence\n\n{_LICENCE_NAMED.format(licence=notes.licence) if notes.licence else _LICENCE}",
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


def _training(known: dict[str, Any], finetuned: bool, notes: Notes) -> str:
    lines = [f"- updates: {known['updates']:,}"] if "updates" in known else ["- updates: not recorded"]
    if "hours_heard" in known:
        lines.append(f"- audio processed, repetitions counted: {known['hours_heard']:,.2f} h")
    if notes.data:
        lines.append(f"- data: {notes.data}")
    manifest = known.get("manifest")
    if manifest:
        lines.append(
            f"- {'fine-tuning' if finetuned else 'pre-training'} manifest: `{manifest['name']}`, "
            f"{manifest['utterances']:,} utterances, {manifest['hours']:,.2f} h, SHA-256 `{manifest['sha256']}`"
        )
    elif not notes.data:
        lines.append("- data: not recorded in the checkpoint")
    if known["objective"]:
        dropped = ", less its criterion's, which fairseq drops when it fine-tunes" if finetuned else ""
        lines.append(f"- settings of the pre-training (`ccc_w2v`){dropped}:")
        lines += [f"  - `{key}`: {value}" for key, value in sorted(known["objective"].items())]
    if "weights" in known:
        lines.append(f"- weights: {known['weights']}")
    if "imported_from" in known:
        lines.append(f"- imported from: {known['imported_from']}")
    lines.append(f"- exported by {known['package']} {known['version']}")
    return "\n".join(lines)


def _recipe(known: dict[str, Any], notes: Notes) -> str:
    lines = [f"- recipe: {notes.recipe}"] if notes.recipe else []
    lines += [f"- `{name}`: {value}" for name, value in known.get("recipe", {}).items()]
    return "\n".join(lines or ["Not recorded in the checkpoint."])


def _run(says: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {text}" for name, text in says.items())


def _configuration(cfg: dict[str, Any], encoder: dict[str, Any], finetuned: bool) -> str:
    """List the model's settings that differ from fairseq's defaults: with these fairseq builds the same network."""
    from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config
    from fairseq.models.wav2vec.wav2vec2_asr import Wav2Vec2CtcConfig

    sections = {"encoder": _changed(encoder, field_defaults(Wav2Vec2Config))}
    if finetuned:
        of_run = {"data", "w2v_path", "w2v_args", "ddp_backend"}
        changed = _changed(cfg["model"], field_defaults(Wav2Vec2CtcConfig))
        sections["fine_tuning"] = {key: value for key, value in changed.items() if key not in of_run}
    text = yaml.safe_dump(sections, sort_keys=True)
    return f"fairseq's settings, where they differ from its defaults:\n\n```yaml\n{text}```"


def _changed(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value != defaults.get(key)}


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


def _score_table(scores: Sequence[SetScore]) -> str:
    columns = ("score", "utterances", "words", "WER", "interval", "CER", "normalisation", "scored by")
    rows = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for score in scores:
        low_high = score.interval
        cells = [
            score.name,
            *(f"{count:,}" if count is not None else "-" for count in (score.utterances, score.words)),
            f"{score.wer:.2%}",
            f"{low_high[0]:.2%} to {low_high[1]:.2%} ({score.level:.0%})" if low_high else "-",
            f"{score.cer:.2%}" if score.cer is not None else "-",
            score.normalization or "-",
            score.scored_by or "-",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)
