"""`task.deterministic`: the same training twice on the same GPU, bit for bit."""

from __future__ import annotations

import os

import torch


def use_deterministic_algorithms() -> None:
    """Let torch, cuDNN and cuBLAS take algorithms that add in a fixed order; what has none raises RuntimeError.

    cuBLAS reads its variable when it is first used: this comes before the model is moved to the GPU.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # Otherwise every new tensor is filled first, to reveal reads of what was never written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
