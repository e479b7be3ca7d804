"""A page that lets a person hear the codes: the frames that chose each most strongly, and which codes follow which."""

from __future__ import annotations

import base64
import importlib.resources
import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import soundfile
import torch
from matplotlib.figure import Figure

from ccc_w2v.data.manifest import Manifest
from ccc_w2v.files import write_whole
from ccc_w2v.probe.code_flow import cluster_by_flow, transition_counts
from ccc_w2v.report.code_flow import flow_figure, flow_rows

if TYPE_CHECKING:
    from ccc_w2v.probe.code_examples import CodeUse, Example
    from ccc_w2v.probe.features import Encoder

AROUND = 0.2  # seconds of audio before and behind a frame
SHOWN_LABELS = 3


def write_codes_page(
    out: Path,
    encoder: Encoder,
    manifest: Manifest,
    use: CodeUse,
    labels: Mapping[tuple[int, int], Counter[str]] | None = None,
    *,
    clusters: int,
    seed: int,
    settings: str,
) -> None:
    """Write one HTML file with all sounds and pictures in it: codes by use, dead codes, flows of clusters.

    ``labels``: how often each letter or phone is aligned with a frame of a (group, code).
    """
    groups = []
    for group, counts_V in enumerate(use.counts_GV):
        weights_NN = transition_counts([codes_TG[:, group] for codes_TG in use.sequences], len(counts_V))
        flow = cluster_by_flow(weights_NN, clusters, torch.Generator().manual_seed(seed))
        rows = flow_rows(flow, weights_NN)
        title = f"group {group + 1}: which codes lead to which"
        order = counts_V.argsort(descending=True, stable=True).tolist()
        groups.append(
            {
                "picture": _image(flow_figure(flow, rows, title)),
                "flows": rows,
                "codes": [
                    {
                        "code": code,
                        "share": float(counts_V[code] / counts_V.sum()),
                        "labels": _commonest((labels or {}).get((group, code))),
                        "examples": [_shown(encoder, manifest, example) for example in use.examples[group, code]],
                    }
                    for code in order
                    if counts_V[code]
                ],
                "dead": [code for code in range(len(counts_V)) if not counts_V[code]],
            }
        )
    environment = jinja2.Environment(loader=jinja2.PackageLoader("ccc_w2v", "report"), autoescape=True)
    style = (importlib.resources.files("ccc_w2v.report") / "page.css").read_text(encoding="utf-8")
    template = environment.get_template("codes.html.j2")
    write_whole(
        out,
        template.render(
            groups=groups, style=style, settings=settings, manifest=Path(manifest.source).name, labelled=bool(labels)
        ),
    )


def _commonest(counts: Counter[str] | None) -> list[tuple[str, float]]:
    """Return a code's three commonest labels with their shares of its aligned frames."""
    return [(label, count / counts.total()) for label, count in counts.most_common(SHOWN_LABELS)] if counts else []


def _shown(encoder: Encoder, manifest: Manifest, example: Example) -> dict[str, Any]:
    """Return what the page shows of a frame: its sound, its spectrogram, where it is from."""
    from ccc_w2v.probe.features import read_wave  # loads fairseq

    entry = manifest.entries[-example.utterance]
    rate = encoder.sample_rate
    wave_S = read_wave(encoder, manifest, entry)
    frames = int(encoder.network._get_feat_extract_output_lengths(torch.tensor([len(wave_S)]))[0])
    middle = (-example.frame + 0.5) * len(wave_S) / frames
    begin = max(0, int(middle - AROUND * rate))
    cut_S = wave_S[begin : int(middle + AROUND * rate)]
    cut_S = 0.9 * cut_S / cut_S.abs().max().clamp_min(1e-9)
    sound = io.BytesIO()
    soundfile.write(sound, cut_S.numpy(), rate, format="WAV", subtype="PCM_16")
    return {
        "sound": f"data:audio/wav;base64,{base64.b64encode(sound.getvalue()).decode()}",
        "picture": _image(_spectrogram(cut_S, rate, (middle - begin) / rate), dpi=40),
        "where": f"{Path(entry.path).name} at {middle / rate:.2f} s",
        "probability": example.probability,
    }


def _spectrogram(wave_S: torch.Tensor, rate: int, moment: float) -> Figure:
    figure = Figure(figsize=(2.4, 1.2))
    axes = figure.add_axes((0, 0, 1, 1))
    size = min(256, len(wave_S))
    axes.specgram(0.1 * wave_S.numpy() + 1e-12, NFFT=size, noverlap=size * 3 // 4, Fs=rate, vmin=-130, vmax=-40)
    axes.axvline(moment, color="white", linewidth=1)
    axes.set_axis_off()
    return figure


def _image(figure: Figure, dpi: int = 90) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
