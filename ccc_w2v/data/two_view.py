"""Dataset and collater of pre-training: one crop for both views, everything drawn from (seed, epoch, utterance)."""

from __future__ import annotations

import atexit
import logging
import threading
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from fairseq.data.audio.raw_audio_dataset import RawAudioDataset

from ccc_w2v.augment.pipeline import Pipeline
from ccc_w2v.data.audio import audio_samples, read_audio
from ccc_w2v.data.manifest import Manifest
from ccc_w2v.data.randomness import generator_for, seed_for
from ccc_w2v.errors import InputError

logger = logging.getLogger(__name__)

BAD_AUDIO_POLICIES = ("raise", "skip")


class TwoViewDataset(RawAudioDataset):
    """Utterances of a manifest as (source, source_aug) batches.

    Batches are cut as fairseq cuts them: by audio length, all utterances cropped to the shortest (or padded to the
    longest with ``pad``). The crop is drawn before the augmentation, so nothing is augmented to be thrown away, and
    both views share it. An utterance that turns out unreadable in the middle of an epoch follows ``on_bad_audio``:
    "raise" hands the message on in its batch, for the task to end the run with; "skip" leaves the utterance out of its
    batch, logs it and counts it; a batch that is lost whole becomes noise, marked as "lost".
    """

    def __init__(
        self,
        manifest: Manifest,
        pipeline: Pipeline,
        sample_rate: int,
        seed: int,
        *,
        max_sample_size: int | None = None,
        min_sample_size: int = 0,
        shuffle: bool = True,
        pad: bool = False,
        normalize: bool = False,
        on_bad_audio: str = "raise",
    ):
        super().__init__(sample_rate, max_sample_size, min_sample_size, shuffle, pad, normalize)
        self.manifest = manifest
        self.entries = [entry for entry in manifest.entries if entry.samples >= min_sample_size]
        if not self.entries:
            raise InputError(
                f"{manifest.source}: all {len(manifest)} utterances are shorter than task.min_sample_size="
                f"{min_sample_size} samples; lower it or list longer audio"
            )
        skipped = len(manifest) - len(self.entries)
        logger.info("%s: %d utterances, %d too short", manifest.source, len(self.entries), skipped)
        self.sizes = np.array([entry.samples for entry in self.entries], dtype=np.int64)
        self.pipeline = pipeline
        self.seed = seed
        self.epoch = 1
        self.on_bad_audio = on_bad_audio
        self.set_bucket_info(0)
        # Without data workers, fairseq reads ahead in a daemon thread. An interpreter that ends while that thread is
        # inside torch aborts ("terminate called without an active exception"), so at its end no batch may be begun.
        self._at_work = threading.Lock()
        atexit.register(self._at_work.acquire)

    def check_headers(self, most: int) -> None:
        """Open up to ``most`` files, evenly spread over the manifest, and compare their headers with it.

        Raises InputError for the first that is missing, unreadable, of another rate, not mono or of another length.
        """
        step = max(1, len(self.entries) // max(most, 1))
        for entry in self.entries[::step] if most > 0 else ():
            path, where = self.manifest.audio_path(entry), self.manifest.where(entry)
            found = audio_samples(path, self.sample_rate, where=where)
            if found != entry.samples:
                raise InputError(
                    f"{where}: {path}: {found} samples, the manifest declares {entry.samples}; "
                    "the file is truncated or was replaced, write the manifest again"
                )

    def set_epoch(self, epoch: int) -> None:
        """Let crops, masks and augmentation of this epoch differ from those of the last."""
        self.epoch = epoch

    @property
    def can_reuse_epoch_itr_across_epochs(self) -> bool:
        """The order of utterances changes from epoch to epoch, their batches need not."""
        return True

    def __getstate__(self) -> dict[str, Any]:
        """Leave the lock behind: a spawned data worker has no such thread and needs none."""
        return {**self.__dict__, "_at_work": nullcontext()}

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read one utterance: {"id": its index, "source": wave (S,)}; unreadable ones have None and perhaps "error"."""
        with self._at_work:
            return self._read(index)

    def _read(self, index: int) -> dict[str, Any]:
        entry = self.entries[index]
        try:
            wave_S = read_audio(
                self.manifest.audio_path(entry),
                self.sample_rate,
                where=self.manifest.where(entry),
                declared_samples=entry.samples,
            )
        except InputError as error:
            if self.on_bad_audio == "raise":
                # Raised here, in a data worker, it would reach the user as two tracebacks.
                return {"id": index, "source": None, "error": str(error)}
            logger.warning("skipped bad audio: %s", error)
            return {"id": index, "source": None}
        return {"id": index, "source": wave_S}

    def collater(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Crop or pad to one length, augment, normalise: a fairseq batch whose net_input holds both views.

        net_input: source and source_aug (B, S), padding_mask (B, S) where padded, seed (one per batch). A batch with an
        utterance that must end the run is its message alone: {"error": message}. One without any readable utterance is
        noise and has "lost": every process must take part in an update, and this one counts for nothing.
        """
        with self._at_work:
            return self._collate(samples)

    def _collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        errors = [sample["error"] for sample in samples if "error" in sample]
        if errors:
            return {"error": errors[0]}
        if not samples:
            return {}
        read = [sample for sample in samples if sample["source"] is not None]
        if not read:
            return self._lost(samples)
        ids = [sample["id"] for sample in read]
        sizes = [sample["source"].numel() for sample in read]
        target = min(max(sizes) if self.pad else min(sizes), self.max_sample_size)
        waves = [self._crop(sample["source"], target, sample["id"]) for sample in read]
        generators = [generator_for(self.seed, "augment", self.epoch, index) for index in ids]
        net_input: dict[str, Any] = {
            "source": self._batch(waves, target),
            "source_aug": self._batch(self._augment(waves, generators), target),
            "seed": seed_for(self.seed, "batch", self.epoch, *ids),
        }
        if self.pad:
            lengths_B1 = torch.tensor([[wave.numel()] for wave in waves])
            net_input["padding_mask"] = torch.arange(target) >= lengths_B1
        return {"id": torch.tensor(ids), "net_input": net_input, "bad_audio": len(samples) - len(read)}

    def _lost(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        ids = [sample["id"] for sample in samples]
        generator = generator_for(self.seed, "lost", self.epoch, *ids)
        length = min(int(self.sizes[ids].min()), self.max_sample_size)
        noise_BS = torch.randn(len(ids), length, generator=generator)
        seed = seed_for(self.seed, "batch", self.epoch, *ids)
        net_input: dict[str, Any] = {"source": noise_BS, "source_aug": noise_BS, "seed": seed}
        if self.pad:
            net_input["padding_mask"] = torch.zeros(noise_BS.shape, dtype=torch.bool)
        return {"id": torch.tensor(ids), "net_input": net_input, "bad_audio": len(ids), "lost": True}

    def _augment(self, waves: list[torch.Tensor], generators: list[torch.Generator]) -> list[torch.Tensor]:
        if not self.pad:
            return list(self.pipeline(torch.stack(waves), generators))
        # One at a time, before the padding: it would fill with echoes and dilute every level measured over it.
        return [self.pipeline(wave[None], [own])[0] for wave, own in zip(waves, generators, strict=True)]

    def _batch(self, waves: list[torch.Tensor], target: int) -> torch.Tensor:
        if self.normalize:
            waves = [F.layer_norm(wave, wave.shape) for wave in waves]
        return torch.stack([F.pad(wave, (0, target - wave.numel())) for wave in waves])

    def _crop(self, wave_S: torch.Tensor, target: int, index: int) -> torch.Tensor:
        surplus = wave_S.numel() - target
        if surplus <= 0:
            return wave_S
        generator = generator_for(self.seed, "crop", self.epoch, index)
        start = int(torch.randint(surplus + 1, (), generator=generator))
        return wave_S[start : start + target]
