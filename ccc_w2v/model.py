"""`ccc_wav2vec2`: fairseq's wav2vec 2.0 with an optional second view. It adds no parameter.

`model(source)` is fairseq's model, bit for bit. `model(source, source_aug=...)` runs both views in one batched pass and
returns what the criterion contrasts. Letters: B utterances, S samples, T frames, M masked frames of each utterance,
D projected width, G codebook groups, V codes in each.
"""

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from fairseq.data import data_utils
from fairseq.dataclass import ChoiceEnum
from fairseq.models import register_model
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config, Wav2Vec2Model
from fairseq.modules import GradMultiply
from torch.profiler import record_function

from ccc_w2v.data.masking import span_mask
from ccc_w2v.data.randomness import generator_for
from ccc_w2v.errors import InputError
from ccc_w2v.losses.quantization import Quantized, gumbel_noise, gumbel_quantize

# The two views by the suffix of their names in the result.
ORIGINAL, AUGMENTED = "", "_aug"
VIEWS = (ORIGINAL, AUGMENTED)
AUTOCAST = ("none", "bf16", "auto")


@dataclass
class CccWav2Vec2Config(Wav2Vec2Config):
    """fairseq's wav2vec 2.0 configuration; what is new in ccc-wav2vec 2.0 is configured in the criterion."""

    compile_layers: bool = field(
        default=False,
        metadata={"help": "run the Transformer's layers through torch.compile; the first updates take minutes longer"},
    )
    autocast: ChoiceEnum(AUTOCAST) = field(  # type: ignore[valid-type]
        default="none",
        metadata={
            "help": "multiply matrices of the two-view pass in bfloat16, weights and losses in float32; auto: on CPUs "
            "that have instructions for it"
        },
    )


