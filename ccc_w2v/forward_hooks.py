"""What fairseq's forward does not take or does not return: handed to its modules, and caught at them, by hooks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def given_padding(encoder: torch.nn.Module, padding_BT: torch.Tensor | None) -> Iterator[None]:
    """Hand the frames' padding to fairseq's Transformer: its forward reads it off the samples', and waits for a GPU."""
    handle = encoder.register_forward_pre_hook(
        lambda _, inputs, keywords: (inputs, keywords | {"padding_mask": padding_BT}), with_kwargs=True
    )
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def captured_input(module: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """Collect what a module is called with: fairseq returns the features' penalty only beside its own loss."""
    captured: list[torch.Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
    try:
        yield captured
    finally:
        handle.remove()
