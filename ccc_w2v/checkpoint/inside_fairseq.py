"""Inert settings for what fairseq itself reads while the plugin is loaded: to fine-tune, to resume, any model."""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
from collections.abc import Iterator
from typing import Any

import torch
from omegaconf import OmegaConf

from ccc_w2v.checkpoint.untrusted import plain_settings
from ccc_w2v.checkpoint.untrusted_state import inert_state
from ccc_w2v.errors import InputError, one_line_errors


def read_inert_settings() -> None:
    """Let fairseq take nothing but inert settings out of a checkpoint, whatever starts it: see untrusted.

    It reads model.w2v_path, checkpoint.finetune_from_model, restore_file and every model that it loads in one function,
    and takes model.w2v_args from a configuration, which may be that of another one's checkpoint.
    """
    from fairseq import checkpoint_utils
    from fairseq.models.wav2vec.wav2vec2_asr import Wav2VecEncoder

    if isinstance(checkpoint_utils.torch, _InertLoading):
        return
    checkpoint_utils.torch = _InertLoading()
    build = Wav2VecEncoder.__init__

    @functools.wraps(build)
    def init(self: Any, cfg: Any, *args: Any, **kwargs: Any) -> None:
        base = getattr(cfg, "w2v_args", None)
        with _refusals("model.w2v_args"):
            if isinstance(base, argparse.Namespace):
                vars(base).update(vars(plain_settings(base)))
            elif base is not None:
                plain = OmegaConf.to_container(base, resolve=False) if OmegaConf.is_config(base) else base
                cfg.w2v_args = OmegaConf.create(plain_settings(plain))
        build(self, cfg, *args, **kwargs)

    Wav2VecEncoder.__init__ = init


class _InertLoading:
    """The torch that fairseq.checkpoint_utils sees: torch itself, but what it loads has inert settings."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def load(self, file: Any, **passthrough: Any) -> Any:
        state = torch.load(file, **{**passthrough, "weights_only": True})
        with _refusals(getattr(file, "name", "checkpoint")):
            return inert_state(state)


@contextlib.contextmanager
def _refusals(source: object) -> Iterator[None]:
    """Name the source of what is refused; end a training with that one line."""
    training = one_line_errors() if "fairseq_cli.train" in sys.modules else contextlib.nullcontext()
    with training:
        try:
            yield
        except InputError as error:
            raise InputError(f"{source}: {error}") from error
