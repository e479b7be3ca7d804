"""Dataset and collater of pre-training: one crop for both views, everything drawn from (seed, epoch, utterance)."""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from fairseq.data.audio.raw_audio_dataset import RawAudioDataset
from torch.nn.utils.rnn import pad_sequence

from ccc_w2v.augment.pipeline import Drawn, Pipeline
from ccc_w2v.data.audio import audio_samples, read_audio, resampled_length
from ccc_w2v.data.left_out import name_left_out
from ccc_w2v.data.manifest import Entry, Manifest
from ccc_w2v.data.randomness import generator_for, seed_for
from ccc_w2v.data.rates import sample_rates
from ccc_w2v.dataset.frame_labels import FrameLabels
from ccc_w2v.dataset.views import Crops, two_views
from ccc_w2v.errors import InputError

logger = logging.getLogger(__name__)

BAD_AUDIO_POLICIES = ("raise", "skip")


class TwoViewDataset(RawAudioDataset):
    """Utterances of a manifest as (source, source_aug) batches.

    Batches are cut as fairseq cuts them: by audio length, all utterances cropped to the shortest (or padded to the
    longest with ``pad``). The crop is drawn before the augmentation, so nothing is augmented to be thrown away, and
    both views share it. An utterance that is missing, damaged or otherwise unusable follows ``on_bad_audio``, as does
    one whose noise is: "raise" hands the message on in its batch, for the task to end the run with; "skip" leaves the
    utterance out of its batch, logs it and counts it; a batch that is lost whole becomes noise, marked as "lost".

    With ``augment_device`` "gpu" a batch holds "crops" in place of the views, for the task to make them on the model's
    device. With ``resample`` recordings of another rate are resampled as they are read, else refused. With
    ``frame_labels`` a batch has "classes" (B, T), the aligned label of each frame of the crops, -1 for none.
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
        augment_device: str = "cpu",
        resample: bool = False,
        accept_left_out: bool = False,
        crop_step: int = 1,
        frame_labels: FrameLabels | None = None,
    ):
        super().__init__(sample_rate, max_sample_size, min_sample_size, shuffle, pad, normalize)
        self.manifest = manifest
        rates = sample_rates(manifest, skip=on_bad_audio == "skip") if resample else [sample_rate] * len(manifest)
        lengths = [
            resampled_length(entry.samples, rate or sample_rate, sample_rate)
            for entry, rate in zip(manifest.entries, rates, strict=True)
        ]
        long_enough = [index for index, length in enumerate(lengths) if length >= min_sample_size]
        if not long_enough:
            raise InputError(
                f"{manifest.source}: all {len(manifest)} utterances are shorter than task.min_sample_size="
                f"{min_sample_size} samples; lower it or list longer audio"
            )
        logger.info("%s: %d utterances", manifest.source, len(long_enough))
        short = [length for length in lengths if length < min_sample_size]
        why = f"shorter than task.min_sample_size={min_sample_size} ({min_sample_size / sample_rate:g} s)"
        name_left_out(manifest.source, short, lengths, sample_rate, why, accepted=accept_left_out)
        self.entries = [manifest.entries[index] for index in long_enough]
        self.sizes = np.array([lengths[index] for index in long_enough], dtype=np.int64)
        if crop_step < 1:
            raise InputError(f"task.crop_step={crop_step}: must be a whole number of at least 1 sample")
        self.crop_step = crop_step
        self.shortest = max(min_sample_size, 1)
        self.resample = resample
        self.frame_labels = frame_labels
        self.augment_device = augment_device
        self.pipeline = pipeline
        self.seed = seed
        self.epoch = 1
        self.on_bad_audio = on_bad_audio
        self.set_bucket_info(0)
        # Without data workers, fairseq reads ahead in a daemon thread. An interpreter that ends while that thread is
        # inside torch aborts ("terminate called without an active exception"), so at its end no batch may be begun.
        self._at_work = threading.Lock()
        atexit.register(self._at_work.acquire)

    def shortest_crop(self) -> int:
        """Return the samples of the shortest crop that an epoch may hold."""
        return min(int(self.sizes.min()), self.max_sample_size)

    def name_too_long(self, max_tokens: int | None, *, accepted: bool) -> None:
        """Log which share fairseq leaves out since one crop is more than a batch of ``max_tokens``.

        Raises InputError where that is more than half, unless accepted.
        """
        lengths = np.minimum(self.sizes, self.max_sample_size).tolist()
        too_long = [length for length in lengths if max_tokens and length > max_tokens]
        why = f"longer than dataset.max_tokens={max_tokens}, not cropped by task.max_sample_size,"
        name_left_out(self.manifest.source, too_long, lengths, self.sample_rate, why, accepted=accepted)

    def longest_crop(self, max_tokens: int | None, batch_size: int | None) -> int:
        """Return the samples of the longest crop that an epoch is sure to hold.

        fairseq leaves out what is longer than ``max_tokens``; a batch without padding is cropped to its shortest.
        """
        sizes = np.sort(np.minimum(self.sizes, self.max_sample_size))
        if max_tokens:
            sizes = sizes[sizes <= max_tokens]
        if not len(sizes):
            return 0
        together = min(batch_size or len(sizes), max_tokens // int(sizes[-1]) if max_tokens else len(sizes), len(sizes))
        return int(sizes[-1 if self.pad else -max(together, 1)])

    def check_headers(self, most: int) -> None:
        """Open up to ``most`` files, evenly spread over the manifest, and compare their headers with it.

        Raises InputError for the first that is missing, unreadable, of another rate, not mono or of another length.
        With ``on_bad_audio`` "skip" a warning counts them; it raises where they are all of the files looked at.
        """
        step = max(1, len(self.entries) // max(most, 1))
        looked_at = self.entries[::step] if most > 0 else []
        bad: list[str] = []
        for entry in looked_at:
            try:
                self._check_header(entry)
            except InputError as error:
                if self.on_bad_audio == "raise":
                    raise InputError(f"{error}; or set task.on_bad_audio=skip") from error
                bad.append(str(error))
        if bad and len(bad) == len(looked_at):
            raise InputError(f"{self.manifest.source}: none of {len(bad)} files can be used; the first: {bad[0]}")
        if bad:
            logger.warning(
                "%s: %d of %d files looked at cannot be used and are skipped, among them: %s",
                *(self.manifest.source, len(bad), len(looked_at), " | ".join(bad[:3])),
            )

    def _check_header(self, entry: Entry) -> None:
        path, where = self.manifest.audio_path(entry), self.manifest.where(entry)
        samples = audio_samples(path, None if self.resample else self.sample_rate, where=where)
        if samples != entry.samples:
            raise InputError(
                f"{where}: {path}: {samples} samples, the manifest declares {entry.samples}; "
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
                resample=self.resample,
            )
        except InputError as error:
            return {"id": index, "source": None, **self._bad(error)}
        return {"id": index, "source": wave_S}

    def _bad(self, error: InputError) -> dict[str, str]:
        """Follow the policy: a message that ends the run, or a line in the log."""
        if self.on_bad_audio == "raise":
            # Raised here, in a data worker, it would reach the user as two tracebacks.
            return {"error": str(error)}
        logger.warning("skipped bad audio: %s", error)
        return {}

    def collater(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Crop or pad to one length, augment, normalise: a fairseq batch whose net_input holds both views.

        net_input: source and source_aug (B, S), padding_mask (B, S) and lengths where padded, seed (one per batch). A
        batch with an utterance that must end the run is its message alone: {"error": message}. One without any readable
        utterance is noise and has "lost": every process must take part in an update, and this one counts for nothing.
        """
        with self._at_work:
            return self._collate(samples)

    def _collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
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
            drawn: Drawn = self.pipeline.draw(generator_for(self.seed, "augment", self.epoch, index), len(crop_S))
            return {"id": index, "wave": crop_S, "start": start, "drawn": self.pipeline.load(drawn, len(crop_S))}
        except InputError as error:
            return {"id": index, **self._bad(error)}

    def _lost(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        ids = [sample["id"] for sample in samples]
        generator = generator_for(self.seed, "lost", self.epoch, *ids)
        length = self.length_of_crops([int(self.sizes[ids].min())])
        noise_BS = torch.randn(len(ids), length, generator=generator)
        seed = seed_for(self.seed, "batch", self.epoch, *ids)
        net_input: dict[str, Any] = {"source": noise_BS, "source_aug": noise_BS, "seed": seed}
        if self.pad:
            net_input["padding_mask"] = torch.zeros(noise_BS.shape, dtype=torch.bool)
            net_input["lengths"] = (length,) * len(ids)
        classes = self._classes([(index, 0) for index in ids], length)  # to be there, though nothing counts
        return {"id": torch.tensor(ids), **classes, "net_input": net_input, "bad_audio": len(ids), "lost": True}

    def _classes(self, crops: Sequence[tuple[int, int]], samples: int) -> dict[str, torch.Tensor]:
        """Return the labels of the frames of crops (index, start) of some samples, where there are alignments."""
        if self.frame_labels is None:
            return {}
        rows = [self.frame_labels.of(self.entries[index].path, start, samples) for index, start in crops]
        return {"classes": torch.stack(rows)}

    def _start(self, wave_S: torch.Tensor, target: int, index: int) -> int:
        """Draw where a crop of ``target`` samples begins; 0 where there is nothing to crop."""
        surplus = wave_S.numel() - target
        if surplus <= 0:
            return 0
        generator = generator_for(self.seed, "crop", self.epoch, index)
        return int(torch.randint(surplus + 1, (), generator=generator))
