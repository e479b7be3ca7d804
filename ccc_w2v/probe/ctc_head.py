"""The network of the CTC probe: its settings, what it makes of frozen features, and the texts on its best paths.

The head sees a sum of the layers with learned weights, as in SUPERB (Yang et al., arXiv 2105.01051), and is a linear
layer or a bidirectional LSTM before one. Letters: B utterances, L layers, T frames, D width, V outputs, blank first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from ccc_w2v.errors import InputError
from ccc_w2v.probe.cached_states import States

HEADS = ("linear", "lstm")
BLANK = 0
BLANK_BIAS = 4.0
WORD_END = "|"


@dataclass(frozen=True)
class ProbeSettings:
    """How the head is trained; the defaults suit 10 minutes to an hour of labels."""

    # A linear layer needs far more labels: after 10 minutes it mostly says nothing (SUPERB has an LSTM too).
    head: str = "lstm"
    lstm_width: int = 128  # of each direction
    updates: int = 1500  # at most; the learning rate falls to zero over them
    dev_interval: int = 50  # updates between two looks at dev
    patience: int = 8  # looks at dev without a lower loss or letter error rate
    learning_rate: float = 3e-3
    weights_rate: float = 10.0  # learning rate of the layers' weights, in terms of the head's
    warmup_updates: int = 50
    batch_utterances: int = 8
    dropout: float = 0.1
    clip_norm: float = 5.0
    seed: int = 1


def check_settings(settings: ProbeSettings) -> None:
    """Raise InputError for an unknown head and for numbers out of their range."""
    if settings.head not in HEADS:
        raise InputError(f"unknown head '{settings.head}'; available: {', '.join(HEADS)}")
    for name in ("lstm_width", "updates", "dev_interval", "patience", "warmup_updates", "batch_utterances"):
        if getattr(settings, name) < 1:
            raise InputError(f"{name} {getattr(settings, name)}: expected a whole number of at least 1")
    if not 0 <= settings.dropout < 1 or settings.learning_rate <= 0:
        raise InputError(
            f"expected a dropout in [0, 1) and a positive learning rate, got {settings.dropout} and "
            f"{settings.learning_rate}"
        )


class CtcHead(nn.Module):
    """Weights over the layers and a projection to letters; every parameter is drawn from ``generator``."""

    def __init__(self, layers: int, width: int, outputs: int, settings: ProbeSettings, generator: torch.Generator):
        super().__init__()
        self.layer_logits = nn.Parameter(torch.zeros(layers))
        # Each direction on its own: see _both_directions.
        self.directions = nn.ModuleList()
        if settings.head == "lstm":
            for _ in range(2):
                self.directions.append(nn.LSTM(width, settings.lstm_width, batch_first=True, device="meta"))
            width = 2 * settings.lstm_width
        self.projection = nn.Linear(width, outputs, device="meta")
        # Without memory until here, since torch draws its weights from the global generator; the scheme is torch's own.
        for part in (self.directions, self.projection):
            part.to_empty(device="cpu")
        for module, fan_in in ((self.directions, settings.lstm_width), (self.projection, width)):
            for parameter in module.parameters():
                nn.init.uniform_(parameter, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in), generator=generator)
        # Letters at random match a few by chance: a head that begins by saying nothing is not taken for a good one.
        self.projection.bias.data[BLANK] += BLANK_BIAS

    @property
    def layer_weights(self) -> torch.Tensor:
        """Share of each layer (L,); they sum to 1."""
        return self.layer_logits.softmax(dim=0)

    def forward(self, states_BLTD: torch.Tensor, frames_B: torch.Tensor, kept_BTD: torch.Tensor | None) -> torch.Tensor:
        """Return log-probabilities (B, T, V); ``kept_BTD`` is the dropout's mask, already scaled, or None."""
        mixed_BTD = torch.einsum("l,bltd->btd", self.layer_weights, states_BLTD)
        if kept_BTD is not None:
            mixed_BTD = mixed_BTD * kept_BTD
        if self.directions:
            mixed_BTD = self._both_directions(mixed_BTD, frames_B)
        return self.projection(mixed_BTD).log_softmax(dim=-1)

    def _both_directions(self, states_BTD: torch.Tensor, frames_B: torch.Tensor) -> torch.Tensor:
        """Run the LSTMs over the frames of each utterance, one from its start, one from its end: (B, T, 2 x width).

        The backward one must not begin in the padding. Turning each utterance round within its length does that with
        torch's fused kernel, which packed sequences do not have on a CPU: a fifth of their time.
        """
        forward, backward = self.directions
        time_T = torch.arange(states_BTD.size(1), device=states_BTD.device)
        frames_B1 = frames_B.to(states_BTD.device).unsqueeze(1)
        turned_BT = torch.where(time_T < frames_B1, frames_B1 - 1 - time_T, time_T)
        back_BTH = backward(_at(states_BTD, turned_BT))[0]
        return torch.cat([forward(states_BTD)[0], _at(back_BTH, turned_BT)], dim=-1)


