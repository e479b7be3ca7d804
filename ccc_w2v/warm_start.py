"""A start for short pre-trainings: the feature encoder fitted to log-mel energies of the same unlabelled speech.

A contrastive pre-training of a few thousand updates leaves its feature encoder and its quantizer nearly as they were
drawn (docs/evidence.md), so that its targets stay codes of random features. Fitted first, in a minute on one core, they
are codes of spectra. It needs no labels and changes nothing of the architecture. Regressing spectra is one of the
tasks of PASE (Pascual et al., arXiv 1904.03416). Letters: B crops, S samples, T frames, F channels, M mel bands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import nn
from tqdm import tqdm

from ccc_w2v.capacity import convolutions, samples_of
from ccc_w2v.checkpoint import parity
from ccc_w2v.checkpoint.plain import to_plain, write_plain
from ccc_w2v.data.audio import read_samples
from ccc_w2v.data.manifest import Manifest
from ccc_w2v.data.randomness import generator_for
from ccc_w2v.errors import InputError
from ccc_w2v.files import refuse_existing
from ccc_w2v.planning.recipe import compose_config

WINDOW_SECONDS = 0.025
LOWEST_HZ = 40.0
ENERGY_FLOOR = 1e-5  # of waves with unit variance: below any speech


@dataclass(frozen=True)
class WarmStartSettings:
    """How the feature encoder is fitted; the defaults are those of recipes/small."""

    updates: int = 400
    crops: int = 6  # in each update
    seconds: float = 5.0  # of each crop
    learning_rate: float = 1e-3
    warmup: float = 0.1  # share of the updates; the learning rate then falls to zero
    mels: int = 40
    clip_norm: float = 5.0
    seed: int = 1


DEFAULTS = WarmStartSettings()


def write_start(
    config: Path,
    overrides: Sequence[str],
    out: Path,
    manifest: Manifest | None = None,
    settings: WarmStartSettings = DEFAULTS,
    *,
    overwrite: bool = False,
) -> list[float]:
    """Write a configuration's model as a plain checkpoint, warm-started on ``manifest``; returns the loss by update.

    Its weights are drawn as fairseq-hydra-train draws them from common.seed; without a manifest they stay so. Raises
    InputError for a configuration, recordings or settings that cannot be used.
    """
    from fairseq import tasks, utils

    refuse_existing(out, overwrite)
    _check(settings)
    cfg = compose_config(config, overrides)
    task = tasks.setup_task(cfg.task)
    # fairseq draws weights from torch's global generator; it is left as it was.
    with torch.random.fork_rng(devices=[]):
        utils.set_torch_seed(cfg.common.seed)
        model = task.build_model(cfg.model)
    losses = []
    if manifest is not None:
        rate = cfg.task.sample_rate
        waves = RandomCrops(manifest, round(settings.seconds * rate), rate, cfg.task.normalize, settings)
        losses = fit_feature_encoder(model, waves, rate, settings)
    # With values in place of interpolations, which a checkpoint must not hold.
    values = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    state = {"cfg": values, "model": model.state_dict(), "optimizer_history": []}
    write_plain(to_plain(state), out, overwrite=overwrite)
    return losses


def _check(settings: WarmStartSettings) -> None:
    for name in ("updates", "crops", "mels"):
        if getattr(settings, name) < 1:
            raise InputError(f"{name} {getattr(settings, name)}: expected a whole number of at least 1")
    if not 2 * WINDOW_SECONDS <= settings.seconds < math.inf or settings.learning_rate <= 0:
        raise InputError(
            f"expected crops of at least {2 * WINDOW_SECONDS} s and a positive learning rate, got {settings.seconds:g} "
            f"and {settings.learning_rate:g}"
        )


class RandomCrops:
    """Crops of one length of a manifest's recordings, drawn anew for each update from the seed."""

    def __init__(
        self, manifest: Manifest, samples: int, sample_rate: int, normalize: bool, settings: WarmStartSettings
    ):
        """Keep the recordings that have so many samples; InputError where none has."""
        self.long_enough = [entry for entry in manifest.entries if entry.samples >= samples]
        if not self.long_enough:
            raise InputError(f"{manifest.source}: no recording has {samples / sample_rate:g} s; lower --seconds")
        self.manifest, self.samples, self.sample_rate = manifest, samples, sample_rate
        self.normalize, self.settings = normalize, settings

    def __call__(self, update: int) -> torch.Tensor:
        """Return the waves (B, S) of an update, each of mean 0 and variance 1 where the model's audio is."""
        generator = generator_for(self.settings.seed, "warm start", update)
        waves = []
        for _ in range(self.settings.crops):
            entry = self.long_enough[_draw(len(self.long_enough), generator)]
            wave = read_samples(
                self.manifest.audio_path(entry),
                self.sample_rate,
                where=self.manifest.where(entry),
                declared_samples=entry.samples,
                start=_draw(entry.samples - self.samples + 1, generator),
                frames=self.samples,
            )
            waves.append(parity.normalized(torch.from_numpy(wave), self.normalize))
        return torch.stack(waves)


