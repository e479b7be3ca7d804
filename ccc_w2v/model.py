"""`ccc_wav2vec2`: fairseq's wav2vec 2.0 with an optional second view. It adds no parameter.

`model(source)` is fairseq's model, bit for bit. `model(source, source_aug=...)` runs both views in one batched pass and
returns what the criterion contrasts (losses/views.py).

Letters: B utterances, S samples, T frames, M masked frames of each utterance, F width of the feature encoder, E of the
Transformer, D projected width, G codebook groups, V codes in each, d width of a code's vector.
"""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from fairseq.data import data_utils
from fairseq.models import register_model
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Model
from fairseq.modules import GradMultiply
from torch.profiler import record_function

from ccc_w2v.bf16_layers import under_bf16
from ccc_w2v.data.masking import frame_padding, masked_frames, masked_places, span_mask, valid_samples
from ccc_w2v.data.randomness import generator_for
from ccc_w2v.feature_encoder import masked_features, recompute_activations
from ccc_w2v.forward_hooks import captured_input, given_padding
from ccc_w2v.losses.quantization import Quantized, gumbel_noise, gumbel_quantize
from ccc_w2v.losses.views import AUGMENTED, ORIGINAL, SUFFIX, VIEWS, EncodedView, HiddenViews, TwoViewOutput, View
from ccc_w2v.settings.model import CccWav2Vec2Config
from ccc_w2v.training.precision import uses_bf16


class GivenMask(NamedTuple):
    """A mask that fairseq's forward hands to apply_mask unread: it would index with it, for which a GPU has to wait."""

    mask_BT: torch.Tensor


