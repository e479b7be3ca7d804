"""Measure speed and memory; the last line printed is one line of JSON. Results are kept in docs/benchmarks.md.

ccc-w2v benchmark step --size base --device cuda --precision bf16 --utterances 6 --seconds 14.6
"""

import argparse
import importlib
import json
import signal
import sys
from types import FrameType
from typing import NoReturn

SUBCOMMANDS = {
    "step": "a training step: fairseq's wav2vec 2.0, ours, an un-fused formulation",
    "scale": "how a step grows with utterances, seconds, negatives, clusters, codes, processes; a loader with workers",
    "precision": "loss curves and steps in float32, bfloat16 autocast and bfloat16 weights",
    "kmeans": "clustering: ours, fast-pytorch-kmeans, faiss",
    "export": "ccc-w2v export on BASE: time and memory",
    "decode": "greedy and beam decoding: ours, transformers, fairseq",
    "augment": "one core's speed from FLAC to batch: decoding, each transform, a whole pipeline",
    "loader": "how fast data workers deliver batches of both views",
    "streams": "how fast speech is read: files, zips, tar shards, tar shards by http with latency",
    "seek": "what a segment of a long recording costs to read, by format",
    "manifest": "memory and start of a training's processes with millions of utterances: ours, fairseq's",
}


def main() -> int:
    first = next((word for word in sys.argv[1:] if word in SUBCOMMANDS), None)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    subparsers = parser.add_subparsers(required=True, metavar="SUBCOMMAND")
    for name, help_line in SUBCOMMANDS.items():
        subparser = subparsers.add_parser(name, help=help_line, description=help_line)
        if name == first:
            # Only the module that is asked for: each loads torch.
            module = importlib.import_module(f"ccc_w2v.benchmark.{name}")
            module.add_arguments(subparser)
            from ccc_w2v.compat import silence_debugging

            silence_debugging()
    arguments = parser.parse_args()
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        print(json.dumps(module.run(arguments)))
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """End as by an exception: a measurement has temporary folders and processes to take along."""
    raise SystemExit(128 + number)
