"""`capi`: masked prediction of online clusters alone, without negatives and without a codebook (docs/family.md)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from fairseq import utils
from fairseq.criterions import register_criterion
from fairseq.dataclass import ChoiceEnum
from fairseq.logging import metrics
from torch.profiler import record_function

from ccc_w2v.data.randomness import generator_for
from ccc_w2v.losses.batch_signals import SLOW_EVERY
from ccc_w2v.losses.signals import joined, vector_signals
from ccc_w2v.losses.views import AUGMENTED, ORIGINAL, SUFFIX, VIEWS, HiddenViews
from ccc_w2v.masked_prediction import HeadedCriterion, MaskedPrediction
from ccc_w2v.settings.masked_prediction import MaskedPredictionConfig
from ccc_w2v.training.signal_log import SIGNAL, log_signals


@dataclass
class CapiCriterionConfig(MaskedPredictionConfig):
    """Settings of masked prediction, and whose masked frames are predicted."""

    contexts: ChoiceEnum(["both", ORIGINAL, AUGMENTED, "alternate"]) = field(  # type: ignore[valid-type]
        default="both",
        metadata={"help": "view that predicts at its masked frames; alternate draws one for each training update"},
    )


@register_criterion("capi", dataclass=CapiCriterionConfig)
class CapiCriterion(HeadedCriterion):
    """The student's cross-entropy with the teacher's soft clusters at masked frames (CAPI, arXiv 2502.08769)."""

    def __init__(self, cfg: CapiCriterionConfig, task: Any):
        super().__init__(task)
        self.cfg = cfg
        self.prediction = MaskedPrediction(cfg, task)

    def forward(self, model: Any, sample: dict[str, Any], reduce: bool = True) -> tuple[torch.Tensor, int, dict]:
        """Return the loss summed over masked frames (nats, mean over views), their number, and what is logged."""
        output: HiddenViews = model(**sample["net_input"], contexts=self._contexts(model), hidden_only=True)
        hidden = output.views()
        with record_function("ccc.prediction"):
            predicted = self.prediction(hidden, output.mask_BT, sample, learn=model.training)
        sample_size = math.prod(next(iter(hidden.values())).shape[:2])
        logged = {
            "loss": predicted.loss.detach(),
            "sample_size": sample_size,
            "ntokens": sample_size,
            "nsentences": sample["id"].numel(),
            "audio_samples": sample["net_input"]["source"].numel() if self.training else 0,
        }
        slow = not model.training or model.num_updates % SLOW_EVERY == 0
        with torch.no_grad():
            for view, hidden_BME in hidden.items():
                signals = vector_signals("context" + SUFFIX[view], hidden_BME, ranks=slow)
                logged |= {SIGNAL + name: value for name, value in joined(signals).items()}
        return predicted.loss, sample_size, logged | predicted.signals

    def encoded_views(self, model: Any) -> tuple[int, int]:
        """Return how many views this batch's feature encoder has, and how many of them the Transformer."""
        contexts = self._contexts(model)
        return len(contexts), len(contexts)

    def _contexts(self, model: Any) -> tuple[str, ...]:
        """Return the views that this batch predicts from."""
        contexts = str(self.cfg.contexts)
        if contexts == "both" or (contexts == "alternate" and not model.training):
            return VIEWS
        if contexts == "alternate":
            generator = generator_for(self.task.cfg.seed, "contexts", model.num_updates)
            return (VIEWS[int(torch.randint(2, (), generator=generator))],)
        return (contexts,)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """Every logged value is a sum, so workers may add theirs before reduce_metrics sees them."""
        return True

    @staticmethod
    def reduce_metrics(logging_outputs: Iterable[dict[str, Any]]) -> None:
        """Log sums over sums, in bits, so that the numbers do not depend on how many workers share the batch."""
        logs = list(logging_outputs)
        loss, frames = (utils.item(sum(log.get(key, 0) for log in logs)) for key in ("loss", "sample_size"))
        metrics.log_scalar("loss", loss / max(frames, 1) / math.log(2), frames, round=3)
        log_signals(logs)
        for key in ("ntokens", "nsentences"):
            metrics.log_scalar(key, utils.item(sum(log.get(key, 0) for log in logs)))
