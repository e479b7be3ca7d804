"""Epochs as arrays against fairseq's own lists: the same batches in the same order for every rank, epoch and resume."""

import inspect

import numpy as np
import pytest
from fairseq.data.audio.raw_audio_dataset import RawAudioDataset
from fairseq.data.data_utils import batch_by_size, numpy_seed
from fairseq.data.iterators import EpochBatchIterator
from hypothesis import given
from hypothesis import strategies as st

from ccc_w2v.dataset import epochs
from ccc_w2v.dataset.epochs import Batches, LeanEpochs, cut, lean


class Lengths(RawAudioDataset):
    """Nothing but lengths: an utterance is its number, a batch the list of them."""

    def __init__(self, sizes):
        super().__init__(16000, max_sample_size=250)
        self.sizes = np.array(sizes, dtype=np.int64)

    def __getitem__(self, index):
        return int(index)

    def collater(self, samples):
        return samples


def cutter(sizes, max_tokens, max_sentences, multiple):
    def cut_chunk(indices):
        return batch_by_size(indices, None, sizes[indices], max_tokens, max_sentences, multiple)

    return cut_chunk


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=120),
    max_tokens=st.sampled_from([None, 40, 100, 333]),
    max_sentences=st.sampled_from([None, 1, 5]),
    multiple=st.sampled_from([1, 2, 8]),
    chunk=st.integers(3, 30),
    ordered=st.booleans(),
)
def test_cut_by_chunks_is_cut_at_once(sizes, max_tokens, max_sentences, multiple, chunk, ordered):
    sizes = np.array(sizes, dtype=np.int64)
    indices = np.argsort(sizes)[::-1].copy() if ordered else np.arange(len(sizes))
    cut_chunk = cutter(sizes, max_tokens, max_sentences, multiple)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(epochs, "CHUNK", chunk)
        ours = cut(indices, cut_chunk)
    assert [batch.tolist() for batch in ours] == [batch.tolist() for batch in cut_chunk(indices)]


def iterator(dataset, *, shards=1, rank=0, rebuilt=True, grouped=False, multiple=1, ours=False, tokens=700, epoch=1):
    made = []

    def make_batches(dataset, epoch):
        made.append(epoch)
        with numpy_seed(7 + epoch):
            indices = dataset.ordered_indices()
        sizes = np.minimum(dataset.sizes, dataset.max_sample_size)
        cut_chunk = cutter(sizes, tokens, None, multiple)
        return cut(indices, cut_chunk) if ours else cut_chunk(indices)

    # fairseq 0.12.2 knows no such option.
    more = (
        {"persistent_workers": False}
        if "persistent_workers" in inspect.signature(EpochBatchIterator).parameters
        else {}
    )
    made_by = EpochBatchIterator(
        dataset,
        dataset.collater,
        make_batches if rebuilt else make_batches(dataset, epoch),
        epoch=epoch,
        seed=7,
        num_shards=shards,
        shard_id=rank,
        grouped_shuffling=grouped,
        reuse_dataloader=False,
        **more,
    )
    if ours:
        lean(made_by)
        assert type(made_by) is LeanEpochs
    return made_by, made


def epochs_of(made_by, count=3, shuffle=True):
    return [[list(batch) for batch in made_by.next_epoch_itr(shuffle=shuffle)] for _ in range(count)]


@pytest.mark.parametrize("rebuilt", [True, False])
@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("multiple", [1, 4])
@pytest.mark.parametrize(("shards", "rank"), [(1, 0), (3, 0), (3, 2), (60, 59)])
def test_every_epoch_of_every_rank_is_fairseqs(rebuilt, grouped, multiple, shards, rank):
    dataset = Lengths(np.random.default_rng(3).integers(20, 400, 200))
    options = {"shards": shards, "rank": rank, "rebuilt": rebuilt, "grouped": grouped, "multiple": multiple}
    (theirs, _), (ours, _) = iterator(dataset, **options), iterator(dataset, **options, ours=True)
    assert len(theirs) == len(ours)
    assert theirs.first_batch == ours.first_batch
    expected = epochs_of(theirs)
    assert expected == epochs_of(ours)
    assert theirs.first_batch == ours.first_batch
    if shards < 60:
        assert expected[0] != expected[1]


@pytest.mark.parametrize("offset", [0, 1, 5])
def test_a_resumed_epoch_is_fairseqs_and_so_are_those_after_it(offset):
    dataset = Lengths(np.random.default_rng(3).integers(20, 400, 200))
    (theirs, _), (ours, _) = iterator(dataset, shards=2, rank=1), iterator(dataset, shards=2, rank=1, ours=True)
    for made_by in (theirs, ours):
        made_by.load_state_dict({"version": 2, "epoch": 3, "iterations_in_epoch": offset, "shuffle": True})
    assert epochs_of(theirs) == epochs_of(ours)


def test_a_validation_in_order_is_fairseqs():
    dataset = Lengths(np.random.default_rng(3).integers(20, 400, 50))
    (theirs, _), (ours, _) = iterator(dataset), iterator(dataset, ours=True)
    assert epochs_of(theirs, shuffle=False) == epochs_of(ours, shuffle=False)


def test_a_rank_keeps_its_own_batches_alone_and_makes_the_others_again_when_asked():
    dataset = Lengths(np.random.default_rng(3).integers(20, 400, 5000))
    ours, made = iterator(dataset, shards=10, ours=True)
    first = ours.next_epoch_itr()
    assert made == [1]
    kept = ours._frozen_batches
    assert not isinstance(kept, Batches)
    assert len(kept) == len(ours.frozen_batches)
    share = getattr(ours, "epoch_batch_sampler", ours.batch_sampler).batches
    assert len(share.utterances) < 1000
    ours.load_state_dict({"version": 2, "epoch": 1, "iterations_in_epoch": 2, "shuffle": True})
    assert made == [1, 1]
    assert [list(batch) for batch in first][2:] == [list(batch) for batch in ours.next_epoch_itr()]


def test_batches_are_int64_arrays_and_hold_half_of_that():
    batches = cut(np.arange(100)[::-1], cutter(np.ones(100, dtype=np.int64), 7, None, 1))
    assert batches.utterances.dtype == batches.ends.dtype == np.int32
    assert batches[0].dtype == np.int64
    assert batches[-1].tolist() == [1, 0]
    assert [batch.tolist() for batch in batches[13:]] == [[8, 7, 6, 5, 4, 3, 2], [1, 0]]
    with pytest.raises(IndexError):
        batches[15]
