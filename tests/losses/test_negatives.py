import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ccc_w2v.losses.negatives import _OrderedGather, equal_codes, near_positives, of_negatives, sample_negatives


@given(st.integers(1, 4), st.integers(2, 40), st.integers(1, 20), st.integers(0, 2**31))
@settings(deadline=None, max_examples=50)
def test_negatives_are_other_frames_of_the_same_utterance(utterances, frames, count, seed):
    drawn = sample_negatives(utterances, frames, count, torch.Generator().manual_seed(seed))
    assert drawn.shape == (utterances, frames, count)
    assert drawn.min() >= 0
    assert drawn.max() < frames
    assert not (drawn == torch.arange(frames)[:, None]).any()


def test_negatives_are_uniform_over_the_other_frames():
    frames, count = 5, 40_000
    drawn = sample_negatives(1, frames, count, torch.Generator().manual_seed(3))[0]
    for own in range(frames):
        shares = drawn[own].bincount(minlength=frames) / count
        expected = torch.full((frames,), 1 / (frames - 1)).index_fill(0, torch.tensor(own), 0.0)
        # Five standard deviations of a binomial share.
        assert (shares - expected).abs().max() < 5 * (0.25 * 0.75 / count) ** 0.5


def test_one_masked_frame_has_itself_for_negatives_which_equal_codes_mask_out():
    drawn = sample_negatives(2, 1, 3, torch.Generator())
    assert drawn.shape == (2, 1, 3)
    assert not drawn.any()
    assert equal_codes(torch.tensor([[[4, 1]], [[0, 2]]]), drawn).all()


def test_codes_are_equal_only_when_all_groups_are():
    codes = torch.tensor([[[1, 2], [1, 2], [1, 3], [0, 2]]])
    negatives = torch.tensor([[[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]])
    equal = equal_codes(codes, negatives)
    assert equal.tolist() == [[[True, False, False], [True, False, False], [False] * 3, [False] * 3]]


def test_equal_codes_are_found_where_float_noise_hides_equal_vectors():
    """Rounding leaves vectors of one code a few ulps apart; comparing them, as the original does, misses some."""
    draw = torch.Generator().manual_seed(0)
    codes = torch.randint(3, (1, 60, 2), generator=draw)
    rows = torch.rand(9, 8, generator=draw)[codes[0, :, 0] * 3 + codes[0, :, 1]]
    vectors = rows * (1 + 1e-7 * torch.randint(-1, 2, rows.shape, generator=draw))
    negatives = sample_negatives(1, 60, 20, draw)
    same_code = (codes[0][negatives[0]] == codes[0][:, None]).all(-1)
    same_vector = (vectors[negatives[0]] == vectors[:, None]).all(-1)
    assert same_vector.sum() < same_code.sum()
    assert torch.equal(equal_codes(codes, negatives)[0], same_code)


def test_near_positives_share_the_cluster_of_their_positive():
    labels = torch.tensor([[0, 1, 0], [2, 2, 2]])
    negatives = torch.tensor([[[1, 2], [0, 2], [0, 1]], [[1, 2], [0, 2], [0, 1]]])
    assert near_positives(labels, negatives).tolist() == [
        [[False, True], [False, False], [True, False]],
        [[True, True], [True, True], [True, True]],
    ]


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 7, 30), (3, 40, 5)])
def test_the_gather_that_adds_in_order_is_gather(shape):
    generator = torch.Generator().manual_seed(1)
    utterances, frames, _ = shape
    drawn = sample_negatives(*shape, generator)
    columns = torch.randn(utterances, frames, frames, generator=generator, dtype=torch.double, requires_grad=True)
    upstream = torch.randn(shape, generator=generator, dtype=torch.double)
    expected = of_negatives(columns, drawn)
    actual = _OrderedGather.apply(columns, drawn)
    assert torch.equal(actual, expected)
    torch.testing.assert_close(
        *(torch.autograd.grad(picked, columns, upstream)[0] for picked in (actual, expected)), rtol=1e-12, atol=1e-12
    )
