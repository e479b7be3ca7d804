"""Negatives drawn by how similar a candidate is to the frame: fixed weights of bins, or weights that a policy chooses.

Letters: B utterances, M masked frames of each, N negatives per frame, D projected width, S bins of similarity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from ccc_w2v.data.randomness import generator_for
from ccc_w2v.errors import InputError
from ccc_w2v.losses.kmeans import FIXED_POINT, running_sum

NEGATIVES = ("uniform", "distance", "learned")
BASELINE_SHARE = 0.05  # of a new reward in the average of the earlier ones
TEMPERATURE = 1.0


@torch.no_grad()
def similarity_bins(target_BMD: torch.Tensor, bins: int) -> torch.Tensor:
    """Return the bin of the cosine of each pair of an utterance's targets, (B, M, M): 0 (at -1) to S - 1 (at 1)."""
    unit_BMD = F.normalize(target_BMD.float(), dim=-1)
    cosine_BMM = torch.bmm(unit_BMD, unit_BMD.transpose(1, 2))
    return ((cosine_BMM + 1) / 2 * bins).long().clamp(0, bins - 1)


@torch.no_grad()
def draw_by_bins(
    bins_BMM: torch.Tensor, weights: Sequence[float], count: int, generator: torch.Generator
) -> torch.Tensor:
    """Draw for each masked frame N others of its utterance, in proportion to the weights of their bins: (B, M, N).

    Equal weights draw uniformly. A frame all of whose candidates have weight 0 draws uniformly too; a single masked
    frame draws itself, as sample_negatives does. The generator lives on the bins' device.
    """
    frames = bins_BMM.size(1)
    if frames == 1:
        return torch.zeros(len(bins_BMM), 1, count, dtype=torch.long, device=bins_BMM.device)
    weight_BMM = torch.tensor(list(weights)).to(bins_BMM.device)[bins_BMM]
    itself_MM = torch.eye(frames, dtype=torch.bool, device=bins_BMM.device)
    weight_BMM = weight_BMM.masked_fill(itself_MM, 0)
    weight_BMM = torch.where(weight_BMM.sum(dim=-1, keepdim=True) > 0, weight_BMM, (~itself_MM).float())
    weight_RM = weight_BMM.flatten(0, 1)
    if weight_RM.is_cuda:
        # There multinomial adds up the weights in no fixed order, and refuses to with deterministic algorithms.
        drawn_RN = draw_by_running_sum(weight_RM, count, generator)
    else:
        drawn_RN = torch.multinomial(weight_RM, count, replacement=True, generator=generator)
    return drawn_RN.unflatten(0, bins_BMM.shape[:2])


def draw_by_running_sum(weight_RM: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Draw N columns of each row in proportion to its weights (R, M), never one of weight 0: (R, N), on any device."""
    uniform_RN = torch.rand(len(weight_RM), count, generator=generator, device=weight_RM.device)
    summed_RM = running_sum(weight_RM / weight_RM.amax(dim=-1, keepdim=True) * FIXED_POINT).double()  # on a CPU float32
    # The first column whose sum exceeds u x total, u < 1: where nothing was added, the sum is that of the one before.
    return torch.searchsorted(summed_RM, uniform_RN * summed_RM[:, -1:], right=True)


def reinforce(
    preferences: torch.Tensor,
    actions: torch.Tensor,
    rewards: torch.Tensor,
    baseline: float,
    temperature: float = TEMPERATURE,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return REINFORCE's loss of some actions and its gradient for the preferences (S), of which p is the softmax.

    loss = -mean((r - b) log p(a)), gradient = -mean((r - b) (onehot(a) - p)) / temperature. Source: Williams, "Simple
    statistical gradient-following algorithms", Machine Learning 8, 1992.
    """
    log_p = F.log_softmax(preferences / temperature, dim=-1)
    advantage = rewards - baseline
    chosen = F.one_hot(actions, len(preferences)).to(preferences)
    loss = -(advantage * log_p[actions]).mean()
    return loss, -(advantage.unsqueeze(-1) * (chosen - log_p.exp())).mean(dim=0) / temperature


def next_baseline(baseline: float | None, reward: float, share: float = BASELINE_SHARE) -> float:
    """Return the average of rewards after another one; the first reward begins it."""
    return reward if baseline is None else (1 - share) * baseline + share * reward


def empty_policy(bins: int) -> dict[str, Any]:
    """Return the state of a policy that has seen no validation; plain numbers only."""
    return {
        "preferences": [0.0] * bins,
        "baseline": None,
        "accuracy": None,  # of the latest validation
        "action": None,  # the bin that is drawn more often since then
        "choices": 0,
        "correct": 0.0,  # of a validation whose reward is yet to be taken
        "frames": 0.0,
    }


@dataclass(frozen=True)
class NegativePolicy:
    """Chooses the bin whose candidates are drawn ``boost`` times as often until the next validation.

    The reward of a choice is the sign of the change of the validation's accuracy, as in PADS (arXiv 2003.11113).
    ``state`` (see empty_policy) is changed in place, alike on every process.
    """

    state: dict[str, Any]
    boost: float
    lr: float
    seed: int

    def weights(self) -> list[float]:
        """Return the present weights of the bins; all alike before the second validation has begun to compare."""
        weights, action = [1.0] * len(self.state["preferences"]), self.state["action"]
        if action is not None:
            weights[action] = self.boost
        return weights

    def observe(self, correct: float, frames: float) -> None:
        """Add a validation's frames, and how many of them were right."""
        self.state["correct"] += correct
        self.state["frames"] += frames

    def observe_logs(self, logs: Sequence[dict[str, Any]]) -> None:
        """Add the batches of a validation from what the criterion logged of each: frames, and how many were right."""
        names = [name.removeprefix("correct_") for log in logs[:1] for name in log if name.startswith("correct_")]
        correct, frames = (
            float(sum(log[f"{key}_{name}"] for log in logs for name in names)) for key in ("correct", "frames")
        )
        self.observe(correct, frames)

    def settle(self) -> None:
        """Reward the latest choice with what a validation has seen since, if one has, and choose anew."""
        state = self.state
        if not state["frames"]:
            return
        accuracy, before = state["correct"] / state["frames"], state["accuracy"]
        preferences = torch.tensor(state["preferences"], dtype=torch.float64)
        if before is not None and state["action"] is not None:
            reward = float((accuracy > before) - (accuracy < before))
            taken = torch.tensor([reward], dtype=torch.float64)
            _, gradient = reinforce(preferences, torch.tensor([state["action"]]), taken, state["baseline"] or 0.0)
            preferences = preferences - self.lr * gradient
            state["baseline"] = next_baseline(state["baseline"], reward)
        generator = generator_for(self.seed, "negative_policy", state["choices"])
        probability = torch.softmax(preferences / TEMPERATURE, dim=-1)
        state.update(
            preferences=preferences.tolist(),
            accuracy=accuracy,
            action=int(torch.multinomial(probability, 1, generator=generator)),
            choices=state["choices"] + 1,
            correct=0.0,
            frames=0.0,
        )


def check_sampling(mode: str, weights: Sequence[float], boost: float, lr: float) -> None:
    """Raise InputError for settings of the negatives' sampling that are out of range."""
    if mode != "uniform" and (len(weights) < 2 or min(weights) < 0 or not max(weights) > 0):
        raise InputError(
            f"criterion.negative_weights={list(weights)}: expected a weight of at least 0 for each of two or more "
            "bins, not all 0"
        )
    for name, value in (("negative_boost", boost), ("negative_policy_lr", lr)):
        if not value > 0:
            raise InputError(f"criterion.{name}={value}: must be greater than 0")
