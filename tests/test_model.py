import dataclasses
import math

import pytest
import torch
from fairseq.nan_detector import NanDetector

from ccc_w2v.errors import InputError
from ccc_w2v.settings.model import CccWav2Vec2Config, refuse_unsupported
from tests.tiny_models import NO_DROPOUT, TINY, tiny_ccc, tiny_fairseq


@pytest.fixture
def source():
    return torch.randn(3, 16000, generator=torch.Generator().manual_seed(1))


def padding(source):
    mask = torch.zeros(source.shape, dtype=torch.bool)
    mask[1, 12000:] = True
    return mask


def test_the_state_dict_is_fairseqs_both_ways():
    ours, theirs = tiny_ccc(seed=1), tiny_fairseq(seed=2)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict(), strict=True)
    ours.load_state_dict(tiny_fairseq(seed=3).state_dict(), strict=True)


@pytest.mark.parametrize("extractor_mode", ["default", "layer_norm"])
@pytest.mark.parametrize("layer", [None, 0])
@pytest.mark.parametrize("padded", [False, True])
def test_one_view_features_are_fairseqs_bit_for_bit(source, extractor_mode, layer, padded):
    settings = {"extractor_mode": extractor_mode, "layer_norm_first": extractor_mode == "layer_norm"}
    ours, theirs = tiny_ccc(**settings).eval(), tiny_fairseq(**settings).eval()
    arguments = {"padding_mask": padding(source) if padded else None, "mask": False, "features_only": True}
    actual, expected = (model(source, layer=layer, **arguments) for model in (ours, theirs))
    assert torch.equal(actual["x"], expected["x"])
    assert torch.equal(actual["features"], expected["features"])
    assert len(actual["layer_results"]) == len(expected["layer_results"])


def test_one_view_pretraining_is_fairseqs_bit_for_bit(source):
    ours, theirs = tiny_ccc().train(), tiny_fairseq().train()
    mask = torch.zeros(3, 49, dtype=torch.bool)
    mask[:, 10:30] = True
    results = []
    for model in (ours, theirs):
        torch.manual_seed(4)
        results.append(model(source, mask_indices=mask))
    assert torch.equal(results[0]["x"], results[1]["x"])
    assert torch.equal(results[0]["features_pen"], results[1]["features_pen"])


def test_both_views_get_one_mask_and_the_same_treatment(source):
    model = tiny_ccc().eval()
    output = model(source, source_aug=source.clone(), seed=3)
    for original, augmented in zip(output.original, output.augmented, strict=True):
        assert torch.allclose(original.float(), augmented.float(), atol=1e-5)
    frames = int(output.mask_BT.sum(-1)[0])
    assert output.original.context_BMD.shape == (3, frames, TINY["final_dim"])


def test_context_and_features_are_those_of_fairseqs_forward(source):
    """Two views in one pass give what fairseq's forward gives on the same mask, view by view."""
    model, theirs = tiny_ccc(**NO_DROPOUT).eval(), tiny_fairseq(**NO_DROPOUT).eval()
    other = source + 0.1 * torch.randn(source.shape, generator=torch.Generator().manual_seed(9))
    output = model(source, source_aug=other, seed=3)
    mask = output.mask_BT
    for wave, view in ((source, output.original), (other, output.augmented)):
        expected = theirs(wave, mask_indices=mask, features_only=True)
        context = theirs.final_proj(expected["x"][mask]).view(3, -1, TINY["final_dim"])
        torch.testing.assert_close(view.context_BMD, context, atol=1e-5, rtol=1e-5)
        quantized = theirs.quantizer(expected["features"][mask].view(3, -1, 32), produce_targets=True)
        assert torch.equal(view.codes_BMG, quantized["targets"])
        torch.testing.assert_close(view.target_BMD, theirs.project_q(quantized["x"]), atol=1e-5, rtol=1e-5)


def test_everything_random_follows_the_seed_and_no_global_generator_is_moved(source):
    model = tiny_ccc(encoder_layerdrop=0.5, mask_channel_prob=0.5, mask_channel_length=8, **{"dropout": 0.0}).train()

    def run(seed):
        torch.manual_seed(0)  # dropout is fairseq's: its trainer seeds torch before every update
        return model(source, source_aug=source.flip(0), seed=seed).original.context_BMD

    import numpy as np

    before = np.random.get_state()[1].copy()
    assert torch.equal(run(5), run(5))
    assert not torch.equal(run(5).sum(), run(6).sum())
    assert np.array_equal(before, np.random.get_state()[1])


def test_padded_frames_are_never_masked(source):
    model = tiny_ccc().train()
    output = model(source, padding(source), source_aug=source.clone(), seed=1)
    valid = int(model._get_feat_extract_output_lengths(torch.tensor(12000)))
    mask = output.mask_BT
    assert not mask[1, valid:].any()
    assert (mask.sum(-1) == mask.sum(-1)[0]).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_gives_finite_outputs(source, dtype):
    model = tiny_ccc().to(dtype).train()
    output = model(source.to(dtype), source_aug=source.flip(0).to(dtype), seed=1)
    assert all(torch.isfinite(value).all() for view in output.views().values() for value in view)


def test_fairseqs_nan_detector_reads_the_output_of_two_views(source, caplog, monkeypatch):
    """Its hooks look for tensors in tuples and dictionaries only; after a NaN, fairseq's trainer relies on it."""
    model = tiny_ccc(**NO_DROPOUT).train()
    quantize = model.quantize

    def overflowing(*arguments):
        # The usage is no module's output: the detector finds it in the model's or nowhere.
        quantized = quantize(*arguments)
        return dataclasses.replace(quantized, usage_GV=quantized.usage_GV * math.inf)

    monkeypatch.setattr(model, "quantize", overflowing)
    with NanDetector(model), caplog.at_level("WARNING"):
        output = model(source, source_aug=source.flip(0), seed=1)
        output.original.context_BMD.sum().backward()
    assert any("detected in output of ," in record.message for record in caplog.records)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cross_sample_negatives", 10),
        ("codebook_negatives", 10),
        ("negatives_from_everywhere", True),
        ("quantize_targets", False),
        ("no_mask_overlap", True),
        ("mask_channel_before", True),
        ("mask_prob", 0.0),
    ],
)
def test_settings_that_two_views_cannot_share_are_refused(name, value):
    with pytest.raises(InputError, match=name):
        refuse_unsupported(CccWav2Vec2Config(**{**TINY, name: value}))
    refuse_unsupported(CccWav2Vec2Config(**TINY))
