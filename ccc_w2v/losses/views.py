"""What the model returns of the two views of a batch: `View`, and both of them in `TwoViewOutput`.

Letters: B utterances, M masked frames of each, T frames, F width of the feature encoder, D projected width, E width of
the Transformer, G codebook groups, V codes in each.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

ORIGINAL, AUGMENTED = "original", "augmented"
VIEWS = (ORIGINAL, AUGMENTED)
# What a view adds to names: of random generators, of a sample's keys, of logged values.
SUFFIX = {ORIGINAL: "", AUGMENTED: "_aug"}


# Named tuples, not dataclasses: torch's backward hooks and fairseq's NanDetector look for tensors in tuples and
# dictionaries, and fail at anything else. For the hooks, the first field of each must be a tensor.
class View(NamedTuple):
    """One view of the batch: what it is a target of and, where the Transformer ran over it, its context."""

    target_BMD: torch.Tensor  # quantised and projected features of the masked frames
    context_BMD: torch.Tensor | None  # None where no term needs this view's context
    codes_BMG: torch.Tensor  # the code of each group, 0 to V - 1
    code_perplexity: torch.Tensor  # (), of the codes' usage, summed over groups: G to G x V
    prob_perplexity: torch.Tensor  # (), of their mean probabilities, summed over groups: G to G x V
    usage_GV: torch.Tensor  # how often a code is the likeliest of its group, 0 to 1
    probability_GV: torch.Tensor  # its mean probability
    feature_penalty: torch.Tensor  # (), mean square of the feature encoder's output, perhaps of masked frames alone
    hidden_BME: torch.Tensor | None = None  # the Transformer's output, of which the context is the projection


class EncodedView(NamedTuple):
    """What the encoder makes of a view, before the quantizer."""

    context_BMD: torch.Tensor | None  # None where the Transformer did not run
    hidden_BME: torch.Tensor | None  # what the context is the projection of
    features_BMF: torch.Tensor  # of the masked frames, normalised, as they are before masking
    raw_BTF: torch.Tensor  # the feature encoder's output, before its layer norm; perhaps of the masked frames alone


class TwoViewOutput(NamedTuple):
    """Both views of the batch, encoded with one mask; a view that nothing needs is None."""

    mask_BT: torch.Tensor  # bool, M frames in each utterance
    original: View | None
    augmented: View | None
    gumbel_temperature: float
    codebook_size: int  # G x V

    def view(self, name: str) -> View | None:
        """Return the view "original" or "augmented"."""
        return {ORIGINAL: self.original, AUGMENTED: self.augmented}[name]

    def views(self) -> dict[str, View]:
        """Return the views that were encoded, by name, the original first."""
        return {name: view for name in VIEWS if (view := self.view(name)) is not None}


class HiddenViews(NamedTuple):
    """The Transformer's output at the masked frames of each view that it ran over; nothing is quantised."""

    mask_BT: torch.Tensor  # bool, M frames in each utterance
    original_BME: torch.Tensor | None
    augmented_BME: torch.Tensor | None

    def views(self) -> dict[str, torch.Tensor]:
        """Return the hidden vectors by view, the original first."""
        hidden = {ORIGINAL: self.original_BME, AUGMENTED: self.augmented_BME}
        return {name: hidden_BME for name, hidden_BME in hidden.items() if hidden_BME is not None}