def _draw(below: int, generator: torch.Generator) -> int:
    return int(torch.randint(below, (), generator=generator))


def fit_feature_encoder(
    model: Any, waves: Callable[[int], torch.Tensor], sample_rate: int, settings: WarmStartSettings
) -> list[float]:
    """Fit a wav2vec 2.0 model's feature encoder and its layer norm, in place; returns the loss of each update.

    A linear layer on the normalised features says the log-mel energies around each frame; it is thrown away.
    """
    field = samples_of(model, 1)
    spectra = LogMel(sample_rate, settings.mels, field, samples_of(model, 2) - field)
    head = nn.Linear(convolutions(model)[-1].out_channels, settings.mels, device="meta").to_empty(device="cpu")
    generator = generator_for(settings.seed, "warm start head")
    for parameter in head.parameters():
        nn.init.uniform_(parameter, -(head.in_features**-0.5), head.in_features**-0.5, generator=generator)
    parameters = [*model.feature_extractor.parameters(), *model.layer_norm.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, settings.learning_rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, settings.updates, pct_start=settings.warmup
    )
    losses = []
    model.train()
    with tqdm(total=settings.updates, desc="warm start", unit="update", leave=False) as bar:
        for update in range(settings.updates):
            waves_BS = waves(update)
            features_BTF = model.layer_norm(model.feature_extractor(waves_BS).transpose(1, 2))
            loss = F.mse_loss(head(features_BTF), spectra(waves_BS, features_BTF.size(1)))
            if not torch.isfinite(loss):
                raise InputError(
                    f"the loss is not finite after {update} updates: ccc-w2v check names recordings with NaN, or lower "
                    "--learning-rate"
                )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            bar.update()
            bar.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
    return losses


class LogMel:
    """Log-mel energies around the middle of each frame's receptive field, each band with mean 0 and variance 1."""

    def __init__(self, sample_rate: int, mels: int, field: int, hop: int):
        from torchaudio.functional import melscale_fbanks

        self.window_W = torch.hann_window(round(WINDOW_SECONDS * sample_rate))
        self.points = 2 ** (len(self.window_W) - 1).bit_length()
        bins = self.points // 2 + 1
        self.bands_KM = melscale_fbanks(bins, LOWEST_HZ, 0.49 * sample_rate, mels, sample_rate)
        self.offset, self.hop = (field - len(self.window_W)) // 2, hop

    def __call__(self, waves_BS: torch.Tensor, frames: int) -> torch.Tensor:
        """Return (B, frames, M) of waves (B, S)."""
        width = len(self.window_W)
        # Where a frame sees less than the window, and at the end, zeros stand in.
        padded_BS = F.pad(waves_BS, (max(0, -self.offset), width))
        windows_BTW = padded_BS[:, max(0, self.offset) :].unfold(1, width, self.hop)[:, :frames] * self.window_W
        power_BTK = torch.fft.rfft(windows_BTW, n=self.points).abs().square()
        log_BTM = (power_BTK @ self.bands_KM + ENERGY_FLOOR).log()
        deviation_B1M = log_BTM.std(dim=1, keepdim=True).clamp(min=1e-3)
        return (log_BTM - log_BTM.mean(dim=1, keepdim=True)) / deviation_B1M
