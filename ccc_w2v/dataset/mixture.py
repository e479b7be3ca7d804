"""Several corpora in one training: an epoch takes of each what its share is, utterances of one batch from any of them.

An epoch has as many hours as all corpora together. Each corpus is gone through in passes, every pass in an order of its
own, and an epoch continues where the last one ended: no utterance comes twice before all of its corpus have come once.
Where it stands follows from the number of the epoch, so a resumed run needs nothing but that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ccc_w2v.augment.pipeline import Drawn, Pipeline
from ccc_w2v.data.manifest_lines import Entries, Entry
from ccc_w2v.data.mixture import Mixture
from ccc_w2v.data.randomness import seed_for
from ccc_w2v.dataset.two_view import TwoViewDataset
from ccc_w2v.dataset.two_view_batches import TwoViewBatches
from ccc_w2v.dataset.utterances import Utterances
from ccc_w2v.errors import InputError


class MixedUtterances(Entries):
    """The utterances of an epoch: those of the first corpus, then those of the second, ...

    Number ``quotas``[c] of corpus c stand in every epoch, so that an utterance's number tells its corpus. Held are
    four bytes for each.
    """

    def __init__(self, source: str, parts: Mapping[str, Utterances], quotas: Sequence[int], seed: int) -> None:
        self.source, self.names, self._parts = source, tuple(parts), tuple(parts.values())
        self._quotas, self._seed = tuple(quotas), seed
        self._ends = np.cumsum(quotas)
        self._epoch = 0
        self.set_epoch(1)

    def set_epoch(self, epoch: int) -> None:
        """Take each corpus's share of this epoch."""
        if epoch != self._epoch:
            self._epoch = epoch
            rows = enumerate(zip(self.names, self._parts, self._quotas, strict=True))
            self._picked = np.concatenate([self._share(name, len(part), quota) for _, (name, part, quota) in rows])

    def _share(self, name: str, size: int, quota: int) -> np.ndarray:
        first, picked = (self._epoch - 1) * quota, []
        for number in range(first // size, (first + quota - 1) // size + 1):
            order = np.random.default_rng(seed_for(self._seed, f"order of {name}", number)).permutation(size)
            picked.append(order[max(first - number * size, 0) : first + quota - number * size].astype(np.int32))
        return np.concatenate(picked)

    def place(self, index: int) -> tuple[int, int]:
        """Return the corpus of an utterance of this epoch and its number there."""
        return int(np.searchsorted(self._ends, index, side="right")), int(self._picked[index])

    def __len__(self) -> int:
        return len(self._picked)

    def entry(self, position: int) -> Entry:
        """Return the utterance at a position."""
        corpus, utterance = self.place(position)
        return self._parts[corpus][utterance]

    @property
    def sizes(self) -> np.ndarray:
        """The lengths (N,) in samples, int64, made for this call."""
        picked = np.split(self._picked, self._ends[:-1])
        return np.concatenate([part.sizes_of(own) for part, own in zip(self._parts, picked, strict=True)])

    def sizes_of(self, indices: np.ndarray) -> np.ndarray:
        """Return the lengths of several utterances in samples, int64."""
        corpora = np.searchsorted(self._ends, indices, side="right")
        sizes = np.empty(len(indices), dtype=np.int64)
        for corpus in np.unique(corpora):
            own = corpora == corpus
            sizes[own] = self._parts[corpus].sizes_of(self._picked[indices[own]])
        return sizes

    def size(self, index: int) -> int:
        """Return the length of an utterance in samples."""
        corpus, utterance = self.place(index)
        return self._parts[corpus].size(utterance)


@dataclass(frozen=True)
class MixedDrawn:
    """What was drawn for an utterance, and which corpus's pipeline drew it."""

    corpus: int
    drawn: Drawn


class MixedPipeline:
    """The pipelines of all corpora as one, and another one for what is of none of them: a validation set."""

    def __init__(self, pipelines: Sequence[Pipeline], other: Pipeline | None = None) -> None:
        self.pipelines, self.other = tuple(pipelines), other

    def apply(self, waves_BS: Tensor, drawn: Sequence[Any]) -> Tensor:
        """Apply to each utterance what its own pipeline has drawn."""
        out_BS = waves_BS.clone()
        corpora = [row.corpus if isinstance(row, MixedDrawn) else None for row in drawn]
        for corpus in dict.fromkeys(corpora):
            rows = [row for row, own in enumerate(corpora) if own == corpus]
            pipeline = self.other if corpus is None else self.pipelines[corpus]
            assert pipeline is not None, "what is drawn by no corpus's pipeline was drawn by the other one"
            draws = [drawn[row] if corpus is None else drawn[row].drawn for row in rows]
            out_BS[rows] = pipeline.apply(waves_BS[rows], draws)
        return out_BS

    def prepare(self) -> None:
        """Do the slow work that all draws share."""
        for pipeline in dict.fromkeys((*self.pipelines, self.other)):
            if pipeline is not None:
                pipeline.prepare()


class MixtureDataset(TwoViewBatches):
    """Datasets of several corpora as one; each utterance follows its corpus's augmentation and on_bad_audio.

    A batch holds "processed" beside fairseq's keys: samples by corpus. ``other`` is the pipeline of other splits.
    """

    def __init__(self, mixture: Mixture, parts: Mapping[str, TwoViewDataset], other: Pipeline | None = None) -> None:
        self.parts, self.names = tuple(parts.values()), tuple(parts)
        quotas = quotas_of(mixture, self.parts)
        self.quotas = dict(zip(self.names, quotas, strict=True))
        first = self.parts[0]
        super().__init__(
            MixedUtterances(mixture.source, {name: part.entries for name, part in parts.items()}, quotas, first.seed),
            MixedPipeline([part.pipeline for part in self.parts], other),
            first.sample_rate,
            first.seed,
            max_sample_size=first.max_sample_size,
            min_sample_size=first.min_sample_size,
            shuffle=first.shuffle,
            pad=first.pad,
            normalize=first.normalize,
            augment_device=first.augment_device,
            crop_step=first.crop_step,
        )
        self.at_once = max(part.at_once for part in self.parts)

    def set_epoch(self, epoch: int) -> None:
        """Let utterances, crops, masks and augmentation of this epoch differ from those of the last."""
        super().set_epoch(epoch)
        self.entries.set_epoch(epoch)

    @property
    def can_reuse_epoch_itr_across_epochs(self) -> bool:
        """Other utterances make other batches."""
        return False

    def check_headers(self, most: int) -> None:
        """Compare the headers of up to ``most`` files with the manifests; see TwoViewDataset."""
        for part in self.parts:
            part.check_headers(-(-most // len(self.parts)))

    def _read(self, index: int) -> dict[str, Any]:
        corpus, utterance = self.entries.place(index)
        return {**self.parts[corpus]._read(utterance), "id": index}

    def _draw(self, index: int, samples: int) -> Any:
        corpus, _ = self.entries.place(index)
        return MixedDrawn(corpus, self._drawn_by(self.parts[corpus].pipeline, index, samples))

    def _bad(self, error: InputError, index: int) -> dict[str, str]:
        corpus, utterance = self.entries.place(index)
        return self.parts[corpus]._bad(error, utterance)

    def collater(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Make a batch as of one corpus; ``processed`` has the samples of each corpus in it."""
        batch = super().collater(samples)
        if "net_input" not in batch:
            return batch
        processed = dict.fromkeys(self.names, 0)
        if "lost" not in batch:
            ids = batch["id"].tolist()
            waves_BS = batch["crops"].waves_BS if "crops" in batch else batch["net_input"]["source"]
            lengths = batch["net_input"].get("lengths", (waves_BS.shape[1],) * len(ids))
            for index, length in zip(ids, lengths, strict=True):
                processed[self.names[self.entries.place(index)[0]]] += int(length)
        return {**batch, "processed": processed}


def quotas_of(mixture: Mixture, parts: Sequence[TwoViewDataset]) -> list[int]:
    """Return how many utterances of each corpus an epoch takes; it has the hours, or utterances, of all together."""
    samples = [int(part.sizes.sum()) for part in parts]
    utterances = [len(part) for part in parts]
    shares = mixture.shares(samples)
    if mixture.of_utterances:
        return [max(1, round(share * sum(utterances))) for share in shares]
    rows = zip(shares, samples, utterances, strict=True)
    return [max(1, round(share * sum(samples) * own / own_samples)) for share, own_samples, own in rows]
