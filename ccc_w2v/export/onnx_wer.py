"""Export to ONNX, and what int8 costs: the word error rate of the graph before and after."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ccc_w2v.checkpoint import parity
from ccc_w2v.checkpoint.huggingface_config import BLANK
from ccc_w2v.checkpoint.huggingface_model import build, read_samples
from ccc_w2v.checkpoint.plain import load_plain, to_plain
from ccc_w2v.checkpoint.read import load_checkpoint
from ccc_w2v.data.audio import read_audio
from ccc_w2v.data.labels import read_references
from ccc_w2v.data.manifest import Manifest, read_manifest
from ccc_w2v.data.trn import utterance_ids
from ccc_w2v.decode.greedy import greedy, to_words
from ccc_w2v.errors import InputError
from ccc_w2v.export import onnx_graph
from ccc_w2v.files import refuse_existing, whole
from ccc_w2v.score.wer import score


def export_measured(
    checkpoint: str | Path,
    out: str | Path,
    sample_audio: Sequence[str | Path],
    manifest_path: str | Path | None = None,
    *,
    int8: bool = False,
    overwrite: bool = False,
) -> str:
    """Write a fine-tuned ``checkpoint`` as an ONNX file; returns the report in words.

    ``sample_audio``: recordings to compare the logits with fairseq's on. With ``int8`` the file holds int8 weights, and
    the report says the word error rate on the manifest, which must have a .wrd beside it, with fp32 and with int8.

    Raises InputError for a checkpoint without a CTC output, logits that differ, audio that is missing or unfit, and a
    target that exists while ``overwrite`` is false. The file appears whole or not at all.
    """
    out = Path(out)
    refuse_existing(out, overwrite)
    manifest, references = _test_set(manifest_path) if int8 else (None, {})
    plain = to_plain(load_checkpoint(checkpoint))
    if "ccc_dictionary" not in plain:
        raise InputError(f"{checkpoint}: is pre-trained and has no CTC output; expected a fine-tuned checkpoint")
    fairseq_model, task = load_plain(plain, checkpoint)
    model = build(plain)
    waves = [
        parity.normalized(wave, task.cfg.normalize)
        for wave in read_samples(sample_audio, model.config, task.cfg.sample_rate)
    ]
    with whole(out, overwrite=overwrite) as partial, tempfile.TemporaryDirectory() as scratch:
        graph = Path(scratch) / "fp32.onnx" if int8 else partial
        onnx_graph.write_graph(model, plain, graph)
        difference = onnx_graph.largest_difference(onnx_graph.open_graph(graph), fairseq_model, waves)
        onnx_graph.check(difference)
        lines = [f"largest difference from fairseq on {len(waves)} recording(s), alone and padded: {difference:.1e}"]
        if manifest is not None:
            onnx_graph.quantize(graph, partial)
            graphs = {"fp32": graph, "int8": partial}
            rates = [word_error_rate(path, plain, manifest, references, name) for name, path in graphs.items()]
            sizes = [path.stat().st_size / 1e6 for path in graphs.values()]
            lines.append(
                f"int8: WER {rates[0]:.2%} before, {rates[1]:.2%} after on {len(manifest)} utterances; "
                f"{sizes[0]:.1f} MB before, {sizes[1]:.1f} MB after"
            )
    return "\n".join([*lines, f"wrote {out}"])


def word_error_rate(
    graph: Path, plain: dict[str, Any], manifest: Manifest, references: dict[str, str], name: str = "onnx"
) -> float:
    """Decode ``manifest`` greedily with a graph, each utterance by itself; returns the errors per reference word."""
    session = onnx_graph.open_graph(graph)
    task, symbols = plain["cfg"]["task"], plain["ccc_dictionary"]["symbols"]
    texts = {}
    entries = zip(utterance_ids(manifest), manifest.entries, strict=True)
    for utterance, entry in tqdm(entries, total=len(manifest), unit="utt", desc=f"decoding, {name}"):
        wave_S = read_audio(manifest.audio_path(entry), task["sample_rate"], where=manifest.where(entry))
        logits_TV = onnx_graph.graph_logits(session, parity.normalized(wave_S, task["normalize"])[None])[0]
        texts[utterance] = " ".join(to_words(greedy(logits_TV, BLANK), symbols, onnx_graph.post_process(plain)))
    return score(references, texts).error_rate


def _test_set(path: str | Path | None) -> tuple[Manifest, dict[str, str]]:
    if path is None:
        raise InputError("int8 is measured: give a manifest with a .wrd beside it with --manifest")
    manifest = read_manifest(path)
    references = read_references(manifest)
    if references is None:
        raise InputError(f"{path}: no .wrd beside it; the word error rate needs the transcripts")
    return manifest, dict(zip(utterance_ids(manifest), references, strict=True))
