"""The batches of an epoch as arrays of numbers: fairseq's batches in fairseq's order, without an object for each.

fairseq cuts an epoch into a tuple of arrays and shuffles a list of them: of 12.8 million utterances some two million
objects in every process, and forked data workers copy the pages that they touch. Here batches are slices of one array,
made when they are asked for, and a process keeps those of its own rank. fairseq's own code orders and cuts, and what is
shuffled and dealt to ranks is so with the same draws: an epoch is the same as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import numpy as np
from fairseq.data.data_utils import numpy_seed
from fairseq.data.iterators import EpochBatchIterator

from ccc_w2v.freed_memory import give_back_memory

CHUNK = 1 << 18  # utterances that fairseq cuts at a time
MANY = 1 << 16  # batches whose order takes megabytes
UNSURE = 2  # batches at the end of a chunk that what follows may change


class Batches(Sequence[Any]):
    """Batches of utterances: (U,) numbers of utterances one after the other, and where each of (B,) batches ends.

    A batch is an int64 array, as fairseq's. Callable, as fairseq's batch samplers may be: what is not callable, fairseq
    copies into a tuple.
    """

    def __init__(self, utterances: np.ndarray, ends: np.ndarray) -> None:
        self.utterances, self.ends = utterances, ends

    def __len__(self) -> int:
        return len(self.ends)

    def __call__(self, dataset: Any, epoch: int) -> Batches:
        """Return the same batches in every epoch."""
        return self

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> Batches: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | Batches:
        if isinstance(index, slice):
            return self.taken(np.arange(len(self))[index])
        batch = range(len(self))[index]
        start = self.ends[batch - 1] if batch else 0
        return self.utterances[start : self.ends[batch]].astype(np.int64)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[batch] for batch in range(len(self)))

    def taken(self, numbers: np.ndarray, empty: int = 0) -> Batches:
        """Return the batches of these numbers, in their order, and ``empty`` batches without utterances."""
        sizes = np.diff(self.ends, prepend=0)[numbers]
        ends = np.cumsum(sizes)
        # Consecutive numbers from each batch's start on, all in one.
        shifts = np.repeat((self.ends[numbers] - ends).astype(self.ends.dtype), sizes)
        utterances = self.utterances[shifts + np.arange(len(shifts), dtype=shifts.dtype)]
        filled = np.concatenate([ends, np.full(empty, len(utterances))])
        return Batches(utterances, filled.astype(self.ends.dtype))


class _Cut(Sequence[Any]):
    """What is kept of an epoch's batches once a rank has its own: how many there were, and the first."""

    def __init__(self, batches: Batches) -> None:
        self.batches, self.first = len(batches), batches[0]

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: Any) -> Any:
        assert index == 0, "fairseq asks for the first batch alone, to fill a rank's last update with"
        return self.first


def cut(indices: np.ndarray, cut_chunk: Callable[[np.ndarray], list[np.ndarray]]) -> Batches:
    """Cut utterances, in their order, into the batches that ``cut_chunk`` cuts them into; a chunk at a time.

    Where a batch ends depends on what follows its start and no more, so the last batches of a chunk are cut again at
    the start of the next one.
    """
    kind = np.int32 if len(indices) < 1 << 31 else np.int64
    ends, start, size = [np.zeros(0, kind)], 0, CHUNK
    while start < len(indices):
        chunk = np.ascontiguousarray(indices[start : start + size], dtype=np.int64)
        last = start + size >= len(indices)
        batches = cut_chunk(chunk)
        if not last:
            batches = batches[:-UNSURE]
            if not batches:
                size *= 2
                continue
        ends.append((start + np.cumsum([len(batch) for batch in batches])).astype(kind))
        start, size = (len(indices) if last else int(ends[-1][-1])), CHUNK
    all_ends = np.concatenate(ends)
    return Batches(indices[: all_ends[-1] if len(all_ends) else 0].astype(kind), all_ends)


class LeanEpochs(EpochBatchIterator):
    """fairseq's iterator over epochs, of batches that are Batches."""

    _frozen_batches: Any

    @property
    def frozen_batches(self) -> Any:
        """The batches of this epoch, of all ranks."""
        if self._frozen_batches is None:
            # fairseq 0.12.2 puts another sampler in its place later.
            self._make, self._made_in = self.batch_sampler, self.epoch
            self._frozen_batches = self._make(self.dataset, self.epoch)
        return self._frozen_batches

    def ordered_batches(self, epoch: int, fix_batches_to_gpus: bool, shuffle: bool) -> Batches:
        """Return this rank's batches of an epoch, in fairseq's order."""
        batches = self.frozen_batches
        if isinstance(batches, _Cut):
            batches = self._make(self.dataset, self._made_in)
        numbers = np.arange(len(batches))
        if shuffle:
            with numpy_seed(self.seed + epoch):
                numbers = self._shuffled(numbers)
        own = numbers[self.shard_id :: self.num_shards]
        lacking = -(-len(numbers) // self.num_shards) - len(own)
        share = batches.taken(own, empty=lacking)
        if len(batches) and self._make is not batches:
            self._frozen_batches = _Cut(batches)
            del batches
            if len(numbers) >= MANY:
                give_back_memory()
        return share

    def _shuffled(self, numbers: np.ndarray) -> np.ndarray:
        """Shuffle as fairseq shuffles a list of batches, or of groups of batches, by numpy's seeded generator."""
        if not self.grouped_shuffling:
            np.random.shuffle(numbers)
            return numbers
        groups = np.arange(len(numbers) // self.num_shards)
        np.random.shuffle(groups)
        return (groups[:, None] * self.num_shards + np.arange(self.num_shards)).ravel()


def lean(iterator: Any) -> None:
    """Let fairseq's iterator over epochs keep its batches as arrays; harmless when repeated."""
    # It is made deep inside fairseq, which names its class and nothing else.
    if type(iterator) is EpochBatchIterator:
        iterator.__class__ = LeanEpochs
