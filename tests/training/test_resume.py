import pytest
import torch
from fairseq.data.iterators import EpochBatchIterator
from hypothesis import given
from hypothesis import strategies as st

from ccc_w2v.compat import prepare


@pytest.fixture(scope="module", autouse=True)
def prepared():
    prepare()


def iterators(batches, processes):
    dataset = torch.utils.data.TensorDataset(torch.arange(batches))
    sampler = [[index] for index in range(batches)]
    return [
        EpochBatchIterator(dataset, lambda items: [int(item[0]) for item in items], sampler, 1, processes, rank)
        for rank in range(processes)
    ]


def processed(iterator, batches):
    epoch = iterator.next_epoch_itr()
    return [index for batch in (next(epoch) for _ in range(batches)) for index in batch]


@given(st.data())
def test_an_epoch_goes_on_with_another_number_of_processes_where_it_stopped(data):
    batches = data.draw(st.integers(1, 30), label="batches")
    before, now = (data.draw(st.integers(1, 5), label=label) for label in ("before", "now"))
    ranks = iterators(batches, before)
    steps = data.draw(st.integers(0, len(ranks[0]) - 1), label="steps")
    first = [index for rank in ranks for index in processed(rank, steps)]
    place = ranks[0].state_dict()
    again = iterators(batches, now)
    for rank in again:
        rank.load_state_dict(place)
    rest = [index for rank in again for index in processed(rank, len(rank) - rank.iterations_in_epoch)]
    assert set(first) | set(rest) == set(range(batches))
    assert len(set(first) & set(rest)) == (steps * before % now)


def test_a_place_of_an_older_checkpoint_is_taken_as_it_is():
    (iterator,) = iterators(6, 1)
    processed(iterator, 2)
    place = {name: value for name, value in iterator.state_dict().items() if name != "num_shards"}
    (again,) = iterators(6, 1)
    again.load_state_dict(place)
    assert again.iterations_in_epoch == 2