@register_model("ccc_wav2vec2", dataclass=CccWav2Vec2Config)
class CccWav2Vec2Model(Wav2Vec2Model):
    """wav2vec 2.0 that can look at an utterance and its augmentation together (arXiv 2210.02592)."""

    num_updates = 0

    def __init__(self, cfg: CccWav2Vec2Config):
        super().__init__(cfg)
        under_bf16(self)
        if cfg.compile_layers:
            for layer in self.encoder.layers:
                # In place, so that the state dict keeps its names; dynamic, since every batch has its own length.
                layer.compile(dynamic=True)
        if cfg.checkpoint_features:
            recompute_activations(self.feature_extractor)

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
        penalties: Collection[str] = VIEWS,
        lengths: Sequence[int] | None = None,
        hidden_only: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any] | TwoViewOutput | HiddenViews:
        """Run wav2vec 2.0 on ``source`` (B, S), or on it and ``source_aug`` (B, S) with one mask and one padding.

        ``seed`` starts the generators of this batch's mask, Gumbel noise and layer drop; ``mask_indices`` (B, T),
        ``gumbel`` and ``gumbel_aug`` (B, M, G, V) replace the draws. ``lengths`` are the samples of each utterance
        before padding; without them the padding is counted, for which a GPU has to be waited for. One view returns
        fairseq's dictionary.

        Only the Transformer's passes that ``contexts`` names are made, and only the views that ``contexts`` or
        ``targets`` name are encoded, "original" or "augmented"; the rest of the output is None. A view that is a target
        alone is encoded at its masked frames alone, unless ``penalties`` wants its feature penalty over all frames.
        ``hidden_only`` returns the Transformer's output of the contexts at the masked frames, and quantises nothing.
        """
        if source_aug is None:
            return super().forward(source, padding_mask, *args, **kwargs)
        if args or kwargs.keys() - {"mask_indices"}:
            raise TypeError(f"two views take no further arguments, got {args or sorted(kwargs)}")
        mask_BT = kwargs.get("mask_indices")
        if mask_BT is None:
            mask_BT = self.draw_mask(source, padding_mask, seed, lengths)
        waves = {ORIGINAL: source, AUGMENTED: source_aug}
        noises = {ORIGINAL: gumbel, AUGMENTED: gumbel_aug}
        padding_BT = self._frame_padding(source, padding_mask, lengths)
        quantized = () if hidden_only else targets
        encoded = self._encode_views(waves, padding_BT, mask_BT, seed, contexts, quantized, penalties)
        if hidden_only:
            hidden = {view: encoded[view].hidden_BME for view in encoded}
            return HiddenViews(mask_BT.to(source.device), hidden.get(ORIGINAL), hidden.get(AUGMENTED))
        views = {view: self._quantized_view(view, encoded[view], noises[view], seed, source.dtype) for view in encoded}
        return TwoViewOutput(
            mask_BT=mask_BT.to(source.device),
            original=views.get(ORIGINAL),
            augmented=views.get(AUGMENTED),
            gumbel_temperature=self.quantizer.curr_temp,
            codebook_size=self.quantizer.num_vars * self.quantizer.groups,
        )

    def _quantized_view(
        self, view: str, encoded: EncodedView, noise_BMGV: torch.Tensor | None, seed: int, dtype: torch.dtype
    ) -> View:
        """Quantise a view's features and collect what the criterion needs of it."""
        features_BMF = encoded.features_BMF
        with record_function("ccc.quantizer"):
            generator = generator_for(seed, "gumbel" + SUFFIX[view], device=features_BMF.device)
            # In the weights' precision, also where the encoder's products were rounded to bfloat16.
            quantized = self.quantize(features_BMF.to(dtype), noise_BMGV, generator)
            target_BMD = self.project_q(quantized.vectors_BMD)
        return View(
            target_BMD=target_BMD,
            context_BMD=encoded.context_BMD,
            codes_BMG=quantized.codes_BMG,
            code_perplexity=quantized.code_perplexity,
            prob_perplexity=quantized.prob_perplexity,
            usage_GV=quantized.usage_GV,
            probability_GV=quantized.probability_GV,
            feature_penalty=encoded.raw_BTF.float().pow(2).mean(),
            hidden_BME=encoded.hidden_BME,
        )

    def _encode_views(
        self,
        waves: dict[str, torch.Tensor],
        padding_BT: torch.Tensor | None,
        mask_BT: torch.Tensor,
        seed: int,
        contexts: Collection[str],
        targets: Collection[str],
        penalties: Collection[str],
    ) -> dict[str, EncodedView]:
        """Encode the views that are asked for, those with a context in one pass."""
        encoded: dict[str, EncodedView] = {}
        in_full = [view for view in VIEWS if view in contexts]
        with self.autocast_region(waves[ORIGINAL]):
            if in_full:
                together = self._encode_together([waves[view] for view in in_full], padding_BT, mask_BT, seed)
                # Each part is (len(in_full) x B, ...), view by view.
                parts = zip(*(part.chunk(len(in_full)) for part in together if part is not None), strict=True)
                encoded = {view: EncodedView(*of_view) for view, of_view in zip(in_full, parts, strict=True)}
            for view in VIEWS:
                if view in targets and view not in encoded:
                    encoded[view] = self.encode_targets(waves[view], mask_BT, whole=view in penalties)
        return {view: encoded[view] for view in VIEWS if view in encoded}

    def _encode_together(
        self,
        waves: list[torch.Tensor],
        padding_BT: torch.Tensor | None,
        mask_BT: torch.Tensor,
        seed: int,
    ) -> EncodedView:
        """Encode views (B, S) of the same padding and mask in one pass, one after the other; see encode."""
        count = len(waves)
        # All (B, ...) become (2B, ...) for two views: the first B rows are the first view's.
        padding = None if padding_BT is None else torch.cat([padding_BT] * count)
        channels_BTE = self._draw_channel_mask(mask_BT, seed)
        if channels_BTE is not None:
            channels_BTE = torch.cat([channels_BTE] * count).to(waves[0].device)
        return self.encode(torch.cat(waves), padding, torch.cat([mask_BT] * count), channels_BTE, seed)

    def autocast_region(self, source: torch.Tensor) -> AbstractContextManager[Any]:
        """Return the region in which matrices are multiplied in bfloat16, where the configuration wants it."""
        wanted = uses_bf16(str(self.cfg.autocast), source.device) and source.dtype == torch.float32
        return torch.autocast(source.device.type, torch.bfloat16) if wanted else nullcontext()

    def encode_targets(self, source: torch.Tensor, mask_BT: torch.Tensor, *, whole: bool) -> EncodedView:
        """Return what a view (B, S) is a target for, without the Transformer: of masked frames, or of the ``whole``.

        These are the steps of fairseq's forward up to the features that it hands to the quantizer.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.feature_grad_mult > 0):
            if whole:
                raw = self.feature_extractor(source).transpose(1, 2)
            else:
                recompute = self.cfg.checkpoint_features
                raw = masked_features(self.feature_extractor, source, mask_BT.cpu(), recompute=recompute)
        # fairseq scales the gradient that reaches the feature encoder.
        if self.feature_grad_mult not in (0.0, 1.0):
            raw = GradMultiply.apply(raw, self.feature_grad_mult)
        features = self.dropout_features(self.layer_norm(raw))
        if whole:
            features = masked_frames(features, masked_places(mask_BT, source.device))
        return EncodedView(None, None, features, raw)

    def encode(
        self,
        source: torch.Tensor,
        padding_BT: torch.Tensor | None,
        mask_indices: torch.Tensor,
        mask_channel_indices: torch.Tensor | None,
        seed: int,
    ) -> EncodedView:
        """Run fairseq's forward once over waves (B, S) with the masks given; layer drop follows ``seed``.

        ``padding_BT`` marks the frames behind each utterance's end; see _frame_padding.
        """
        places = masked_places(mask_indices, source.device)
        # Layer drop draws from numpy's global generator: seed it for this pass and leave it as it was.
        with (
            data_utils.numpy_seed(seed % 2**32),
            captured_input(self.layer_norm) as encoder_output,
            given_padding(self.encoder, padding_BT),
        ):
            output = super().forward(
                source,
                None,
                features_only=True,
                mask_indices=GivenMask(mask_indices.to(source.device)),
                mask_channel_indices=mask_channel_indices,
            )
        # (B, T, E) -> the masked frames (B x M, E); unflattened to (B, M, ...) behind the projection.
        hidden, shape = output["x"][places], (source.size(0), -1)
        return EncodedView(
            context_BMD=self.final_proj(hidden).unflatten(0, shape),
            hidden_BME=hidden.unflatten(0, shape),
            features_BMF=masked_frames(output["features"], places),
            raw_BTF=encoder_output[0],
        )

    def apply_mask(
        self,
        x: torch.Tensor,
        padding_mask: torch.Tensor | None,
        mask_indices: torch.Tensor | GivenMask | None = None,
        mask_channel_indices: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Mask features (B, T, E) as fairseq does; masks that are given are applied by selection.

        fairseq indexes with the mask, for which it has to wait for a GPU, and which autocast's two dtypes break. Of a
        GivenMask it gets none back, so that it does not index later either.
        """
        if isinstance(mask_indices, GivenMask):
            return self.apply_mask(x, padding_mask, mask_indices.mask_BT, mask_channel_indices)[0], None
        if mask_indices is None or (self.mask_channel_prob > 0 and mask_channel_indices is None):
            return super().apply_mask(x, padding_mask, mask_indices, mask_channel_indices)
        x = torch.where(mask_indices.unsqueeze(-1), self.mask_emb.to(x.dtype), x)
        if mask_channel_indices is not None:
            x = x.masked_fill(mask_channel_indices, 0)
        return x, mask_indices

    def quantize(
        self, features_BMF: torch.Tensor, noise_BMGV: torch.Tensor | None, generator: torch.Generator
    ) -> Quantized:
        """Quantise features (B, M, F); in training with the Gumbel noise (B, M, G, V) given, else drawn."""
        quantizer = self.quantizer
        groups, codes = quantizer.groups, quantizer.num_vars
        logits_BMGV = quantizer.weight_proj(features_BMF).unflatten(-1, (groups, codes))
        # fairseq keeps (1, G x V, d).
        codebook_GVd = quantizer.vars.view(groups, codes, -1)
        if self.training and noise_BMGV is None:
            noise_BMGV = gumbel_noise(tuple(logits_BMGV.shape), generator)
        return gumbel_quantize(logits_BMGV, codebook_GVd, quantizer.curr_temp, noise_BMGV)

    def draw_mask(
        self,
        source: torch.Tensor,
        padding_mask: torch.Tensor | None,
        seed: int,
        lengths: Sequence[int] | None = None,
    ) -> torch.Tensor:
        """Draw the time mask of a batch of waves (B, S): bool (B, T) on the CPU, as many frames in each utterance."""
        sizes = valid_samples(source, padding_mask, lengths)
        frames = self._get_feat_extract_output_lengths(torch.tensor([source.size(1), *sizes])).tolist()
        return span_mask(
            frames[1:],
            frames[0],
            self.mask_prob,
            self.mask_length,
            generator_for(seed, "mask"),
            min_spans=2,
        )

    def _frame_padding(
        self, source: torch.Tensor, padding_mask: torch.Tensor | None, lengths: Sequence[int] | None
    ) -> torch.Tensor | None:
        """Return which frames lie behind their utterance's end, bool (B, T) on the waves' device; None if none does."""
        counted = self.frame_lengths(source, padding_mask, lengths)
        return None if counted is None else frame_padding(counted[0], counted[1:]).to(source.device)

    def frame_lengths(
        self, source: torch.Tensor, padding_mask: torch.Tensor | None, lengths: Sequence[int] | None
    ) -> list[int] | None:
        """Return the frames of a batch (B, S), then those of each utterance without padding; None if none is padded."""
        sizes = valid_samples(source, padding_mask, lengths)
        if min(sizes) == source.size(1):
            return None
        return self._get_feat_extract_output_lengths(torch.tensor([source.size(1), *sizes])).tolist()

    def _draw_channel_mask(self, mask_BT: torch.Tensor, seed: int) -> torch.Tensor | None:
        if self.mask_channel_prob <= 0:
            return None
        utterances, frames = mask_BT.shape
        channels = self.cfg.encoder_embed_dim
        mask_BE = span_mask(
            [channels] * utterances,
            channels,
            self.mask_channel_prob,
            self.mask_channel_length,
            generator_for(seed, "channel_mask"),
        )
        # A channel is masked in all frames of its utterance: (B, E) -> (B, T, E).
        return mask_BE.unsqueeze(1).expand(-1, frames, -1)
