from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from ccc_w2v.checkpoint import huggingface_model, parity
from ccc_w2v.checkpoint.plain import load_plain, to_plain
from ccc_w2v.errors import InputError
from tests.export.conftest import STYLES, pretrained_state


@pytest.mark.parametrize("style", STYLES)
def test_padding_that_is_not_masked_is_found(style, monkeypatch):
    plain = to_plain(pretrained_state(style))
    fairseq_model, _ = load_plain(plain, __file__)
    model = huggingface_model.build(plain)
    waves = [torch.randn(size, generator=torch.Generator().manual_seed(size)) for size in (9000, 5000)]
    parity.check(parity.largest_difference(fairseq_model, model, waves))
    unmasked = parity.transformers_outputs
    monkeypatch.setattr(parity, "transformers_outputs", lambda network, waves_BS, _=None: unmasked(network, waves_BS))
    difference = parity.largest_difference(fairseq_model, model, waves)
    assert "padded pair, recording 2" in difference.where
    with pytest.raises(InputError, match="differs"):
        parity.check(difference)


@pytest.mark.parametrize("value", [2e-4, float("nan"), float("inf")])
def test_differences_above_the_tolerance_are_refused(value):
    with pytest.raises(InputError, match="layer 7"):
        parity.check(parity.OutputDifference(value, "layer 7"))


def test_distance_is_relative_only_above_one():
    small, large = torch.tensor([0.5, 0.25]), torch.tensor([100.0, 1.0])
    assert parity.distance(small, small + 0.25) == 0.25
    assert parity.distance(large, large + 1.0) == pytest.approx(0.01)
    assert parity.distance(small, torch.tensor([0.5, float("nan")])) == float("inf")
    assert parity.distance(small, small[:1]) == float("inf")
