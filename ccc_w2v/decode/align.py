"""Forced alignment of transcripts by a fine-tuned CTC network: when each letter (or phone, or piece) is said.

The best CTC path through a transcript is torchaudio's. The labels are those that the network was fine-tuned on: after
a fine-tuning on letters, letters stand for phones. Letters: T frames, V symbols of the dictionary, N labels.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence

import torch
import torchaudio.functional
from tqdm import tqdm

from ccc_w2v.data.alignments import AlignedLabel
from ccc_w2v.data.labels import read_labels
from ccc_w2v.data.manifest import Manifest
from ccc_w2v.data.trn import utterance_ids
from ccc_w2v.decode.batching import MAX_BATCH_SAMPLES
from ccc_w2v.decode.ctc_model import CtcModel
from ccc_w2v.decode.log_probs import emitted_segments
from ccc_w2v.errors import InputError

logger = logging.getLogger(__name__)


def align_manifest(
    model: CtcModel, manifest: Manifest, labels: str, max_samples: int = MAX_BATCH_SAMPLES
) -> dict[str, list[AlignedLabel]]:
    """Align each utterance with its line of <split>.<labels>, in the manifest's order.

    Utterances without a label, or with more than their frames can hold, are left out with a warning. Raises InputError
    for missing labels and for a label that the network does not know.
    """
    lines = read_labels(manifest, f".{labels}")
    if lines is None:
        raise InputError(f"{manifest.source}: no .{labels} beside it; name the labels of the fine-tuning with --labels")
    ids = utterance_ids(manifest)
    targets_of = {
        utterance: indices_of(line.split(), model, manifest.where(entry))
        for utterance, line, entry in zip(ids, lines, manifest.entries, strict=True)
    }
    todo = [position for position, utterance in enumerate(ids) if targets_of[utterance]]
    rows_of: dict[str, list[AlignedLabel] | None] = {}
    with tqdm(total=len(todo), unit="utt", desc="aligning") as bar:
        for segment, log_probs_TV in emitted_segments(model, manifest, todo, max_samples, None, None):
            rows_of[segment.utterance] = align(log_probs_TV, targets_of[segment.utterance], model)
            bar.update()
    aligned = {utterance: rows for utterance in ids if (rows := rows_of.get(utterance))}
    _warn_of_the_rest(manifest, ids, aligned)
    return aligned


def _warn_of_the_rest(manifest: Manifest, ids: Sequence[str], aligned: Mapping[str, object]) -> None:
    left_out = [utterance for utterance in ids if utterance not in aligned]
    if not aligned:
        raise InputError(f"{manifest.source}: no utterance has labels that fit into its frames")
    if left_out:
        logger.warning(
            f"{len(left_out)} of {len(ids)} utterances are left out, without a label or with more labels than frames: "
            f"{', '.join(left_out[:3])}"
        )


def indices_of(labels: Sequence[str], model: CtcModel, where: str) -> list[int]:
    """Return the places of labels in the dictionary. Raises InputError for one that is not there."""
    known = {symbol: index for index, symbol in enumerate(model.labels) if index != model.blank}
    missing = [label for label in labels if label not in known]
    if missing:
        raise InputError(
            f"{where}: label {missing[0]!r} is not in the network's dictionary; name its labels with --labels"
        )
    return [known[label] for label in labels]


def align(log_probs_TV: torch.Tensor, targets: Sequence[int], model: CtcModel) -> list[AlignedLabel] | None:
    """Return the frames and seconds of N labels on the best path; None where T frames cannot hold them."""
    repeats = sum(left == right for left, right in zip(targets, targets[1:], strict=False))
    if not targets or len(log_probs_TV) < len(targets) + repeats:
        return None
    target_1N = torch.tensor([targets], dtype=torch.int32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path_1T, scores_1T = torchaudio.functional.forced_align(
            log_probs_TV[None].float().cpu().contiguous(), target_1N, blank=model.blank
        )
        spans = torchaudio.functional.merge_tokens(path_1T[0], scores_1T[0], blank=model.blank)
    seconds = model.frame_samples / model.sample_rate
    return [
        AlignedLabel(
            model.labels[span.token], span.start, span.end, span.start * seconds, span.end * seconds, float(span.score)
        )
        for span in spans
    ]
