"""What the model hears, for a person: spectrograms side by side, and pairs of views for TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter


def spectrogram_figure(waves: dict[str, Tensor], sample_rate: int) -> Figure:
    """Draw the spectrogram of each wave (S,) under its title, on one scale."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(waves), 3.5), layout="constrained")
    panels = figure.subplots(1, len(waves), sharey=True, squeeze=False)[0]
    for panel, (title, wave_S) in zip(panels, waves.items(), strict=True):
        # Silence has no logarithm; one step of 16 bits is far below what can be seen.
        panel.specgram(wave_S.numpy() + 1e-12, NFFT=400, noverlap=240, Fs=sample_rate, vmin=-140, vmax=-40)
        panel.set(title=title, xlabel="seconds")
    panels[0].set_ylabel("Hz")
    return figure


def log_pairs(writer: SummaryWriter, pairs: Sequence[tuple[Tensor, Tensor]], sample_rate: int, update: int) -> None:
    """Write original and augmented wave (S,) of each pair to TensorBoard, as sound and as spectrograms."""
    for number, (original_S, augmented_S) in enumerate(pairs, start=1):
        # Both by one factor, so that a gain of the augmentation is heard; full scale is what a browser can play.
        peak = max(float(original_S.abs().max()), float(augmented_S.abs().max()), 1e-9)
        views = {"original": original_S / peak, "augmented": augmented_S / peak}
        for name, wave_S in views.items():
            writer.add_audio(f"pair {number}/{name}", wave_S.unsqueeze(0), update, sample_rate)
        # 0.1 is speech at -20 dB of full scale: the scale of the colours is made for that.
        quiet = {name: 0.1 * wave_S / wave_S.std().clamp(min=1e-9) for name, wave_S in views.items()}
        writer.add_figure(f"pair {number}/spectrograms", spectrogram_figure(quiet, sample_rate), update)
