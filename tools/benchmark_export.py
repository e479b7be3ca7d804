#!/usr/bin/env python3
"""Measure the exports of a randomly initialised BASE model: wall time and peak memory of tools/export.py.

    python tools/benchmark_export.py --folder /tmp/export_benchmark

The checkpoint holds Adam's state, as a training's does; the outputs are compared on four recordings of noise.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

EXPORT = Path(__file__).with_name("export.py")
SECONDS = (14, 11, 8, 5)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True, type=Path, help="where to write (about 3 GB), kept for a look")
    parser.add_argument("--threads", type=int, default=2, help="OMP_NUM_THREADS of the exports (default 2)")
    return parser.parse_args()


def base_checkpoint() -> dict[str, Any]:
    """Return a pre-training checkpoint of BASE size with random weights (METHOD.md section 7, the paper's settings)."""
    import torch
    from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config, Wav2Vec2Model

    from ccc_w2v.compat import field_defaults

    settings = {"quantize_targets": True, "final_dim": 256, "encoder_layerdrop": 0.05, "feature_grad_mult": 0.1}
    model = Wav2Vec2Model(Wav2Vec2Config(**settings)).state_dict()
    task = {"_name": "audio_pretraining", "data": ".", "sample_rate": 16000, "normalize": False}
    moments = {"exp_avg": torch.zeros_like, "exp_avg_sq": torch.zeros_like}
    adam = {i: {key: make(t) for key, make in moments.items()} for i, t in enumerate(model.values())}
    return {
        "args": None,
        "cfg": {
            "model": {**field_defaults(Wav2Vec2Config), **settings, "_name": "wav2vec2"},
            "task": task,
            "criterion": {"_name": "wav2vec", "infonce": True, "loss_weights": [0.1, 10.0]},
        },
        "model": model,
        "optimizer_history": [{"optimizer_name": "FairseqAdam", "lr_scheduler_state": {}, "num_updates": 400_000}],
        "extra_state": {"train_iterator": {"epoch": 1}},
        "last_optimizer_state": {"state": adam},
    }


def main() -> int:
    arguments = parse_arguments()
    import soundfile
    import torch

    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(base_checkpoint(), folder / "base.pt")
    print(f"checkpoint: {(folder / 'base.pt').stat().st_size / 1e6:.0f} MB", flush=True)
    audio = [folder / f"{seconds}s.wav" for seconds in SECONDS]
    for seconds, path in zip(SECONDS, audio, strict=True):
        noise = 0.1 * torch.randn(seconds * 16000, generator=torch.Generator().manual_seed(seconds))
        soundfile.write(path, noise.numpy(), 16000)
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    for target, extra in (("fairseq", []), ("huggingface", ["--audio", *map(str, audio)])):
        command = [sys.executable, str(EXPORT), "--to", target, "--checkpoint", str(folder / "base.pt")]
        started = time.perf_counter()
        child = subprocess.Popen([*command, "--out", str(folder / target), "--overwrite", *extra], env=environment)
        _, status, used = os.wait4(child.pid, 0)
        wall = time.perf_counter() - started
        print(
            f"--to {target}: exit code {os.waitstatus_to_exitcode(status)}, {wall:.1f} s, "
            f"{used.ru_utime + used.ru_stime:.1f} s of CPU, peak {used.ru_maxrss / 1e6:.2f} GB",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
