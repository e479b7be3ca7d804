"""What a pre-training shows of itself in TensorBoard at each validation: codes over time, and clusters.

Beside the pairs of views as sound: the spectrograms of both views with the codes that their frames choose, the
similarities of an utterance's targets in the order of their clusters, the sizes of the clusters. Nothing of it touches
the training: it runs without gradients, in evaluation mode, with its own random draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ccc_w2v.losses.views import ORIGINAL, SUFFIX

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter


@torch.no_grad()
def log_codes_and_clusters(
    writer: SummaryWriter, model: Any, criterion: Any, samples: Sequence[dict[str, Any]], sample_rate: int, update: int
) -> None:
    """Write the pictures of a few batches of one utterance each, made by the model and the criterion as they are."""
    sizes: list[Tensor] = []
    with _evaluating(model, criterion):
        for number, sample in enumerate(samples, start=1):
            views = sample["net_input"]
            waves = {name: views[f"source{end}"] for name, end in SUFFIX.items() if f"source{end}" in views}
            codes = {name: codes_over_time(model, wave_BS) for name, wave_BS in waves.items()}
            shown = {name: wave_BS[0].float().cpu() for name, wave_BS in waves.items()}
            writer.add_figure(f"codes {number}", codes_figure(shown, codes, sample_rate), update)
            if not hasattr(criterion, "clusters_of"):
                continue  # fairseq's own criterion, of an arm with one view
            output = model(**views)
            labels, clusters = criterion.clusters_of(output, views.get("seed", 0))
            if labels:
                figure = similarity_figure(output.original.target_BMD[0].float().cpu(), labels[ORIGINAL][0].cpu())
                writer.add_figure(f"targets {number} by cluster", figure, update)
                both = torch.cat([labels_BM.flatten() for labels_BM in labels.values()])
                sizes.append(torch.bincount(both, minlength=clusters).cpu())
    if sizes:
        writer.add_histogram("cluster sizes", torch.cat(sizes), update)


@contextmanager
def _evaluating(*modules: Any) -> Iterator[None]:
    """Turn dropout off, and on again where it was on."""
    modes = [module.training for module in modules]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.train(mode)


def codes_over_time(model: Any, wave_BS: Tensor) -> Tensor:
    """Return the likeliest codes of all frames of the first of some waves, (T, G), on the CPU; in evaluation mode."""
    frames = int(model._get_feat_extract_output_lengths(torch.tensor([wave_BS.size(1)]))[0])
    everything_BT = torch.ones(1, frames, dtype=torch.bool)
    features_BTF = model.encode_targets(wave_BS[:1], everything_BT, whole=True).features_BMF
    quantized = model.quantize(features_BTF.to(wave_BS.dtype), None, torch.Generator())
    return quantized.codes_BMG[0].cpu()


def codes_figure(waves: dict[str, Tensor], codes: dict[str, Tensor], sample_rate: int) -> Figure:
    """Draw each wave's (S,) spectrogram and below it its codes (T, G) over time, a colour for each code."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(waves), 4.2), layout="constrained")
    panels = figure.subplots(2, len(waves), sharex="col", squeeze=False, height_ratios=[3, 1])
    for (name, wave_S), (spectrogram, strip) in zip(waves.items(), panels.T, strict=True):
        seconds = len(wave_S) / sample_rate
        level = 0.1 * wave_S / wave_S.std().clamp(min=1e-9)
        spectrogram.specgram(level.numpy() + 1e-12, NFFT=400, noverlap=240, Fs=sample_rate, vmin=-140, vmax=-40)
        spectrogram.set(title=name, ylabel="Hz")
        codes_GT = codes[name].T
        # Neighbouring codes have nothing to do with each other: colours that are far apart.
        colours = (codes_GT * 7) % 20
        groups = len(codes_GT)
        extent = (0, seconds, groups + 0.5, 0.5)
        strip.imshow(
            colours.numpy(), aspect="auto", cmap="tab20", vmin=0, vmax=19, interpolation="nearest", extent=extent
        )
        strip.set(xlabel="seconds", ylabel="codes of group", yticks=range(1, groups + 1))
    return figure


def similarity_figure(target_MD: Tensor, labels_M: Tensor) -> Figure:
    """Draw the cosines of all pairs of an utterance's targets (M, D), sorted by their clusters, with the borders."""
    from matplotlib.figure import Figure

    order_M = labels_M.argsort(stable=True)
    unit_MD = F.normalize(target_MD[order_M], dim=-1)
    borders = (labels_M[order_M].diff() != 0).nonzero().flatten().add(0.5).tolist()
    figure = Figure(figsize=(5, 4.2), layout="constrained")
    axes = figure.add_subplot()
    picture = axes.imshow((unit_MD @ unit_MD.T).numpy(), vmin=-1, vmax=1, cmap="RdBu_r", interpolation="nearest")
    for border in borders:
        axes.axhline(border, color="black", linewidth=0.6)
        axes.axvline(border, color="black", linewidth=0.6)
    axes.set(title=f"{len(borders) + 1} clusters in {len(order_M)} masked frames", xlabel="masked frame, by cluster")
    figure.colorbar(picture, label="cosine")
    return figure
