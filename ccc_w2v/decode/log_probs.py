"""A manifest's log-probabilities, batch by batch and window by window, in the segments that are searched at once.

Letters in shapes: T frames, V symbols of the dictionary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ccc_w2v.data.audio import open_parts, read_audio
from ccc_w2v.data.manifest import Manifest
from ccc_w2v.data.trn import utterance_ids
from ccc_w2v.decode.batch_threads import batches_at_once, compute_ahead
from ccc_w2v.decode.batching import batches_for
from ccc_w2v.decode.ctc_model import CtcModel
from ccc_w2v.decode.long_segments import segments_of
from ccc_w2v.decode.long_windows import Windows, emit_long
from ccc_w2v.decode.network import emit, frame_count
from ccc_w2v.files import appearing


@dataclass(frozen=True)
class DecodingSegment:
    """What is searched at once: an utterance or a part of it, its start [s] and length in samples, whether the last."""

    utterance: str
    start: float
    samples: int
    last: bool


def emitted_segments(
    model: CtcModel,
    manifest: Manifest,
    todo: Sequence[int],
    max_samples: int,
    windows: Windows | None,
    logits_dir: Path | None,
) -> Iterator[tuple[DecodingSegment, torch.Tensor]]:
    """Give log-probabilities (T, V) of the positions ``todo``: utterances in batches, then long recordings in segments.

    With ``logits_dir`` each utterance's are written there as <id>.npy, float32.
    """
    ids = utterance_ids(manifest)
    for position, parts in _emitted(model, manifest, ids, todo, max_samples, windows):
        samples = manifest.entries[position].samples
        if logits_dir is not None:
            shape = (frame_count(model, samples), len(model.labels))
            parts = _writing(logits_dir / f"{ids[position]}.npy", shape, parts)
        yield from cut_segments(model, ids[position], samples, parts, windows)


def cut_segments(
    model: CtcModel, utterance: str, samples: int, parts: Iterable[torch.Tensor], windows: Windows | None
) -> Iterator[tuple[DecodingSegment, torch.Tensor]]:
    """Give an utterance's log-probabilities (T, V) as one segment, or in several where it exceeds ``windows``."""
    if windows is not None and _is_long(model, samples, windows):
        parts = segments_of(parts, model, windows.frames)
    end = 0
    for log_probs_TV in parts:
        start, end = end, end + len(log_probs_TV)
        last = end == frame_count(model, samples)
        length = (samples if last else end * model.frame_samples) - start * model.frame_samples
        yield DecodingSegment(utterance, start * model.frame_samples / model.sample_rate, length, last), log_probs_TV


def _is_long(model: CtcModel, samples: int, windows: Windows | None) -> bool:
    return windows is not None and frame_count(model, samples) > windows.frames


def _emitted(
    model: CtcModel,
    manifest: Manifest,
    ids: Sequence[str],
    todo: Sequence[int],
    max_samples: int,
    windows: Windows | None,
) -> Iterator[tuple[int, Iterable[torch.Tensor]]]:
    """Give each position with its log-probabilities, in one part or in several."""
    lengths = {position: manifest.entries[position].samples for position in todo}
    short = [position for position in todo if not _is_long(model, lengths[position], windows)]
    at_once = batches_at_once(next(model.network.parameters()).device)
    # Together the batches in memory are as large as one.
    batches = batches_for(model, [lengths[position] for position in short], max_samples // at_once)

    def emitted(positions: list[int]) -> list[torch.Tensor]:
        return emit_positions(model, manifest, ids, positions, max_samples)

    positions_of = [[short[index] for index in batch] for batch in batches]
    for positions, emissions in compute_ahead(emitted, positions_of, at_once):
        for position, log_probs_TV in zip(positions, emissions, strict=True):
            yield position, [log_probs_TV]
    for position in todo:
        if windows is None or not _is_long(model, lengths[position], windows):
            continue
        entry = manifest.entries[position]
        path, where = manifest.audio_path(entry), manifest.where(entry)
        with open_parts(path, model.sample_rate, where=where, declared_samples=entry.samples) as read:
            yield position, emit_long(model, read, entry.samples, windows, max_samples, ids[position])


def emit_positions(
    model: CtcModel, manifest: Manifest, ids: Sequence[str], positions: Sequence[int], max_samples: int
) -> list[torch.Tensor]:
    """Read one batch's recordings and return the log-probabilities (T, V) of each."""
    waves = [
        read_audio(
            manifest.audio_path(entry),
            model.sample_rate,
            where=manifest.where(entry),
            declared_samples=entry.samples,
            min_samples=model.min_samples,
        )
        for entry in (manifest.entries[position] for position in positions)
    ]
    return emit(model, waves, [ids[position] for position in positions], max_samples)


def _writing(path: Path, shape: tuple[int, int], parts: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Pass on parts of an array of this shape, float32, and write each; the .npy file appears whole or not at all."""
    with appearing(path) as partial, open(partial, "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(part.numpy().astype("<f4").tobytes())
            yield part
