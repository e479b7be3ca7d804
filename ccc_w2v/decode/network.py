"""From waves to log-probabilities; nothing depends on what else is in a batch.

Letters in shapes: B utterances, S samples, T frames, V symbols of the dictionary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ccc_w2v.decode.batching import MAX_BATCH_SAMPLES, batches_for
from ccc_w2v.decode.ctc_model import CtcModel
from ccc_w2v.decode.padded_norm import utterances_of
from ccc_w2v.errors import InputError


def emit(
    model: CtcModel,
    waves: Sequence[torch.Tensor],
    names: Sequence[str] | None = None,
    max_samples: int = MAX_BATCH_SAMPLES,
) -> list[torch.Tensor]:
    """Return log-probabilities (T, V) in float32 on the CPU for each wave (S,), whatever else is in ``waves``.

    The network runs in the precision of its parameters. Raises InputError where it gives NaN, with the utterance's name
    from ``names`` or else its position.
    """
    emissions: dict[int, torch.Tensor] = {}
    for batch in batches_for(model, [len(wave_S) for wave_S in waves], max_samples):
        called = [names[position] if names else f"wave {position}" for position in batch]
        together = emit_batch(model, [_prepared(model, waves[position]) for position in batch], called)
        emissions.update(zip(batch, together, strict=True))
    return [emissions[position] for position in range(len(waves))]


def emit_batch(model: CtcModel, waves: Sequence[torch.Tensor], names: Sequence[str]) -> list[torch.Tensor]:
    """Return log-probabilities (T, V) for each wave (S,) of one batch, normalised already where the model wants that.

    Raises InputError as emit does.
    """
    parameter = next(model.network.parameters())
    samples_B = torch.tensor([len(wave_S) for wave_S in waves])
    source_BS = torch.nn.utils.rnn.pad_sequence(list(waves), batch_first=True)
    padding_BS = torch.arange(source_BS.shape[1]) >= samples_B[:, None]
    with torch.inference_mode(), utterances_of(samples_B.tolist()):
        output = model.network(
            source=source_BS.to(parameter),
            padding_mask=padding_BS.to(parameter.device) if padding_BS.any() else None,
        )
        # fairseq puts time first here.
        log_probs_TBV = model.network.get_normalized_probs(output, log_probs=True).float().cpu()
    emissions = [
        log_probs_TBV[: frame_count(model, samples), index] for index, samples in enumerate(samples_B.tolist())
    ]
    for name, log_probs_TV in zip(names, emissions, strict=True):
        if log_probs_TV.isnan().any():
            raise InputError(
                f"{name}: the network gives NaN; its training has diverged (use another checkpoint), or float16 "
                "overflows (use bfloat16 or float32)"
            )
    return emissions


def frame_count(model: CtcModel, samples: int) -> int:
    """Return how many frames the network makes of so many samples."""
    return (samples - model.min_samples) // model.frame_samples + 1


def _prepared(model: CtcModel, wave_S: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(wave_S, wave_S.shape) if model.normalize else wave_S
