"""Dataset of pre-training: the utterances of a manifest, read and checked."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ccc_w2v.augment.pipeline import Pipeline
from ccc_w2v.data.audio import audio_samples, read_audio, resampled_length
from ccc_w2v.data.left_out import name_left_out
from ccc_w2v.data.manifest import Entry, Manifest
from ccc_w2v.data.rates import sample_rates
from ccc_w2v.data.remote import PATIENCE, Patience, UnreachableError, is_address
from ccc_w2v.data.stored_audio import with_member
from ccc_w2v.dataset.frame_labels import FrameLabels
from ccc_w2v.dataset.two_view_batches import TwoViewBatches
from ccc_w2v.dataset.utterances import Utterances
from ccc_w2v.errors import InputError

logger = logging.getLogger(__name__)

BAD_AUDIO_POLICIES = ("raise", "skip")
REMOTE_HEADERS = 32  # compared at start of recordings on a network, each of which is fetched whole for it
MOST_UNREACHABLE = 32  # recordings in a row: the server is gone, and not an utterance bad


class TwoViewDataset(TwoViewBatches):
    """Utterances of a manifest as (source, source_aug) batches.

    An utterance that is missing, damaged or otherwise unusable follows ``on_bad_audio``, as does one whose noise is:
    "raise" hands the message on in its batch, for the task to end the run with; "skip" leaves the utterance out of its
    batch, logs it and counts it; a batch that is lost whole becomes noise, marked as "lost". A server that is gone for
    good ends the run in both. ``patience`` is for recordings on a network, ``requests`` of which are read at once. With
    ``resample``
    recordings of another rate are resampled as they are read, else refused. With ``frame_labels`` a batch has "classes"
    (B, T), the aligned label of each frame of the crops, -1 for none.
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
        patience: Patience = PATIENCE,
        requests: int = 8,
    ):
        lengths = manifest.samples
        if resample:
            rates = sample_rates(manifest, skip=on_bad_audio == "skip")
            lengths = resampled_length(lengths, np.where(rates > 0, rates, sample_rate), sample_rate)
        short = np.flatnonzero(lengths < min_sample_size)
        if len(short) == len(lengths):
            raise InputError(
                f"{manifest.source}: all {len(manifest)} utterances are shorter than task.min_sample_size="
                f"{min_sample_size} samples; lower it or list longer audio"
            )
        logger.info("%s: %d utterances", manifest.source, len(lengths) - len(short))
        why = f"shorter than task.min_sample_size={min_sample_size} ({min_sample_size / sample_rate:g} s)"
        name_left_out(manifest.source, lengths[short], lengths, sample_rate, why, accepted=accept_left_out)
        super().__init__(
            Utterances(manifest, lengths, short),
            pipeline,
            sample_rate,
            seed,
            max_sample_size=max_sample_size,
            min_sample_size=min_sample_size,
            shuffle=shuffle,
            pad=pad,
            normalize=normalize,
            augment_device=augment_device,
            crop_step=crop_step,
        )
        self.manifest = manifest
        self.resample = resample
        self.frame_labels = frame_labels
        self.on_bad_audio = on_bad_audio
        self.patience = patience
        self.at_once = requests if is_address(manifest.root) else 1
        self._unreachable = 0

    def check_headers(self, most: int) -> None:
        """Open up to ``most`` files, evenly spread over the manifest, and compare their headers with it.

        Raises InputError for the first that is missing, unreadable, of another rate, not mono or of another length.
        With ``on_bad_audio`` "skip" a warning counts them; it raises where they are all of the files looked at.
        """
        if is_address(self.manifest.root):
            most = min(most, REMOTE_HEADERS)
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
        rate = None if self.resample else self.sample_rate
        samples = audio_samples(path, rate, where=where, patience=self.patience)
        if samples != entry.samples:
            raise InputError(
                f"{where}: {path}: {samples} samples, the manifest declares {entry.samples}; "
                "the file is truncated or was replaced, write the manifest again"
            )

    def _read(self, index: int) -> dict[str, Any]:
        entry = self.entries[index]
        try:
            wave_S = read_audio(
                self.manifest.audio_path(entry),
                self.sample_rate,
                where=self.manifest.where(entry),
                declared_samples=entry.samples,
                resample=self.resample,
                patience=self.patience,
            )
        except UnreachableError as error:
            self._unreachable += 1
            return {"id": index, "source": None, **self._gone(error, index)}
        except InputError as error:
            named = with_member(error, self.manifest.audio_path(entry), self.patience)
            return {"id": index, "source": None, **self._bad(named, index)}
        self._unreachable = 0
        return {"id": index, "source": wave_S}

    def _classes(self, crops: Sequence[tuple[int, int]], samples: int) -> dict[str, torch.Tensor]:
        if self.frame_labels is None:
            return {}
        rows = [self.frame_labels.of(self.entries[index].path, start, samples) for index, start in crops]
        return {"classes": torch.stack(rows)}

    def _gone(self, error: UnreachableError, index: int) -> dict[str, str]:
        """Follow the policy, until so many recordings in a row were unreachable that there is nothing to train on."""
        if self._unreachable < MOST_UNREACHABLE:
            return self._bad(error, index)
        return {"error": f"{error}; {self._unreachable} recordings in a row were unreachable"}

    def _bad(self, error: InputError, index: int) -> dict[str, str]:
        """Follow the policy: a message that ends the run, or a line in the log."""
        if self.on_bad_audio == "raise":
            # Raised here, in a data worker, it would reach the user as two tracebacks.
            return {"error": str(error)}
        logger.warning("skipped bad audio: %s", error)
        return {}
