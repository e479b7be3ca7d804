"""What ccc-w2v decode is measured against: transformers with its decoders, and unmodified fairseq with its own."""

from __future__ import annotations

import importlib
import math
import multiprocessing
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fairseq
import soundfile
import torch
from fairseq import utils

from ccc_w2v.checkpoint.plain import build_model
from ccc_w2v.checkpoint.read import load_checkpoint
from ccc_w2v.data.manifest import Manifest

# What fairseq's wav2vec 2.0 README decodes with: dataset.max_tokens=4000000 samples.
FAIRSEQ_SAMPLES = 4_000_000
TRANSFORMERS_BATCH = 8
# What the search hears in place of a recording's log-probabilities (T, V).
Hears = Callable[[torch.Tensor], torch.Tensor]


class Transformers:
    """Wav2Vec2ForCTC and its processor, in the way that their documentation shows."""

    def __init__(self, folder: Path, manifest: Manifest, device: torch.device):
        from transformers import Wav2Vec2ForCTC, Wav2Vec2Processor

        self.model = Wav2Vec2ForCTC.from_pretrained(folder, local_files_only=True).eval().to(device)
        self.processor = Wav2Vec2Processor.from_pretrained(folder, local_files_only=True)
        self.paths = [manifest.audio_path(entry) for entry in manifest.entries]
        # The base model's frames; what lies behind them in a padded batch is padding.
        self.frames = [int(self.model._get_feat_extract_output_lengths(entry.samples)) for entry in manifest.entries]
        self.by_length = sorted(range(len(self.paths)), key=lambda index: -manifest.entries[index].samples)

    def logits(self, batch: int) -> Iterator[tuple[int, torch.Tensor]]:
        """Give each recording's place in the manifest and logits (T, V), ``batch`` of them padded together."""
        with torch.inference_mode():
            for start in range(0, len(self.paths), batch):
                indices = self.by_length[start : start + batch]
                waves = [soundfile.read(self.paths[index], dtype="float32")[0] for index in indices]
                inputs = self.processor(waves, sampling_rate=16_000, return_tensors="pt", padding=True)
                logits = self.model(**inputs.to(self.model.device)).logits.cpu()
                yield from zip(indices, logits, strict=True)

    def greedy(self, batch: int) -> list[str]:
        """Return the manifest's transcripts."""
        texts = [""] * len(self.paths)
        for index, logits_TV in self.logits(batch):
            texts[index] = self.processor.batch_decode(logits_TV.argmax(dim=-1)[None])[0]
        return texts


class Fairseq:
    """fairseq's dataset, batches, model and the decoder of its speech recognition example, none of them changed."""

    def __init__(self, checkpoint: Path, manifest: Manifest, device: torch.device):
        self.model, self.task = build_model(checkpoint, load_checkpoint(checkpoint))
        self.model.to(device)
        self.manifest = manifest
        self.decoder = viterbi_decoder()(self.task.target_dictionary)

    def greedy(self, max_sentences: int | None) -> list[str]:
        """Return the manifest's transcripts, batches of FAIRSEQ_SAMPLES or of so many utterances."""
        from fairseq.data import FileAudioDataset
        from fairseq.data.data_utils import post_process

        dataset = FileAudioDataset(
            self.manifest.source, sample_rate=16_000, pad=True, normalize=self.task.cfg.normalize, shuffle=False
        )
        batches = self.task.get_batch_iterator(
            dataset, max_tokens=FAIRSEQ_SAMPLES, max_sentences=max_sentences, required_batch_size_multiple=1
        ).next_epoch_itr(shuffle=False)
        texts = [""] * len(self.manifest)
        with torch.no_grad():
            for sample in batches:
                if next(self.model.parameters()).is_cuda:
                    sample = utils.move_to_cuda(sample)
                nbest_lists = self.decoder.generate([self.model], sample)
                for index, hypotheses in zip(sample["id"].tolist(), nbest_lists, strict=True):
                    symbols = self.task.target_dictionary.string(hypotheses[0]["tokens"].int())
                    texts[index] = post_process(symbols, "letter")
        return texts


def viterbi_decoder() -> Any:
    """Return the greedy decoder of fairseq's speech recognition example, out of the installed fairseq.

    The example's package imports a module `examples` that exists in fairseq's repository alone; the decoder's own file
    needs nothing of it.
    """
    package = types.ModuleType("fairseq_speech_decoders")
    package.__path__ = [str(Path(fairseq.__file__).parent / "examples" / "speech_recognition" / "new" / "decoders")]
    sys.modules[package.__name__] = package
    return importlib.import_module(f"{package.__name__}.viterbi_decoder").ViterbiDecoder


def pyctcdecode_missing() -> str | None:
    """Say why transformers' decoder with a language model cannot be measured; None where it can."""
    try:
        importlib.import_module("pyctcdecode")
        importlib.import_module("kenlm")
    except ImportError as error:
        return f"{error}; it pins numpy < 2, so: pip install --no-deps pyctcdecode==0.5.0 pygtrie==2.5.0"
    return None


@contextmanager
def transformers_beam(
    rival: Transformers, batch: int, hears: Hears, lm: Path, words: Sequence[str], lm_weight: float, processes: int
) -> Iterator[Callable[[int], list[str]]]:
    """Give a function from beam to transcripts: transformers' model, then pyctcdecode in so many processes.

    transformers 5 names pyctcdecode in place of its own wrapper around it.
    """
    from pyctcdecode import build_ctcdecoder

    vocabulary = rival.processor.tokenizer.get_vocab()
    labels = sorted(vocabulary, key=vocabulary.__getitem__)
    labels = ["" if label == "<pad>" else " " if label == "|" else label for label in labels]
    # Its language model's scores are natural logarithms, ours to base 10.
    decoder = build_ctcdecoder(labels, str(lm), list(words), alpha=lm_weight / math.log(10), beta=0.0)
    with multiprocessing.get_context("fork").Pool(processes) as pool:

        def decode(beam: int) -> list[str]:
            hypotheses = [
                (index, hears(logits_TV[: rival.frames[index]]).numpy()) for index, logits_TV in rival.logits(batch)
            ]
            decoded = decoder.decode_batch(pool, [logits for _, logits in hypotheses], beam_width=beam)
            texts = dict(zip((index for index, _ in hypotheses), decoded, strict=True))
            return [texts[index] for index in range(len(hypotheses))]

        yield decode
        decoder.cleanup()
