"""The feature encoder for less: masked frames alone, and activations that are computed again."""

import pytest
import torch

from ccc_w2v.criterion import CccCriterion
from ccc_w2v.feature_encoder import _joined_blocks, _PickedBlocks, block_places, masked_features
from ccc_w2v.settings.criterion import CccCriterionConfig
from tests.test_criterion import sample
from tests.tiny_models import NO_DROPOUT, tiny_ccc

LARGE = {"extractor_mode": "layer_norm", "conv_bias": True}
# Strides 5 x 2^6 with outputs of 1.2 blocks (the published), and encoders whose outputs take 1, 2 and 3 blocks.
ENCODERS = [
    {},
    LARGE,
    {"conv_feature_layers": "[(16,10,5)]"},
    {"conv_feature_layers": "[(16,10,5), (16,4,4)]"},
    {"conv_feature_layers": "[(16,20,10)] + [(16,3,2)]*3 + [(24,3,2)]*2"},
    {"conv_feature_layers": "[(16,10,5), (16,11,4)]"},
]


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("rest", [0, 1, 137])
def test_masked_frames_alone_are_those_of_the_whole(encoder, rest):
    model, generator = tiny_ccc(**encoder).double(), torch.Generator().manual_seed(1)
    source = torch.randn(3, 8000 + rest, generator=generator, dtype=torch.double)
    mask = model.draw_mask(source, None, seed=2)
    mask[0] = mask[0].roll(1)  # the first and the last frame as well
    mask[1] = torch.cat([mask[1].sort(descending=False).values])
    expected = model.feature_extractor(source).transpose(1, 2)[mask].unflatten(0, (3, -1))
    actual = masked_features(model.feature_extractor, source, mask)
    torch.testing.assert_close(actual, expected)
    upstream = torch.randn(expected.shape, generator=generator, dtype=torch.double)
    parameters = list(model.feature_extractor.parameters())
    gradients = [torch.autograd.grad(features, parameters, upstream) for features in (actual, expected)]
    torch.testing.assert_close(*gradients)
    again = masked_features(model.feature_extractor, source, mask, recompute=True)
    assert torch.equal(again, actual)
    assert all(map(torch.equal, torch.autograd.grad(again, parameters, upstream), gradients[0]))


@pytest.mark.parametrize(("outputs", "stride"), [(40, 4), (41, 4), (47, 4), (12, 1)])
def test_blocks_picked_as_on_a_gpu_are_those_split_on_a_cpu_bit_for_bit(outputs, stride):
    generator = torch.Generator().manual_seed(1)
    signal = torch.randn(3, 5, outputs, generator=generator, requires_grad=True)
    needed = torch.rand(3, -(-outputs // stride), generator=generator) < 0.5
    split = _joined_blocks(signal, needed, stride)
    picked = _PickedBlocks.apply(signal, block_places(needed, outputs, stride)).unsqueeze(0)
    assert torch.equal(picked, split)
    upstream = torch.randn(split.shape, generator=generator)
    assert torch.equal(*(torch.autograd.grad(blocks, signal, upstream)[0] for blocks in (picked, split)))


def test_masked_frames_alone_take_less():
    """Half of the frames masked: the layers behind the first see little more than half of the signal."""
    model, seen = tiny_ccc(), []
    model.feature_extractor.conv_layers[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].numel()))
    source = torch.randn(4, 160000, generator=torch.Generator().manual_seed(1))
    mask = model.draw_mask(source, None, seed=1)
    model.feature_extractor(source)
    masked_features(model.feature_extractor, source, mask)
    whole, part = seen
    assert part / whole < float(mask.float().mean()) + 0.07


def loss_and_gradients(contexts, **settings):
    model = tiny_ccc(**NO_DROPOUT, **settings).train()
    loss = CccCriterion(CccCriterionConfig(contexts=contexts), None)(model, sample())[0]
    loss.backward()
    return [loss.detach(), *(parameter.grad for parameter in model.parameters() if parameter.grad is not None)]


@pytest.mark.parametrize("encoder", [{}, LARGE, {"feature_grad_mult": 0.1}, {"autocast": "bf16"}])
@pytest.mark.parametrize("contexts", ["both", "original"])
def test_activations_that_are_computed_again_change_no_bit(encoder, contexts):
    kept = loss_and_gradients(contexts, **encoder)
    again = loss_and_gradients(contexts, **encoder, checkpoint_features=True)
    assert len(kept) == len(again)
    assert all(map(torch.equal, kept, again))


def test_activations_are_not_kept():
    """What autograd saves of the feature encoder is its input alone."""
    model, saved = tiny_ccc(checkpoint_features=True).train(), []
    source = torch.randn(2, 16000)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor.numel()), lambda _: None):
        features = model.feature_extractor(source)
    assert features.requires_grad
    assert sum(saved) <= source.numel()


def test_the_state_dict_stays_fairseqs():
    assert list(tiny_ccc(checkpoint_features=True).state_dict()) == list(tiny_ccc().state_dict())
