"""A small CTC head on frozen features, trained and measured: what a network's layers hold of the words, in minutes.

Letters: B utterances, L layers, T frames, D width, V outputs, blank first.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from ccc_w2v.data.randomness import generator_for
from ccc_w2v.probe.cached_states import States
from ccc_w2v.probe.ctc_head import (
    CtcHead,
    ProbeSettings,
    batches_of,
    best_texts,
    check_settings,
    ctc_loss,
    head_outputs,
    padded,
    spell,
)
from ccc_w2v.score.options import ScoringOptions
from ccc_w2v.score.scorecard import Scorecard, measure_texts
from ccc_w2v.score.speakers import SCHEMES
from ccc_w2v.score.wer import score


@dataclass(frozen=True)
class Labelled:
    """States of a list's utterances and their words."""

    states: States
    words: tuple[str, ...]

    @property
    def references(self) -> dict[str, str]:
        """Words by utterance."""
        return dict(zip(self.states.utterances, self.words, strict=True))


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
    check_settings(settings)
    index_of = {letter: index for index, letter in enumerate(letters, start=1)}
    targets, dev_targets = ([spell(words, index_of) for words in part.words] for part in (train, dev))
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
    for batch in head_outputs(probe.head, states, probe.settings.batch_utterances):
        texts |= best_texts(*batch, probe.letters)
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
    states_BLTD, frames_B = padded(states, positions, device)
    shape = (len(positions), states_BLTD.shape[2], states_BLTD.shape[3])
    kept_BTD = (torch.rand(shape, generator=generator) >= settings.dropout) / (1 - settings.dropout)
    log_probs_BTV = head(states_BLTD, frames_B, kept_BTD.to(device) if settings.dropout else None)
    loss = ctc_loss(log_probs_BTV, frames_B, [targets[position] for position in positions])
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(head.parameters(), settings.clip_norm)
    optimizer.step()


def _order(states: States, settings: ProbeSettings) -> Iterator[list[int]]:
    """Yield the batch of each update: all batches in a new order, epoch after epoch."""
    batches = batches_of(states, settings.batch_utterances)
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
    for positions, log_probs_BTV, frames_B in head_outputs(head, dev.states, settings.batch_utterances):
        loss += float(ctc_loss(log_probs_BTV, frames_B, [targets[position] for position in positions], "sum"))
        texts |= best_texts(positions, log_probs_BTV, frames_B, letters)
    by_name = {name: texts[position] for position, name in enumerate(dev.states.utterances)}
    return Look(loss / sum(map(len, targets)), score(dev.references, by_name, "char").error_rate)
