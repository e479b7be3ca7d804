"""`decode`: real-time factor of greedy and beam decoding, beside transformers and unmodified fairseq on the same files.

From files to transcripts, reading included, loading the models not. The others decode in the faster of two ways each,
one utterance at a time or in padded batches, found in a round before the measured ones.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config
from rapidfuzz.distance import Levenshtein
from tqdm import tqdm

from ccc_w2v.benchmark import measure
from ccc_w2v.benchmark.decode_rivals import (
    TRANSFORMERS_BATCH,
    Fairseq,
    Transformers,
    pyctcdecode_missing,
    transformers_beam,
)
from ccc_w2v.benchmark.language import heard, invent
from ccc_w2v.benchmark.random_ctc import build_ctc, trainer_state, write_dictionary
from ccc_w2v.benchmark.sizes import SIZES
from ccc_w2v.compat import field_defaults
from ccc_w2v.data.manifest import Manifest, read_manifest, write_manifest
from ccc_w2v.data.synthetic import RATE, voice
from ccc_w2v.data.trn import utterance_ids
from ccc_w2v.decode.beam import BeamSettings, beam_search
from ccc_w2v.decode.ctc_model import CtcModel, load_ctc
from ccc_w2v.decode.load import made_faster
from ccc_w2v.decode.transcribe import DecodingOptions, transcribe
from ccc_w2v.errors import InputError
from ccc_w2v.export.huggingface import export_huggingface
from ccc_w2v.score.wer import score

CPU = torch.device("cpu")
OURS, TRANSFORMERS, FAIRSEQ = "ours", "transformers", "fairseq"
LM_WEIGHT = 2.0
Decode = Callable[[], list[str]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `ccc-w2v benchmark decode`."""
    parser.add_argument("--checkpoint", type=Path, help="fine-tuned, letters, 16 kHz (default: random weights)")
    parser.add_argument("--size", choices=sorted(SIZES), default="base", help="of the random model (default: base)")
    parser.add_argument("--manifest", type=Path, help="speech, .tsv at 16 kHz (default: made for the measurement)")
    parser.add_argument("--utterances", type=int, default=12, help="made for the measurement (default: 12)")
    parser.add_argument("--rounds", type=int, default=3, help="measured rounds of greedy decoding (default: 3)")
    parser.add_argument("--beam-rounds", type=int, default=2, help="of beam search; 0: none (default: 2)")
    parser.add_argument("--beams", type=int, nargs="+", default=[50, 500], help="hypotheses kept (default: 50 500)")
    parser.add_argument("--device", default="cpu", help="of everyone's network: cpu or cuda (default: cpu)")
    parser.add_argument("--threads", type=int, help="for everyone (default: as many as torch takes)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure interleaved rounds, print tables, and return medians and ratios of the same round (ours over theirs)."""
    if args.threads:
        torch.set_num_threads(args.threads)
    draw = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = read_manifest(args.manifest or _write_speech(folder, args.utterances, draw))
        checkpoint = args.checkpoint or _write_checkpoint(folder, args.size)
        model = load_ctc(checkpoint)
        if (model.sample_rate, model.post_process) != (RATE, "letter"):
            raise InputError(f"{checkpoint}: expected a model of letters at {RATE} Hz, which all three can decode")
        device = torch.device(args.device)
        model.network.to(device)
        model = made_faster(model)
        recordings = [manifest.audio_path(entry) for entry in manifest.entries[:1]]
        export_huggingface(checkpoint, folder / "transformers", recordings)
        seconds = sum(entry.samples for entry in manifest.entries) / RATE
        print(f"{len(manifest)} utterances, {seconds:.0f} s of audio, {measure.machine(device)}", flush=True)
        rival = Transformers(folder / "transformers", manifest, device)
        result = _greedy(args, model, manifest, rival, Fairseq(checkpoint, manifest, device), seconds, folder)
        if args.beam_rounds:
            result |= _beam(args, model, manifest, rival, seconds, folder, draw)
        return result


def _write_speech(folder: Path, utterances: int, draw: np.random.Generator) -> Path:
    """Write FLAC of lengths like those of LibriSpeech's test sets: 2 to 25 s, half of them below 6 s."""
    entries = []
    for number in tqdm(range(utterances), desc="writing speech", unit="file", leave=False):
        samples = round(float(np.clip(draw.lognormal(np.log(6), 0.6), 2, 25)) * RATE)
        soundfile.write(folder / f"{number}.flac", np.clip(voice(draw, samples), -1, 1), RATE, subtype="PCM_16")
        entries.append((f"{number}.flac", samples))
    write_manifest(folder / "speech.tsv", folder, entries)
    return folder / "speech.tsv"


def _write_checkpoint(folder: Path, size: str) -> Path:
    write_dictionary(folder)
    task, model, cfg = build_ctc(folder, {**field_defaults(Wav2Vec2Config), **SIZES[size]})
    with torch.no_grad():
        # <pad>, </s> and <unk>, which a trained network never says and which everyone spells in another way.
        model.w2v_encoder.proj.bias[1:4] = -1e4
    torch.save(trainer_state(task, model, cfg), folder / "ctc.pt")
    return folder / "ctc.pt"


def _greedy(
    args: argparse.Namespace,
    model: CtcModel,
    manifest: Manifest,
    rival: Transformers,
    fairseq: Fairseq,
    seconds: float,
    folder: Path,
) -> dict[str, Any]:
    ways: dict[str, dict[str, Decode]] = {
        TRANSFORMERS: {
            "one at a time": lambda: rival.greedy(1),
            f"padded batches of {TRANSFORMERS_BATCH}": lambda: rival.greedy(TRANSFORMERS_BATCH),
        },
        FAIRSEQ: {
            "one at a time": lambda: fairseq.greedy(1),
            "padded batches of 250 s": lambda: fairseq.greedy(None),
        },
    }
    texts: dict[str, list[str]] = {}
    chosen = {OURS: _keeping(texts, OURS, lambda: _decode(model, manifest, folder, DecodingOptions()))}
    for name, by_batching in ways.items():
        way, texts[f"{name}, one at a time"] = _faster(by_batching)
        print(f"{name}: {way}")
        chosen[name] = _keeping(texts, name, by_batching[way])
    taken = measure.interleaved(chosen, args.rounds, CPU)
    _print_table("greedy", taken, seconds)
    letters = sum(map(len, texts[OURS]))
    for name in sorted(texts.keys() - {OURS}):
        other = sum(map(Levenshtein.distance, texts[OURS], texts[name]))
        print(f"  {other} of {letters} letters are other than those of {name}")
    ratios = {f"greedy_time_ratio_vs_{name}": _ratio(taken, name) for name in ways}
    return {**ratios, "greedy_real_time_factor": _factor(taken[OURS], seconds)}


def _beam(
    args: argparse.Namespace,
    model: CtcModel,
    manifest: Manifest,
    rival: Transformers,
    seconds: float,
    folder: Path,
    draw: np.random.Generator,
) -> dict[str, Any]:
    """Measure each beam; a random network computes as ever, but the search hears a made-up language."""
    language = invent(folder, draw)
    references: dict[str, str] = {}
    emissions: dict[int, torch.Tensor] = {}
    if args.checkpoint is None:
        for utterance, frames in zip(utterance_ids(manifest), rival.frames, strict=True):
            if frames not in emissions:
                text, emissions[frames] = heard(language.sentences, frames, model.labels, model.blank, draw)
                references[utterance] = text
        model = dataclasses.replace(model, network=_PlayedBack(model.network, emissions))

    def hears(logits_TV: torch.Tensor) -> torch.Tensor:
        return emissions[len(logits_TV)] if emissions else logits_TV

    reason, processes = pyctcdecode_missing(), torch.get_num_threads()
    if reason:
        print(f"transformers' decoder with a language model is not measured: {reason}")
    words = language.lexicon.read_text(encoding="utf-8").split()
    result: dict[str, Any] = {"beam_time_ratio_vs_transformers": None}
    with _rival_beam(reason, rival, hears, language.lm, words, processes) as theirs:
        for beam in args.beams:
            settings = BeamSettings(beam, 1, str(language.lm), str(language.lexicon), LM_WEIGHT)
            search = beam_search(model, settings)
            texts: dict[str, list[str]] = {}

            def ours(search: Any = search) -> list[str]:
                return _decode(model, manifest, folder, DecodingOptions(search, processes))

            functions = {OURS: _keeping(texts, OURS, ours)}
            if theirs is not None:
                functions[TRANSFORMERS] = _keeping(texts, TRANSFORMERS, functools.partial(theirs, beam))
            taken = measure.interleaved(functions, args.beam_rounds, CPU)
            _print_table(f"beam {beam}, 4-gram", taken, seconds)
            _print_errors(texts, utterance_ids(manifest), references)
            result[f"beam_{beam}_real_time_factor"] = _factor(taken[OURS], seconds)
            if theirs is not None:
                result[f"beam_{beam}_time_ratio_vs_transformers"] = _ratio(taken, TRANSFORMERS)
    if theirs is not None:
        # The narrowest: what both are used with.
        result["beam_time_ratio_vs_transformers"] = result[f"beam_{min(args.beams)}_time_ratio_vs_transformers"]
    return result


@contextmanager
def _rival_beam(
    reason: str | None, rival: Transformers, hears: Any, lm: Path, words: Sequence[str], processes: int
) -> Iterator[Callable[[int], list[str]] | None]:
    if reason:
        yield None
        return
    with transformers_beam(rival, 1, hears, lm, words, LM_WEIGHT, processes) as decode:
        yield decode


class _PlayedBack(torch.nn.Module):
    """A network that computes as before and then says what was prepared for so many frames."""

    def __init__(self, network: Any, emissions: Mapping[int, torch.Tensor]):
        super().__init__()
        self.network, self.emissions = network, emissions

    def forward(self, source: torch.Tensor, padding_mask: torch.Tensor | None) -> dict[str, Any]:
        output = self.network(source=source, padding_mask=padding_mask)
        frames, utterances, _ = output["encoder_out"].shape
        return {**output, "encoder_out": self.emissions[frames][:, None].expand(-1, utterances, -1)}

    def get_normalized_probs(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self.network.get_normalized_probs(*args, **kwargs)


def _decode(model: CtcModel, manifest: Manifest, folder: Path, options: DecodingOptions) -> list[str]:
    """Decode as ccc-w2v decode does, journal included."""
    journal = folder / "journal.jsonl"
    journal.unlink(missing_ok=True)
    return list(transcribe(model, manifest, journal, {}, options).texts.values())


def _keeping(texts: dict[str, list[str]], name: str, decode: Decode) -> Callable[[], None]:
    def run_and_keep() -> None:
        texts[name] = decode()

    return run_and_keep


def _faster(ways: Mapping[str, Decode]) -> tuple[str, list[str]]:
    """Return the name of the faster way, and the transcripts of the first."""
    texts = next(iter(ways.values()))()
    taken = {way: measure.timed(decode, CPU) for way, decode in ways.items()}
    return min(taken, key=taken.__getitem__), texts


def _ratio(taken: Mapping[str, list[float]], name: str) -> float:
    return round(measure.median_ratio(taken[OURS], taken[name]), 4)


def _factor(taken: list[float], seconds: float) -> float:
    return round(statistics.median(taken) / seconds, 4)


def _print_table(title: str, taken: Mapping[str, list[float]], seconds: float) -> None:
    print(f"{title:<24}{'median s':>10}{'real-time factor':>20}{'ours / it':>12}")
    for name, times in taken.items():
        ratio = "" if name == OURS else f"{_ratio(taken, name):.3f}"
        print(f"  {name:<22}{statistics.median(times):>10.2f}{_factor(times, seconds):>20.4f}{ratio:>12}")


def _print_errors(texts: Mapping[str, list[str]], ids: list[str], references: Mapping[str, str]) -> None:
    for name, hypothesis_texts in texts.items() if references else ():
        hypotheses = {key: text for key, text in zip(ids, hypothesis_texts, strict=True) if key in references}
        print(f"  {name}: {score(references, hypotheses).error_rate:.1%} word error rate")
