import numpy as np
import pytest
import torch
from fairseq.data.data_utils import compute_mask_indices
from hypothesis import given, settings
from hypothesis import strategies as st

from ccc_w2v.data.masking import span_mask


@given(
    lengths=st.lists(st.integers(2, 120), min_size=1, max_size=5),
    prob=st.floats(0.05, 1.0),
    span=st.integers(1, 20),
    seed=st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=100)
def test_every_row_has_as_many_masked_positions_and_none_outside(lengths, prob, span, seed):
    mask = span_mask(lengths, max(lengths), prob, span, torch.Generator().manual_seed(seed), min_spans=2)
    counts = mask.sum(-1)
    assert (counts == counts[0]).all()
    assert counts[0] >= 1
    for row, length in zip(mask, lengths, strict=True):
        assert not row[length:].any()
        assert not row[:length].all()


def test_the_same_generator_draws_the_same_mask():
    first, again, other = (
        span_mask([300] * 4, 300, 0.65, 10, torch.Generator().manual_seed(seed), min_spans=2) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_masked_share_and_span_lengths_are_fairseqs():
    ours, theirs = [], []
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        ours.append(span_mask([400], 400, 0.65, 10, generator, min_spans=2)[0].numpy())
        theirs.append(compute_mask_indices((1, 400), None, 0.65, 10, min_masks=2)[0])

    def spans(masks):
        return np.mean([np.count_nonzero(np.diff(mask.astype(int)) == 1) for mask in masks])

    # The share of one mask has a standard deviation of about 0.023; of the mean of 200, 0.0016.
    assert abs(np.mean(ours) - np.mean(theirs)) < 5 * 0.023 * (2 / 200) ** 0.5
    assert abs(spans(ours) - spans(theirs)) < 5 * 2.0 * (2 / 200) ** 0.5


def test_a_row_of_one_position_is_refused():
    with pytest.raises(ValueError, match="cannot be masked"):
        span_mask([10, 1], 10, 0.5, 3, torch.Generator())
