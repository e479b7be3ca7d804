"""Batches of two views of any utterances: one crop for both, everything drawn from (seed, epoch, utterance)."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from ccc_w2v.augment.pipeline import Drawn, Pipeline
from ccc_w2v.data.randomness import generator_for, seed_for
from ccc_w2v.dataset.listed_audio import Listed, ListedAudio
from ccc_w2v.dataset.views import Crops, two_views
from ccc_w2v.errors import InputError


class TwoViewBatches(ListedAudio):
    """Utterances as (source, source_aug) batches; what an utterance is, and how it is augmented, says a subclass.

    Batches are cut as fairseq cuts them: by audio length, all utterances cropped to the shortest (or padded to the
    longest with ``pad``). The crop is drawn before the augmentation, so nothing is augmented to be thrown away, and
    both views share it.

    With ``augment_device`` "gpu" a batch holds "crops" in place of the views, for the task to make them on the model's
    device.
    """

    def __init__(
        self,
        entries: Listed,
        pipeline: Any,
        sample_rate: int,
        seed: int,
        *,
        max_sample_size: int | None = None,
        min_sample_size: int = 0,
        shuffle: bool = True,
        pad: bool = False,
        normalize: bool = False,
        augment_device: str = "cpu",
        crop_step: int = 1,
    ):
        super().__init__(entries, sample_rate, max_sample_size, min_sample_size, shuffle, pad, normalize)
        if crop_step < 1:
            raise InputError(f"task.crop_step={crop_step}: must be a whole number of at least 1 sample")
        self.crop_step = crop_step
        self.shortest = max(min_sample_size, 1)
        self.augment_device = augment_device
        self.pipeline = pipeline
        self.seed = seed
        self.epoch = 1
        self.at_once = 1  # utterances of a batch that are read side by side, where reading is waiting
        self.set_bucket_info(0)

    def _read(self, index: int) -> dict[str, Any]:
        """Read one utterance, as __getitem__ returns it."""
        raise NotImplementedError

    def _bad(self, error: InputError, index: int) -> dict[str, str]:
        """Follow the policy of an utterance: a message that ends the run, or a line in the log."""
        raise NotImplementedError

    def _draw(self, index: int, samples: int) -> Any:
        """Draw and load the augmentation of one utterance's crop."""
        return self._drawn_by(self.pipeline, index, samples)

    def _classes(self, crops: Sequence[tuple[int, int]], samples: int) -> dict[str, torch.Tensor]:
        """Return the labels of the frames of crops (index, start) of some samples, where a subclass has any."""
        return {}

    def _drawn_by(self, pipeline: Pipeline, index: int, samples: int) -> Drawn:
        drawn = pipeline.draw(generator_for(self.seed, "augment", self.epoch, index), samples)
        return pipeline.load(drawn, samples)

    def set_epoch(self, epoch: int) -> None:
        """Let crops, masks and augmentation of this epoch differ from those of the last."""
        self.epoch = epoch

    @property
    def can_reuse_epoch_itr_across_epochs(self) -> bool:
        """The order of utterances changes from epoch to epoch, their batches need not."""
        return True

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read one utterance: {"id": its index, "source": wave (S,)}; unreadable ones have None and perhaps "error"."""
        return self._read(index)

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Read the utterances of a batch, as torch's data loader asks for them, in this order."""
        if self.at_once == 1:
            return [self[index] for index in indices]
        with ThreadPoolExecutor(self.at_once) as pool:
            return list(pool.map(self._read, indices))

    def collater(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Crop or pad to one length, augment, normalise: a fairseq batch whose net_input holds both views.

        net_input: source and source_aug (B, S), padding_mask (B, S) and lengths where padded, seed (one per batch). A
        batch with an utterance that must end the run is its message alone: {"error": message}. One without any readable
        utterance is noise and has "lost": every process must take part in an update, and this one counts for nothing.
        """
        if not samples:
            return {}
        read = [sample for sample in samples if sample["source"] is not None]
        sizes = [sample["source"].numel() for sample in read]
        target = self.length_of_crops(sizes)
        cropped = [self._crop_and_draw(sample["id"], sample["source"], target) for sample in read]
        errors = [sample["error"] for sample in (*samples, *cropped) if "error" in sample]
        if errors:
            return {"error": errors[0]}
        whole = [sample for sample in cropped if "drawn" in sample]
        if not whole:
            return self._lost(samples)
        ids = [sample["id"] for sample in whole]
        waves = [sample["wave"] for sample in whole]
        waves_BS = pad_sequence(waves, batch_first=True)
        crops = Crops(
            F.pad(waves_BS, (0, self.length_of_crops([len(wave_S) for wave_S in waves]) - waves_BS.size(1))),
            tuple(len(wave_S) for wave_S in waves),
            tuple(sample["drawn"] for sample in whole),
        )
        batch: dict[str, Any] = {"id": torch.tensor(ids), "bad_audio": len(samples) - len(whole)}
        batch |= self._classes([(sample["id"], sample["start"]) for sample in whole], crops.waves_BS.size(1))
        net_input: dict[str, Any] = {"seed": seed_for(self.seed, "batch", self.epoch, *ids)}
        if self.augment_device == "gpu":
            batch["crops"] = crops
        else:
            net_input.update(two_views(crops, self.pipeline, self.normalize))
        if self.pad:
            net_input["lengths"] = crops.lengths
            lengths_B1 = torch.tensor(crops.lengths).unsqueeze(1)
            net_input["padding_mask"] = torch.arange(crops.waves_BS.shape[1]) >= lengths_B1
        return {**batch, "net_input": net_input}

    def length_of_crops(self, sizes: Sequence[int]) -> int:
        """Return the samples of a batch made of utterances of these sizes: the shortest's or, padded, the longest's.

        It is max_sample_size at most. With ``crop_step`` it is min_sample_size plus a multiple of that otherwise, below
        the shortest size or, padded, above the longest.
        """
        if not sizes:
            return 0
        wanted = max(sizes) if self.pad else min(sizes)
        if wanted < self.max_sample_size:
            beyond = max(wanted - self.shortest, 0)
            wanted += -beyond % self.crop_step if self.pad else -(beyond % self.crop_step)
        return min(wanted, self.max_sample_size)

    def _crop_and_draw(self, index: int, wave_S: torch.Tensor, target: int) -> dict[str, Any]:
        """Crop an utterance and load what its augmentation needs: id, wave (S,), its start in the recording, drawn.

        There is no drawn where that is bad.
        """
        start = self._start(wave_S, target, index)
        crop_S = wave_S[start : start + target]
        try:
            return {"id": index, "wave": crop_S, "start": start, "drawn": self._draw(index, len(crop_S))}
        except InputError as error:
            return {"id": index, **self._bad(error, index)}

    def _lost(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        ids = [sample["id"] for sample in samples]
        generator = generator_for(self.seed, "lost", self.epoch, *ids)
        length = self.length_of_crops([min(map(self.entries.size, ids))])
        noise_BS = torch.randn(len(ids), length, generator=generator)
        seed = seed_for(self.seed, "batch", self.epoch, *ids)
        net_input: dict[str, Any] = {"source": noise_BS, "source_aug": noise_BS, "seed": seed}
        if self.pad:
            net_input["padding_mask"] = torch.zeros(noise_BS.shape, dtype=torch.bool)
            net_input["lengths"] = (length,) * len(ids)
        classes = self._classes([(index, 0) for index in ids], length)  # to be there, though nothing counts
        return {"id": torch.tensor(ids), **classes, "net_input": net_input, "bad_audio": len(ids), "lost": True}

    def _start(self, wave_S: torch.Tensor, target: int, index: int) -> int:
        """Draw where a crop of ``target`` samples begins; 0 where there is nothing to crop."""
        surplus = wave_S.numel() - target
        if surplus <= 0:
            return 0
        generator = generator_for(self.seed, "crop", self.epoch, index)
        return int(torch.randint(surplus + 1, (), generator=generator))
