"""What the tests of a GPU share: the device, of which the CPU is one, so that their own code runs on every machine."""

import pytest
import torch


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request):
    return torch.device(request.param)
