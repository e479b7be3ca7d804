"""The teacher of masked prediction: fairseq's EMA of the model, its frames, and a momentum that follows a schedule."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from fairseq.models.ema import EMA

from ccc_w2v.compat import starts_from_another
from ccc_w2v.data.masking import frame_padding
from ccc_w2v.forward_hooks import given_padding


class ScheduledEMA(EMA):
    """fairseq's EMA with a momentum that depends on the update; ``momentum`` gets it and ema.ema_decay.

    It is stepped after each update whatever ema.ema_update_freq and ema.ema_start_update are.
    """

    def __init__(self, model: Any, config: Any, device: Any, momentum: Callable[[int, float], float]):
        _drop_computed_weights(model)
        super().__init__(model, config, device)
        self._momentum = momentum

    def step(self, new_model: Any, updates: int | None = None) -> None:
        """Move towards the model after its update; ``updates`` counts that one too, as fairseq does."""
        assert updates is not None, "fairseq's trainer counts its updates"
        self._set_decay(self._momentum(updates - 1, self.config.ema_decay))
        self._step_internal(new_model, updates)


def _drop_computed_weights(model: Any) -> None:
    """Cut the weights that torch's weight norm has computed off their graph: tensors of a graph cannot be copied.

    They are computed anew before every forward pass.
    """
    for module in model.modules():
        if hasattr(module, "weight_g") and "weight" in vars(module):
            module.weight = module.weight.detach()


@functools.cache
def schedule_teacher() -> None:
    """Let a task's ``teacher_momentum``, where it has one, decide the momentum of fairseq's EMA."""
    from fairseq.trainer import Trainer

    build = Trainer._build_ema

    @functools.wraps(build)
    def _build_ema(self: Any) -> None:
        momentum = getattr(self.task, "teacher_momentum", None)
        if self.cfg.ema.store_ema and momentum is not None:
            self._ema = ScheduledEMA(self._model, self.cfg.ema, self.device, momentum)
        else:
            build(self)

    Trainer._build_ema = _build_ema


@functools.cache
def hand_on_what_trains_apart() -> None:
    """Let a run that starts from another's weights (checkpoint.finetune_from_model) go on with its clusterings, too.

    fairseq hands on the student's head and the teacher, but no task's state: the head would predict another clustering.
    """
    from fairseq import checkpoint_utils

    load = checkpoint_utils.load_checkpoint

    @functools.wraps(load)
    def load_checkpoint(cfg: Any, trainer: Any, **passthrough: Any) -> Any:
        extra_state, epoch_itr = load(cfg, trainer, **passthrough)
        if extra_state is not None and starts_from_another(cfg, trainer) and hasattr(trainer.task, "start_from"):
            trainer.task.start_from(extra_state.get(type(trainer.task).__name__, {}))
        return extra_state, epoch_itr

    checkpoint_utils.load_checkpoint = load_checkpoint


@torch.no_grad()
def teacher_frames(teacher: Any, views: dict[str, Any], layer: int) -> dict[str, Any]:
    """Return what a batch's sample gets: the teacher's frames (B, T, E) of the unmasked original, and their padding.

    That is bool (B, T), and how many frames of each utterance are none of it; both None where there is none. ``layer``
    counts from 1; 0 takes the output, behind the last layer norm.
    """
    teacher.eval()
    source = views["source"]
    lengths = teacher.frame_lengths(source, views.get("padding_mask"), views.get("lengths"))
    padding_BT = None if lengths is None else frame_padding(lengths[0], lengths[1:]).to(source.device)
    with teacher.autocast_region(source), given_padding(teacher.encoder, padding_BT):
        output = teacher.extract_features(source, None, mask=False, layer=layer - 1 if layer else None)
    valid = None if lengths is None else lengths[1:]
    return {"teacher": output["x"].float(), "teacher_padding": padding_BT, "teacher_lengths": valid}
