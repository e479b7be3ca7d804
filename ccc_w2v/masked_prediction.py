"""Masked prediction of online clusters: what criterion `capi`, and `ccc` with a weight delta, compute beside the model.

A teacher, the exponential moving average of the model, sees the unmasked original; an online clustering turns its
frames into soft clusters; the student predicts them at the masked frames of a view. Source: CAPI (arXiv 2502.08769);
see docs/family.md. Letters: B utterances, T frames, M masked frames of each, E width of the Transformer, K prototypes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from fairseq.criterions import FairseqCriterion

from ccc_w2v.data.masking import frames_of_mask
from ccc_w2v.data.randomness import generator_for
from ccc_w2v.losses.cluster_head import Balance, ClusterHead, PredictionHead, soft_cross_entropy
from ccc_w2v.losses.schedule import warmup_then_cosine
from ccc_w2v.losses.signals import Signals, joined, mean_signal
from ccc_w2v.settings.masked_prediction import MaskedPredictionConfig, check_prediction
from ccc_w2v.training.signal_log import SIGNAL


class Predicted(NamedTuple):
    """What the student predicted of the computed views."""

    loss: torch.Tensor  # (), nats, summed over masked frames, the mean over views
    signals: dict[str, torch.Tensor]  # sums and counts, as they are logged


class HeadedCriterion(FairseqCriterion):
    """A criterion that may have a student's head, whose weights fairseq keeps in checkpoints beside the model's."""

    def load_state_dict(self, state_dict: Any, *args: Any, **kwargs: Any) -> Any:
        """Load the head. A checkpoint whose training had none (None) leaves it as it was drawn."""
        return super().load_state_dict(self.state_dict() if state_dict is None else state_dict, *args, **kwargs)


class MaskedPrediction(torch.nn.Module):
    """The student's head, which the training's optimiser trains, and the online clustering, which trains itself."""

    def __init__(self, cfg: MaskedPredictionConfig, task: Any):
        super().__init__()
        check_prediction(cfg, task)
        self.cfg, self._updates = cfg, task.cfg.max_update
        how = Balance(cfg.sinkhorn_iterations, cfg.target_temperature, cfg.clustering_temperature)
        generator = generator_for(task.cfg.seed, "prediction")
        width = task.encoder_width
        self.student = PredictionHead(width, cfg.prototypes, generator)
        self.clustering = ClusterHead(width, cfg.prototypes, how, generator)

    def forward(
        self, hidden: Mapping[str, torch.Tensor], mask_BT: torch.Tensor, sample: Mapping[str, Any], *, learn: bool
    ) -> Predicted:
        """Predict at the masked frames of views, each with hidden vectors (B, M, E).

        The sample's ``teacher`` (B, T, E) are the teacher's frames, of which the first ``teacher_lengths`` of each
        utterance are no padding (None: all). With ``learn`` the online clustering keeps its gradient for step(). A
        batch that is ``ignored`` has no points.
        """
        targets_BTK, measured = self._targets(sample, learn=learn)
        places_BM = frames_of_mask(mask_BT, next(iter(hidden.values())).size(1))
        targets_BMK = targets_BTK.take_along_dim(places_BM.unsqueeze(-1), dim=1)
        losses, right, counted = [], [], not sample.get("ignored", False)
        for hidden_BME in hidden.values():
            scores_BMK = self.student(hidden_BME)
            losses.append(soft_cross_entropy(scores_BMK / self.cfg.student_temperature, targets_BMK))
            right.append(scores_BMK.detach().argmax(dim=-1) == targets_BMK.argmax(dim=-1))
        measured["loss_prediction"] = mean_signal(torch.stack(losses) / math.log(2))
        measured["accuracy_prediction"] = mean_signal(torch.stack(right))
        signals = joined(measured)
        if not counted:
            # Of the same names: fairseq adds the values of all processes one by one.
            signals = {name: torch.zeros_like(value) for name, value in signals.items()}
        loss = torch.stack([loss_BM.sum() for loss_BM in losses]).mean()
        return Predicted(loss, {SIGNAL + name: value for name, value in signals.items()})

    def _targets(self, sample: Mapping[str, Any], *, learn: bool) -> tuple[torch.Tensor, Signals]:
        """Return the soft clusters (B, T, K) of all frames, zeros where there is padding, and signals of them."""
        teacher_BTE = sample["teacher"]
        lengths = [0] * len(teacher_BTE) if sample.get("ignored", False) else sample.get("teacher_lengths")
        places_P = None if lengths is None else _valid_places(lengths, teacher_BTE)
        points_PE = teacher_BTE.flatten(0, 1)
        clustered = self.clustering.assign(points_PE if places_P is None else points_PE[places_P], learn=learn)
        targets_PK = clustered.assigned
        every_PK = targets_PK
        if places_P is not None:
            every_PK = targets_PK.new_zeros(len(points_PE), targets_PK.size(-1)).index_copy(0, places_P, targets_PK)
        targets_BTK = every_PK.unflatten(0, teacher_BTE.shape[:2])
        bits = 1 / math.log(2)
        return targets_BTK, {
            "loss_clustering": mean_signal(clustered.loss * bits),
            "target_entropy": mean_signal(torch.special.entr(targets_PK).sum(dim=-1) * bits),
            # Below 1: points that the temperature has left without a target.
            "target_mass": mean_signal(targets_PK.sum(dim=-1)),
            # How many prototypes the batch really uses, 1 to K.
            "prototype_perplexity": mean_signal(
                torch.special.entr(targets_PK.sum(dim=0) / max(len(targets_PK), 1)).sum().exp()
            ),
        }

    def step(self, update: int) -> None:
        """Make the online clustering's step of an update, with the learning rate of its schedule."""
        self.clustering.step(self._scheduled(update, base=self.cfg.clustering_lr, final=0.0, start=0.0))

    def momentum(self, update: int, decay: float) -> float:
        """Return the teacher's momentum after an update (from 0); ``decay`` is ema.ema_decay."""
        if str(self.cfg.momentum_schedule) == "constant":
            return decay
        return self._scheduled(update, base=decay, final=1.0, start=1.0)

    def _scheduled(self, update: int, *, base: float, final: float, start: float) -> float:
        warmup = round(self.cfg.schedule_warmup * self._updates)
        return warmup_then_cosine(
            update,
            base=base,
            final=final,
            total=self._updates,
            warmup=warmup,
            start=start,
            truncate=self.cfg.schedule_truncate,
        )


def _valid_places(lengths: Sequence[int], frames_BTE: torch.Tensor) -> torch.Tensor:
    """Return the places of B x T frames that are not behind their utterance's length, counted on the CPU."""
    valid_BT = torch.arange(frames_BTE.size(1)) < torch.tensor(lengths).unsqueeze(1)
    return valid_BT.flatten().nonzero().squeeze(1).to(frames_BTE.device)