@register_model("ccc_wav2vec2", dataclass=CccWav2Vec2Config)
class CccWav2Vec2Model(Wav2Vec2Model):
    """wav2vec 2.0 that can look at an utterance and its augmentation together (arXiv 2210.02592)."""

    num_updates = 0

    def __init__(self, cfg: CccWav2Vec2Config):
        super().__init__(cfg)
        if cfg.compile_layers:
            for layer in self.encoder.layers:
                # In place, so that the state dict keeps its names; dynamic, since every batch has its own length.
                layer.compile(dynamic=True)

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
        contexts: Collection[str] = VIEWS,
        targets: Collection[str] = VIEWS,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Run wav2vec 2.0 on ``source`` (B, S), or on it and ``source_aug`` (B, S) with one mask and one padding.

        ``seed`` starts the generators of this batch's mask, Gumbel noise and layer drop; ``mask_indices`` (B, T),
        ``gumbel`` and ``gumbel_aug`` (B, M, G, V) replace the draws. With two views the result holds, for the
        original view and (``_aug``) for the other: context (B, M, D), target (B, M, D), codes (B, M, G), code and
        prob perplexity, usage and probability of the codes (G, V), features_pen, and mask_indices (B, T).

        Only the Transformer's passes that ``contexts`` names are made, and only the views that ``contexts`` or
        ``targets`` name are encoded: "" is the original, "_aug" the other view; the rest is missing from the result.
        """
        if source_aug is None:
            return super().forward(source, padding_mask, *args, **kwargs)
        if args or kwargs.keys() - {"mask_indices"}:
            raise TypeError(f"two views take no further arguments, got {args or sorted(kwargs)}")
        mask_indices = kwargs.get("mask_indices")
        if mask_indices is None:
            mask_indices = self.draw_mask(source, padding_mask, seed)
        waves = {ORIGINAL: source, AUGMENTED: source_aug}
        encoded = self._encode_views(waves, padding_mask, mask_indices, seed, contexts, targets)
        noises = {ORIGINAL: gumbel, AUGMENTED: gumbel_aug}
        result: dict[str, Any] = {"mask_indices": mask_indices.to(source.device), "temp": self.quantizer.curr_temp}
        result["num_vars"] = self.quantizer.num_vars * self.quantizer.groups
        for view, (context, features, raw) in encoded.items():
            with record_function("ccc.quantizer"):
                generator = generator_for(seed, "gumbel" + view, device=source.device)
                # In the weights' precision, also where the encoder's products were rounded to bfloat16.
                target = self.quantize(features.to(source.dtype), noises[view], generator)
                result["target" + view] = self.project_q(target.vectors_BMD)
            if context is not None:
                result["context" + view] = context
            result["codes" + view] = target.codes_BMG
            result["code_perplexity" + view] = target.code_perplexity
            result["prob_perplexity" + view] = target.prob_perplexity
            result["usage" + view], result["probability" + view] = target.usage_GV, target.probability_GV
            result["features_pen" + view] = raw.float().pow(2).mean()
        return result

    def _encode_views(
        self,
        waves: dict[str, torch.Tensor],
        padding_mask: torch.Tensor | None,
        mask_indices: torch.Tensor,
        seed: int,
        contexts: Collection[str],
        targets: Collection[str],
    ) -> dict[str, tuple[torch.Tensor | None, torch.Tensor, torch.Tensor]]:
        """Encode the views that are asked for, those with a context in one pass: (context, features, raw) of each."""
        encoded: dict[str, tuple[torch.Tensor | None, torch.Tensor, torch.Tensor]] = {}
        in_full = [view for view in VIEWS if view in contexts]
        with self._autocast(waves[ORIGINAL]):
            if in_full:
                together = self._encode_together([waves[view] for view in in_full], padding_mask, mask_indices, seed)
                encoded = dict(
                    zip(in_full, zip(*(part.chunk(len(in_full)) for part in together), strict=True), strict=True)
                )
            for view in VIEWS:
                if view in targets and view not in encoded:
                    encoded[view] = (None, *self.encode_targets(waves[view], mask_indices))
        return {view: encoded[view] for view in VIEWS if view in encoded}

    def _encode_together(
        self,
        waves: list[torch.Tensor],
        padding_mask: torch.Tensor | None,
        mask_indices: torch.Tensor,
        seed: int,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Encode views (B, S) of the same padding and mask in one pass, one after the other; see encode."""
        count = len(waves)
        padding = None if padding_mask is None else torch.cat([padding_mask] * count)
        channels = self._draw_channel_mask(mask_indices, seed)
        if channels is not None:
            channels = torch.cat([channels] * count).to(waves[0].device)
        return self.encode(torch.cat(waves), padding, torch.cat([mask_indices] * count), channels, seed)

    def _autocast(self, source: torch.Tensor) -> AbstractContextManager[Any]:
        """Return the region in which matrices are multiplied in bfloat16, where the configuration wants it."""
        wanted = uses_bf16(str(self.cfg.autocast), source.device) and source.dtype == torch.float32
        return torch.autocast(source.device.type, torch.bfloat16) if wanted else nullcontext()

    def encode_targets(self, source: torch.Tensor, mask_indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what a view is a target for without the Transformer: features (B, M, C) and raw (B, C', T).

        These are the steps of fairseq's forward up to the features that it hands to the quantizer.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.feature_grad_mult > 0):
            raw = self.feature_extractor(source)
        if self.feature_grad_mult not in (0.0, 1.0):
            raw = GradMultiply.apply(raw, self.feature_grad_mult)
        raw = raw.transpose(1, 2)
        features = self.dropout_features(self.layer_norm(raw))
        masked = tuple(index.to(source.device) for index in mask_indices.nonzero(as_tuple=True))
        return features[masked].unflatten(0, (source.size(0), -1)), raw

    def encode(
        self,
        source: torch.Tensor,
        padding_mask: torch.Tensor | None,
        mask_indices: torch.Tensor,
        mask_channel_indices: torch.Tensor | None,
        seed: int,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Run fairseq's forward once over waves (B, S) with the masks given; layer drop follows ``seed``.

        Returns context (B, M, D), features before masking (B, M, C) and the feature encoder's output (B, T, C').
        """
        # From a mask on the CPU, where it is drawn, a GPU need not be waited for.
        masked = tuple(index.to(source.device) for index in mask_indices.nonzero(as_tuple=True))
        # Layer drop draws from numpy's global generator: seed it for this pass and leave it as it was.
        with data_utils.numpy_seed(seed % 2**32), _captured_input(self.layer_norm) as encoder_output:
            output = super().forward(
                source,
                padding_mask,
                features_only=True,
                mask_indices=mask_indices.to(source.device),
                mask_channel_indices=mask_channel_indices,
            )
        shape = (source.size(0), -1)
        context = self.final_proj(output["x"][masked]).unflatten(0, shape)
        return context, output["features"][masked].unflatten(0, shape), encoder_output[0]

    def apply_mask(
        self,
        x: torch.Tensor,
        padding_mask: torch.Tensor | None,
        mask_indices: torch.Tensor | None = None,
        mask_channel_indices: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Mask features (B, T, C) as fairseq does; masks that are given are applied by selection.

        fairseq indexes with the mask, for which it has to wait for a GPU, and which autocast's two dtypes break.
        """
        if mask_indices is None or (self.mask_channel_prob > 0 and mask_channel_indices is None):
            return super().apply_mask(x, padding_mask, mask_indices, mask_channel_indices)
        x = torch.where(mask_indices.unsqueeze(-1), self.mask_emb.to(x.dtype), x)
        if mask_channel_indices is not None:
            x = x.masked_fill(mask_channel_indices, 0)
        return x, mask_indices

    def quantize(self, features_BMC: torch.Tensor, noise: torch.Tensor | None, generator: torch.Generator) -> Quantized:
        """Quantise features (B, M, C); in training with the Gumbel noise (B, M, G, V) given, else drawn."""
        quantizer = self.quantizer
        groups, codes = quantizer.groups, quantizer.num_vars
        logits_BMGV = quantizer.weight_proj(features_BMC).unflatten(-1, (groups, codes))
        codebook_GVd = quantizer.vars.view(groups, codes, -1)
        if self.training and noise is None:
            noise = gumbel_noise(tuple(logits_BMGV.shape), generator)
        return gumbel_quantize(logits_BMGV, codebook_GVd, quantizer.curr_temp, noise)

    def draw_mask(self, source: torch.Tensor, padding_mask: torch.Tensor | None, seed: int) -> torch.Tensor:
        """Draw the time mask of a batch of waves (B, S): bool (B, T) on the CPU, as many frames in each utterance."""
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
        return mask_BC.unsqueeze(1).expand(-1, frames, -1)


def uses_bf16(autocast: str, device: torch.device) -> bool:
    """Tell whether the two-view pass multiplies in bfloat16 on this device with model.autocast set so."""
    fast_cpu = device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return autocast == "bf16" or (autocast == "auto" and fast_cpu)


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
        value = getattr(cfg, name, required)
        value = getattr(value, "value", value)
        if value != required:
            raise InputError(f"model.{name}={value}: ccc_wav2vec2 needs {name}={required}; wav2vec2 takes others")
    if cfg.mask_prob <= 0 or cfg.num_negatives <= 0:
        raise InputError("model.mask_prob and model.num_negatives must be positive: the loss is over masked frames")
