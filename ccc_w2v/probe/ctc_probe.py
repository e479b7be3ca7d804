"""A small CTC head on frozen features: how much of the words a network's layers hold, in minutes on one core.

The head sees a sum of the layers with learned weights, as in SUPERB (Yang et al., arXiv 2105.01051), and is a linear
layer or a bidirectional LSTM before one. Letters: B utterances, L layers, T frames, D width, V outputs, blank first.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from ccc_w2v.data.randomness import generator_for
from ccc_w2v.errors import InputError
from ccc_w2v.probe.cached_states import States
from ccc_w2v.score.options import ScoringOptions
from ccc_w2v.score.scorecard import Scorecard, measure_texts
from ccc_w2v.score.speakers import SCHEMES
from ccc_w2v.score.wer import score

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


@dataclass(frozen=True)
class Labelled:
    """States of a list's utterances and their words."""

    states: States
    words: tuple[str, ...]

    @property
    def references(self) -> dict[str, str]:
        """Words by utterance."""
        return dict(zip(self.states.utterances, self.words, strict=True))


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


@dataclass(frozen=True)
class Look:
    """The CTC loss of a letter [nats] and the letter error rate on dev at one moment of the training."""

    loss: float
    cer: float


@dataclass(frozen=True)
class Probe:
    """A trained head, its letters (without the blank), the update that it is of, and every look at dev."""

    head: CtcHead
    letters: tuple[str, ...]
    settings: ProbeSettings
    best_update: int
    looks: tuple[Look, ...]


def train_probe(
    train: Labelled, dev: Labelled, letters: Sequence[str], settings: ProbeSettings, device: str = "cpu"
) -> Probe:
    """Train a head on ``train``, keep it as it was when ``dev``'s letter error rate was lowest.

    The result depends on states, words and ``settings`` alone. Raises InputError for unknown settings and letters.
    """
    _check(settings)
    index_of = {letter: index for index, letter in enumerate(letters, start=1)}
    targets, dev_targets = ([_targets(words, index_of) for words in part.words] for part in (train, dev))
    layers, _, width = train.states.values[0].shape
    head = CtcHead(layers, width, len(letters) + 1, settings, generator_for(settings.seed, "probe head")).to(device)
    rates = {"layers": settings.learning_rate * settings.weights_rate, "rest": settings.learning_rate}
    rest = [parameter for name, parameter in head.named_parameters() if name != "layer_logits"]
    groups = [{"params": [head.layer_logits], "lr": rates["layers"]}, {"params": rest, "lr": rates["rest"]}]
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda done: min(1.0, (done + 1) / settings.warmup_updates) * (1 - done / settings.updates)
    )
    looks: list[Look] = []
    best, best_update = copy.deepcopy(head.state_dict()), 0
    with tqdm(total=settings.updates, desc="probe", unit="update", leave=False) as bar:
        for update, positions in enumerate(_order(train.states, settings), start=1):
            generator = generator_for(settings.seed, "probe dropout", update)
            _update(head, optimizer, train.states, targets, positions, settings, generator)
            schedule.step()
            bar.update()
            if update % settings.dev_interval and update < settings.updates:
                continue
            looks.append(_look(head, dev, dev_targets, letters, settings))
            bar.set_postfix(dev_cer=f"{looks[-1].cer:.2%}")
            if looks[-1].cer < min((look.cer for look in looks[:-1]), default=math.inf):
                best, best_update = copy.deepcopy(head.state_dict()), update
            if _stale(looks, settings.patience):
                break
    head.load_state_dict(best)
    return Probe(head.eval(), tuple(letters), settings, best_update, tuple(looks))


def transcripts(probe: Probe, states: States) -> dict[str, str]:
    """Return each utterance's words on the best path: repeats collapsed, blanks dropped."""
    texts: dict[int, str] = {}
    for batch in _outputs(probe.head, states, probe.settings.batch_utterances):
        texts |= _texts(*batch, probe.letters)
    return {name: texts[position] for position, name in enumerate(states.utterances)}


def measure_probe(probe: Probe, test: Labelled) -> Scorecard:
    """Score a probe's transcripts, with intervals over speakers where the ids name them."""
    ids = test.states.utterances
    speakers = "librispeech" if all(SCHEMES["librispeech"].pattern.fullmatch(name) for name in ids) else None
    return measure_texts(test.references, transcripts(probe, test.states), ScoringOptions(speakers=speakers))


def describe(probe: Probe) -> dict[str, Any]:
    """Return what is reported of a probe beside error rates; layer 0 is what enters the first one."""
    return {
        "layer_weights": [round(weight, 4) for weight in probe.head.layer_weights.tolist()],
        "best_update": probe.best_update,
        "dev_cer": [round(look.cer, 4) for look in probe.looks],
        "dev_loss": [round(look.loss, 4) for look in probe.looks],
        "settings": asdict(probe.settings),
    }


def _check(settings: ProbeSettings) -> None:
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


