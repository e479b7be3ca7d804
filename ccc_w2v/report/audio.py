"""The audio of a report: estimated ratios of speech to noise, and recordings as data that a page carries in itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import soundfile
from tqdm import tqdm

from ccc_w2v.data.audio import audio_rate, read_audio
from ccc_w2v.data.manifest import Entry, Manifest
from ccc_w2v.data.trn import utterance_ids
from ccc_w2v.errors import InputError
from ccc_w2v.report.snr import estimate_snr


@dataclass(frozen=True)
class UtteranceAudio:
    """A manifest's recordings by utterance id; files and zip slices alike."""

    manifest: Manifest
    entry_of: Mapping[str, Entry]

    def read(self, utterance: str) -> tuple[np.ndarray, int]:
        """Return a recording's samples (S,) and its rate in Hz; raises InputError as read_audio does."""
        entry = self.entry_of[utterance]
        path, where = self.manifest.audio_path(entry), self.manifest.where(entry)
        rate = audio_rate(path, where=where)
        return read_audio(path, rate, where=where, declared_samples=entry.samples).numpy(), rate


def find_recordings(manifest: Manifest, utterances: Iterable[str]) -> UtteranceAudio:
    """Return the recordings of ``utterances``; raises InputError where the manifest lacks one of them."""
    entry_of = dict(zip(utterance_ids(manifest), manifest.entries, strict=True))
    missing = [utterance for utterance in utterances if utterance not in entry_of]
    if missing:
        raise InputError(
            f"{manifest.source}: lacks {len(missing)} utterances of the references: {', '.join(missing[:3])}; name the "
            "manifest that was decoded"
        )
    return UtteranceAudio(manifest, entry_of)


def estimate_all(recordings: UtteranceAudio, utterances: Iterable[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the length of each utterance in seconds and its estimated signal-to-noise ratio in dB."""
    seconds, ratios = {}, {}
    for utterance in tqdm(list(utterances), desc="estimating SNR", unit="utt"):
        wave, rate = recordings.read(utterance)
        seconds[utterance], ratios[utterance] = len(wave) / rate, estimate_snr(wave)
    return seconds, ratios


def data_uris(recordings: UtteranceAudio, utterances: Iterable[str], max_bytes: int) -> dict[str, str]:
    """Return recordings as data URIs of FLAC, without loss, as long as all of them take at most ``max_bytes``.

    One that would go beyond is left out, and a shorter one after it may still fit.
    """
    uris: dict[str, str] = {}
    size = 0
    for utterance in utterances:
        wave, rate = recordings.read(utterance)
        content = io.BytesIO()
        soundfile.write(content, wave, rate, format="FLAC", subtype="PCM_16")
        uri = "data:audio/flac;base64," + base64.b64encode(content.getvalue()).decode("ascii")
        if size + len(uri) <= max_bytes:
            uris[utterance] = uri
            size += len(uri)
    return uris
