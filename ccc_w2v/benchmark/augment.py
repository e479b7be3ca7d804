"""`augment`: how fast one core decodes, crops and augments; seconds of audio per second, from FLAC to batch."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from ccc_w2v.augment.pipeline import TRANSFORMS, Pipeline, RandomTransform, find_pipeline, load_pipeline
from ccc_w2v.benchmark import measure
from ccc_w2v.data.audio import read_audio
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.data.randomness import generator_for
from ccc_w2v.data.synthetic import RATE, Corpus, corpus
from ccc_w2v.dataset.two_view import TwoViewDataset

CPU = torch.device("cpu")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `ccc-w2v benchmark augment`."""
    parser.add_argument("--pipeline", default="paper", help="preset or YAML file measured whole (default: paper)")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of a crop (default: 15)")
    parser.add_argument("--batch", type=int, default=6, help="utterances of a batch (default: 6)")
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each part (default: 15)")
    parser.add_argument("--manifest", help="speech, .tsv at 16 kHz (default: made for the measurement)")
    parser.add_argument("--noise-manifest", help="noises to mix in, .tsv (default: made for the measurement)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure every part, interleaved, on one thread; return realtime_per_core of the pipeline and of each part.

    A part's time is the processor's, not the clock's: per core means what a core does, whoever else uses the machine.
    realtime_by_the_clock is the pipeline's other number, the same on a machine at rest.
    """
    torch.set_num_threads(1)
    samples = round(args.seconds * RATE)
    find_pipeline(args.pipeline)
    with corpus(args.seconds, args.manifest, args.noise_manifest) as used:
        functions, pipeline = _parts(args, used, samples)
        busy: dict[str, list[float]] = {name: [] for name in functions}
        timed = {name: _timing_the_processor(function, busy[name]) for name, function in functions.items()}
        clock = measure.interleaved(timed, args.rounds, CPU)
    whole, audio = f"all of {args.pipeline}", args.seconds * args.batch
    # The first round is to warm up.
    medians = {name: statistics.median(taken[1:]) for name, taken in busy.items()}
    print(f"medians of {args.rounds} interleaved rounds of {args.batch} x {args.seconds:g} s, {measure.machine(CPU)}")
    print(f"{'part':>28}{'ms per crop':>14}{'times real time':>18}")
    for name, taken in medians.items():
        print(f"{name:>28}{1000 * taken / args.batch:14.2f}{audio / taken:18.0f}")
    realtime = {name: round(audio / taken) for name, taken in medians.items()}
    return {
        "realtime_per_core": realtime[whole],
        "realtime_by_the_clock": round(audio / statistics.median(clock[whole])),
        "pipeline": str(pipeline),
        "parts": realtime,
    }


def _timing_the_processor(function: Callable[[], object], taken: list[float]) -> Callable[[], object]:
    def call() -> None:
        began = time.process_time()
        function()
        # A part that is too short for the clock's steps still divides.
        taken.append(max(time.process_time() - began, 1e-9))

    return call


def _parts(args: argparse.Namespace, used: Corpus, samples: int) -> tuple[dict[str, Callable[[], object]], Pipeline]:
    """Return what is measured, each a call over one batch, and the pipeline."""
    manifests = {"noise_manifest": used.noise, "music_manifest": used.noise, "rir_manifest": used.rirs}
    pipeline = load_pipeline(args.pipeline, RATE, fallbacks={"babble_manifest": used.speech}, **manifests)
    dataset = TwoViewDataset(
        read_manifest(used.speech),
        pipeline,
        RATE,
        1,
        max_sample_size=samples,
        normalize=True,
        min_sample_size=samples,
        accept_left_out=True,
    )
    paths = [dataset.manifest.audio_path(entry) for entry in dataset.entries[: args.batch]]
    waves_BS = torch.stack([read_audio(path, RATE)[:samples] for path in paths])
    pipeline.prepare()
    functions: dict[str, Callable[[], object]] = {
        "decode": lambda: [read_audio(path, RATE) for path in paths],
        "crop": lambda: [wave_S[dataset._start(wave_S, samples - 1, 0) :][: samples - 1] for wave_S in waves_BS],
    }
    known = {part.transform.name: part.transform for part in pipeline.transforms}
    for name, kind in TRANSFORMS.items():
        transform = known.get(name)
        if transform is None:
            needs = {"background_noise": used.noise, "music": used.noise, "babble": used.speech}
            needs["recorded_reverb"] = used.rirs
            settings = {"rooms": 4} if name == "reverb" else {}
            transform = kind(RATE, *([needs[name]] if name in needs else []), **settings)
            transform.prepare()
        functions[name] = _alone(Pipeline([RandomTransform(1.0, transform)]), waves_BS)
    epochs = iter(range(1, 10**6))

    def whole() -> None:
        # Other crops and draws each time, as in a training.
        dataset.set_epoch(next(epochs))
        start = torch.randint(len(dataset), (), generator=generator_for(0, "batch", dataset.epoch)).item()
        dataset.collater([dataset[(int(start) + n) % len(dataset)] for n in range(args.batch)])

    functions[f"all of {args.pipeline}"] = whole
    return functions, pipeline


def _alone(pipeline: Pipeline, waves_BS: torch.Tensor) -> Callable[[], object]:
    rounds = iter(range(10**6))

    def apply() -> None:
        turn = next(rounds)
        pipeline(waves_BS, [generator_for(turn, "benchmark", row) for row in range(len(waves_BS))])

    return apply
