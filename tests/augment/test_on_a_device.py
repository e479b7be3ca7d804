"""Every transform on a pretended CUDA device (task.augment_device=gpu): none waits for it or adds in a random order."""

from contextlib import nullcontext

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException

from tests.pretended_cuda import CUDA, pretended_cuda

# torch.istft asks the device whether its windows cover every sample.
WAITS = {"pitch_shift"}


def test_a_transform_neither_waits_nor_adds_in_a_random_order(monkeypatch, transform):
    generator = torch.Generator().manual_seed(1)
    waves = 0.1 * torch.randn(3, 20_000, generator=generator)
    drawn = [transform.load(transform.draw(generator, 20_000), 20_000) for _ in range(2)]
    for parameters in ([drawn[0], None, drawn[1]], [*drawn, drawn[0]]):
        waits = pytest.raises(DataDependentOutputException) if transform.name in WAITS else nullcontext()
        with pretended_cuda(monkeypatch), torch.no_grad(), waits:
            changed = transform.apply(waves.to(CUDA), parameters)
            assert (changed.device, changed.shape, changed.dtype) == (CUDA, waves.shape, torch.float32)
