"""`ccc_wav2vec2`: fairseq's wav2vec 2.0 with an optional second view. It adds no parameter.

`model(source)` is fairseq's model, bit for bit. `model(source, source_aug=...)` runs both views in one batched pass and
returns what the criterion contrasts. Letters: B utterances, S samples, T frames, M masked frames of each utterance,
D projected width, G codebook groups, V codes in each.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from fairseq.data import data_utils
from fairseq.models import register_model
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config, Wav2Vec2Model

from ccc_w2v.data.masking import span_mask
from ccc_w2v.data.randomness import generator_for
from ccc_w2v.errors import InputError
from ccc_w2v.losses.quantization import Quantized, gumbel_noise, gumbel_quantize


@dataclass
class CccWav2Vec2Config(Wav2Vec2Config):
    """fairseq's wav2vec 2.0 configuration; what is new in ccc-wav2vec 2.0 is configured in the criterion."""


@register_model("ccc_wav2vec2", dataclass=CccWav2Vec2Config)
class CccWav2Vec2Model(Wav2Vec2Model):
    """wav2vec 2.0 that can look at an utterance and its augmentation together (arXiv 2210.02592)."""

    num_updates = 0

    def set_num_updates(self, num_updates: int) -> None:
        """Remember how many updates were made, for schedules of the criterion; fairseq calls it before each one."""
        super().set_num_updates(num_updates)
        self.num_updates = num_updates

    def forward(
        self,
        source: torch.Tensor,
        padding_mask: torch.Tensor | None = None,
        *args: Any,
        source_aug: torch.Tensor | None = None,
        seed: int = 0,
        gumbel: torch.Tensor | None = None,
        gumbel_aug: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Run wav2vec 2.0 on ``source`` (B, S), or on it and ``source_aug`` (B, S) with one mask and one padding.

        ``seed`` starts the generators of this batch's mask, Gumbel noise and layer drop; ``mask_indices`` (B, T),
        ``gumbel`` and ``gumbel_aug`` (B, M, G, V) replace the draws. With two views the result holds, for the
        original view and (``_aug``) for the other: context (B, M, D), target (B, M, D), codes (B, M, G), code and
        prob perplexity, features_pen, and mask_indices (B, T).
        """
        if source_aug is None:
            return super().forward(source, padding_mask, *args, **kwargs)
        if args or kwargs.keys() - {"mask_indices"}:
            raise TypeError(f"two views take no further arguments, got {args or sorted(kwargs)}")
        mask_indices = kwargs.get("mask_indices")
        if mask_indices is None:
            mask_indices = self._draw_mask(source, padding_mask, seed)
        mask_indices = mask_indices.to(source.device)
        context, features, penalties = self._encode_views(source, source_aug, padding_mask, mask_indices, seed)
        targets = [
            self._quantize(view, noise, generator_for(seed, purpose, device=source.device))
            for view, noise, purpose in zip(features, (gumbel, gumbel_aug), ("gumbel", "gumbel_aug"), strict=True)
        ]
        result: dict[str, Any] = {"mask_indices": mask_indices, "temp": self.quantizer.curr_temp}
        result["num_vars"] = self.quantizer.num_vars * self.quantizer.groups
        for suffix, view_context, target, penalty in zip(("", "_aug"), context, targets, penalties, strict=True):
            result["context" + suffix] = view_context
            result["target" + suffix] = self.project_q(target.vectors_BMD)
            result["codes" + suffix] = target.codes_BMG
            result["code_perplexity" + suffix] = target.code_perplexity
            result["prob_perplexity" + suffix] = target.prob_perplexity
            result["features_pen" + suffix] = penalty
        return result

    def _encode_views(
        self,
        source: torch.Tensor,
        source_aug: torch.Tensor,
        padding_mask: torch.Tensor | None,
        mask_indices: torch.Tensor,
        seed: int,
    ) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...], list[torch.Tensor]]:
        """Run fairseq's forward once over 2B; return context and features at masked frames and each view's penalty."""
        both_padding = None if padding_mask is None else torch.cat([padding_mask, padding_mask])
        both_mask = torch.cat([mask_indices, mask_indices])
        # Layer drop draws from numpy's global generator: seed it for this pass and leave it as it was.
        with data_utils.numpy_seed(seed % 2**32), _captured_input(self.layer_norm) as encoder_output:
            output = super().forward(
                torch.cat([source, source_aug]),
                both_padding,
                features_only=True,
                mask_indices=both_mask,
                mask_channel_indices=self._draw_channel_mask(mask_indices, seed),
            )
        penalties = [view.float().pow(2).mean() for view in encoder_output[0].chunk(2)]
        masked = both_mask.nonzero(as_tuple=True)
        shape = (both_mask.size(0), -1)
        context = self.final_proj(output["x"][masked]).unflatten(0, shape)
        features = output["features"][masked].unflatten(0, shape)
        return context.chunk(2), features.chunk(2), penalties

    def _quantize(
        self, features_BMC: torch.Tensor, noise: torch.Tensor | None, generator: torch.Generator
    ) -> Quantized:
        quantizer = self.quantizer
        groups, codes = quantizer.groups, quantizer.num_vars
        logits_BMGV = quantizer.weight_proj(features_BMC).unflatten(-1, (groups, codes))
        codebook_GVd = quantizer.vars.view(groups, codes, -1)
        if self.training and noise is None:
            noise = gumbel_noise(tuple(logits_BMGV.shape), generator)
        return gumbel_quantize(logits_BMGV, codebook_GVd, quantizer.curr_temp, noise)

    def _draw_mask(self, source: torch.Tensor, padding_mask: torch.Tensor | None, seed: int) -> torch.Tensor:
        sizes = torch.full(source.shape[:1], source.size(1))
        if padding_mask is not None:
            sizes = (~padding_mask).sum(dim=-1).cpu()
        frames = self._get_feat_extract_output_lengths(torch.tensor([source.size(1), *sizes.tolist()])).tolist()
        return span_mask(
            frames[1:],
            frames[0],
            self.mask_prob,
            self.mask_length,
            generator_for(seed, "mask"),
            min_spans=2,
        )

    def _draw_channel_mask(self, mask_indices: torch.Tensor, seed: int) -> torch.Tensor | None:
        if self.mask_channel_prob <= 0:
            return None
        utterances, frames = mask_indices.shape
        channels = self.cfg.encoder_embed_dim
        mask_BC = span_mask(
            [channels] * utterances,
            channels,
            self.mask_channel_prob,
            self.mask_channel_length,
            generator_for(seed, "channel_mask"),
        )
        return mask_BC.repeat(2, 1).unsqueeze(1).expand(-1, frames, -1).to(mask_indices.device)


@contextmanager
def _captured_input(module: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """Collect what a module is called with: fairseq returns the features' penalty only beside its own loss."""
    captured: list[torch.Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
    try:
        yield captured
    finally:
        handle.remove()


# Settings of fairseq's model that this objective does not cover, with what they must be.
_REQUIRED = {
    "quantize_targets": True,
    "quantize_input": False,
    "target_glu": False,
    "negatives_from_everywhere": False,
    "cross_sample_negatives": 0,
    "codebook_negatives": 0,
    "crop_seq_to_multiple": 1,
    "mask_selection": "static",
    "no_mask_overlap": False,
    "mask_dropout": 0,
    "require_same_masks": True,
    "mask_channel_before": False,
    "mask_channel_selection": "static",
    "no_mask_channel_overlap": False,
}


def refuse_unsupported(cfg: CccWav2Vec2Config) -> None:
    """Raise InputError for a setting that two views cannot share or that no seed could replay."""
    for name, required in _REQUIRED.items():
        found = getattr(cfg, name, required)
        found = getattr(found, "value", found)
        if found != required:
            raise InputError(f"model.{name}={found}: ccc_wav2vec2 needs {name}={required}; wav2vec2 takes others")
    if cfg.mask_prob <= 0 or cfg.num_negatives <= 0:
        raise InputError("model.mask_prob and model.num_negatives must be positive: the loss is over masked frames")