def _at(values_BTD: torch.Tensor, times_BT: torch.Tensor) -> torch.Tensor:
    """Return each utterance's frames in the order given, (B, T, D)."""
    return values_BTD.gather(1, times_BT.unsqueeze(-1).expand(-1, -1, values_BTD.size(-1)))


def spell(words: str, index_of: dict[str, int]) -> torch.Tensor:
    """Return the letters' indices of words, each with its end; raises InputError for a letter without one."""
    spelled = words.replace(" ", WORD_END) + WORD_END
    if unknown := sorted(set(spelled) - set(index_of)):
        raise InputError(f"the transcript {words!r} has {unknown[0]!r}, which is not in the dictionary")
    return torch.tensor([index_of[letter] for letter in spelled])


def batches_of(states: States, size: int) -> list[list[int]]:
    """Group positions of similar length."""
    order = sorted(range(len(states.values)), key=lambda position: states.values[position].shape[1])
    return [order[start : start + size] for start in range(0, len(order), size)]


def padded(states: States, positions: Sequence[int], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return states (B, L, T, D) in float32 and frames (B,)."""
    values = [states.values[position].transpose(0, 1) for position in positions]
    frames_B = torch.tensor([len(value) for value in values])
    return pad_sequence(values, batch_first=True).to(device).float().transpose(1, 2), frames_B


def ctc_loss(
    log_probs_BTV: torch.Tensor, frames_B: torch.Tensor, targets: Sequence[torch.Tensor], reduction: str = "mean"
) -> torch.Tensor:
    """Return the CTC loss (nats) of a batch; "mean": of an utterance by its length, "sum": of all letters."""
    return F.ctc_loss(
        log_probs_BTV.transpose(0, 1),
        torch.cat(list(targets)).to(log_probs_BTV.device),
        frames_B,
        torch.tensor([len(target) for target in targets]),
        blank=BLANK,
        reduction=reduction,
        zero_infinity=True,
    )


@torch.no_grad()
def head_outputs(head: CtcHead, states: States, size: int) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
    """Yield positions, log-probabilities (B, T, V) and frames (B,) of each batch."""
    for positions in batches_of(states, size):
        states_BLTD, frames_B = padded(states, positions, head.layer_logits.device)
        yield positions, head(states_BLTD, frames_B, None), frames_B


def best_texts(
    positions: Sequence[int], log_probs_BTV: torch.Tensor, frames_B: torch.Tensor, letters: Sequence[str]
) -> dict[int, str]:
    """Return the words of each position's best path."""
    texts = {}
    for position, best_T, frames in zip(positions, log_probs_BTV.argmax(dim=-1).cpu(), frames_B, strict=True):
        path = best_T[:frames].unique_consecutive().tolist()
        spelled = "".join(letters[index - 1] for index in path if index != BLANK)
        texts[position] = " ".join(spelled.replace(WORD_END, " ").split())
    return texts