def _targets(words: str, index_of: dict[str, int]) -> torch.Tensor:
    spelled = words.replace(" ", WORD_END) + WORD_END
    if unknown := sorted(set(spelled) - set(index_of)):
        raise InputError(f"the transcript {words!r} has {unknown[0]!r}, which is not in the dictionary")
    return torch.tensor([index_of[letter] for letter in spelled])


def _batches(states: States, size: int) -> list[list[int]]:
    """Group positions of similar length."""
    order = sorted(range(len(states.values)), key=lambda position: states.values[position].shape[1])
    return [order[start : start + size] for start in range(0, len(order), size)]


def _padded(states: States, positions: Sequence[int], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return states (B, L, T, D) in float32 and frames (B,)."""
    values = [states.values[position].transpose(0, 1) for position in positions]
    frames_B = torch.tensor([len(value) for value in values])
    return pad_sequence(values, batch_first=True).to(device).float().transpose(1, 2), frames_B


def _update(
    head: CtcHead,
    optimizer: torch.optim.Optimizer,
    states: States,
    targets: Sequence[torch.Tensor],
    positions: Sequence[int],
    settings: ProbeSettings,
    generator: torch.Generator,
) -> None:
    device = head.layer_logits.device
    states_BLTD, frames_B = _padded(states, positions, device)
    shape = (len(positions), states_BLTD.shape[2], states_BLTD.shape[3])
    kept_BTD = (torch.rand(shape, generator=generator) >= settings.dropout) / (1 - settings.dropout)
    log_probs_BTV = head(states_BLTD, frames_B, kept_BTD.to(device) if settings.dropout else None)
    loss = _ctc_loss(log_probs_BTV, frames_B, [targets[position] for position in positions])
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(head.parameters(), settings.clip_norm)
    optimizer.step()


def _ctc_loss(
    log_probs_BTV: torch.Tensor, frames_B: torch.Tensor, targets: Sequence[torch.Tensor], reduction: str = "mean"
) -> torch.Tensor:
    return F.ctc_loss(
        log_probs_BTV.transpose(0, 1),
        torch.cat(list(targets)).to(log_probs_BTV.device),
        frames_B,
        torch.tensor([len(target) for target in targets]),
        blank=BLANK,
        reduction=reduction,
        zero_infinity=True,
    )


def _order(states: States, settings: ProbeSettings) -> Iterator[list[int]]:
    """Yield the batch of each update: all batches in a new order, epoch after epoch."""
    batches = _batches(states, settings.batch_utterances)
    for update in range(settings.updates):
        epoch, place = divmod(update, len(batches))
        if place == 0:
            order = torch.randperm(len(batches), generator=generator_for(settings.seed, "probe order", epoch)).tolist()
        yield batches[order[place]]


def _stale(looks: Sequence[Look], patience: int) -> bool:
    """Whether neither measure has become better within ``patience`` looks.

    At its beginning a CTC network learns to say nothing, and its error rate stands still or rises while its loss falls.
    """
    earlier, recent = looks[:-patience], looks[-patience:]
    if not earlier:
        return False
    return all(
        min(getattr(look, name) for look in recent) >= min(getattr(look, name) for look in earlier)
        for name in ("loss", "cer")
    )


@torch.no_grad()
def _look(
    head: CtcHead, dev: Labelled, targets: Sequence[torch.Tensor], letters: Sequence[str], settings: ProbeSettings
) -> Look:
    loss = 0.0
    texts: dict[int, str] = {}
    for positions, log_probs_BTV, frames_B in _outputs(head, dev.states, settings.batch_utterances):
        loss += float(_ctc_loss(log_probs_BTV, frames_B, [targets[position] for position in positions], "sum"))
        texts |= _texts(positions, log_probs_BTV, frames_B, letters)
    by_name = {name: texts[position] for position, name in enumerate(dev.states.utterances)}
    return Look(loss / sum(map(len, targets)), score(dev.references, by_name, "char").error_rate)


@torch.no_grad()
def _outputs(head: CtcHead, states: States, size: int) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
    """Yield positions, log-probabilities (B, T, V) and frames (B,) of each batch."""
    for positions in _batches(states, size):
        states_BLTD, frames_B = _padded(states, positions, head.layer_logits.device)
        yield positions, head(states_BLTD, frames_B, None), frames_B


def _texts(
    positions: Sequence[int], log_probs_BTV: torch.Tensor, frames_B: torch.Tensor, letters: Sequence[str]
) -> dict[int, str]:
    """Return the words of each position's best path."""
    texts = {}
    for position, best_T, frames in zip(positions, log_probs_BTV.argmax(dim=-1).cpu(), frames_B, strict=True):
        path = best_T[:frames].unique_consecutive().tolist()
        spelled = "".join(letters[index - 1] for index in path if index != BLANK)
        texts[position] = " ".join(spelled.replace(WORD_END, " ").split())
    return texts
