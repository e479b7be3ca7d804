"""The second view's share of a step where it is made on the device."""

from __future__ import annotations

import statistics

import torch

from ccc_w2v.augment.pipeline import load_pipeline
from ccc_w2v.benchmark import measure
from ccc_w2v.benchmark.step import Bench
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.data.synthetic import RATE, corpus
from ccc_w2v.dataset.two_view import TwoViewDataset
from ccc_w2v.dataset.views import two_views
from ccc_w2v.gpu_report.section import ReportSection, ReportSettings

PRESETS = ("paper", "noise_reverb", "telephone")
WITHOUT_ROOMS = ("telephone",)  # a thousand rooms are simulated once, which takes a minute


def augmentation(settings: ReportSettings) -> ReportSection:
    """Measure making both views on the device (task.augment_device=gpu) beside a step in bfloat16."""
    samples = settings.samples // settings.utterances
    bench, rows = Bench(settings.step(precision="bf16")), []
    step = statistics.median(measure.interleaved({"step": bench.ours}, settings.rounds, settings.torch_device)["step"])
    with corpus(samples / RATE, None, None) as used:
        manifests = {"noise_manifest": used.noise, "music_manifest": used.noise, "rir_manifest": used.rirs}
        for preset in WITHOUT_ROOMS if settings.size == "tiny" else PRESETS:
            pipeline = load_pipeline(preset, RATE, fallbacks={"babble_manifest": used.speech}, **manifests)
            pipeline.prepare()
            dataset = TwoViewDataset(
                read_manifest(used.speech),
                pipeline,
                RATE,
                1,
                max_sample_size=samples,
                min_sample_size=samples,
                normalize=True,
                augment_device="gpu",
                accept_left_out=True,
            )
            crops = dataset.collater([dataset[row] for row in range(settings.utterances)])["crops"]

            def views(pipeline: object = pipeline, crops: object = crops) -> None:
                with torch.no_grad():
                    two_views(crops.to(settings.torch_device), pipeline, True)  # type: ignore[attr-defined, arg-type]

            taken = statistics.median(
                measure.interleaved({preset: views}, settings.rounds, settings.torch_device)[preset]
            )
            share = {"of a step in bf16": round(taken / (taken + step), 4)}
            rows.append({"augmentation": preset, "seconds": round(taken, 4), **share})
    return ReportSection(rows, ["Decoding and cropping stay with the data workers: `ccc-w2v benchmark loader`."])
