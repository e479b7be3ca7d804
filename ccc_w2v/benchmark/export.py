"""`export`: wall time and peak memory of ccc-w2v export on a randomly initialised BASE model.

The checkpoint holds Adam's state, as a training's does; the outputs are compared on four recordings of noise.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import soundfile
import torch
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config, Wav2Vec2Model

from ccc_w2v.compat import field_defaults

EXPORT = Path(__file__).resolve().parents[2] / "tools" / "export.py"
SECONDS = (14, 11, 8, 5)
# docs/method.md, section 7.
BASE = {"quantize_targets": True, "final_dim": 256, "encoder_layerdrop": 0.05, "feature_grad_mult": 0.1}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `ccc-w2v benchmark export`."""
    parser.add_argument("--folder", type=Path, help="where to write 3 GB, kept for a look (default: a temporary one)")
    parser.add_argument("--threads", type=int, default=2, help="OMP_NUM_THREADS of the exports (default: 2)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Export the model to fairseq and to transformers; return seconds and GB of each."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(base_checkpoint(), folder / "base.pt")
        print(f"checkpoint: {(folder / 'base.pt').stat().st_size / 1e6:.0f} MB", flush=True)
        audio = [folder / f"{seconds}s.wav" for seconds in SECONDS]
        for seconds, path in zip(SECONDS, audio, strict=True):
            noise = 0.1 * torch.randn(seconds * 16000, generator=torch.Generator().manual_seed(seconds))
            soundfile.write(path, noise.numpy(), 16000)
        return {
            **_export("fairseq", folder, [], args.threads),
            **_export("huggingface", folder, ["--audio", *map(str, audio)], args.threads),
        }


def base_checkpoint() -> dict[str, Any]:
    """Return a pre-training checkpoint of BASE size with random weights, as fairseq writes them."""
    model = Wav2Vec2Model(Wav2Vec2Config(**BASE)).state_dict()
    moments = {"exp_avg": torch.zeros_like, "exp_avg_sq": torch.zeros_like}
    adam = {i: {key: make(t) for key, make in moments.items()} for i, t in enumerate(model.values())}
    return {
        "args": None,
        "cfg": {
            "model": {**field_defaults(Wav2Vec2Config), **BASE, "_name": "wav2vec2"},
            "task": {"_name": "audio_pretraining", "data": ".", "sample_rate": 16000, "normalize": False},
            "criterion": {"_name": "wav2vec", "infonce": True, "loss_weights": [0.1, 10.0]},
        },
        "model": model,
        "optimizer_history": [{"optimizer_name": "FairseqAdam", "lr_scheduler_state": {}, "num_updates": 400_000}],
        "extra_state": {"train_iterator": {"epoch": 1}},
        "last_optimizer_state": {"state": adam},
    }


def _export(target: str, folder: Path, extra: list[str], threads: int) -> dict[str, float]:
    command = [sys.executable, str(EXPORT), "--to", target, "--checkpoint", str(folder / "base.pt")]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    started = time.perf_counter()
    # stdout belongs to the table and the line of JSON.
    with subprocess.Popen(
        [*command, "--out", str(folder / target), "--overwrite", *extra], env=environment, stdout=sys.stderr
    ) as child:
        # wait4, because getrusage tells the largest of all children.
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - started
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {child.returncode}")
    cpu, peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6
    print(f"--to {target}: {wall:.1f} s, {cpu:.1f} s of CPU, peak {peak:.2f} GB", flush=True)
    return {f"{target}_seconds": round(wall, 1), f"{target}_peak_gb": round(peak, 2)}
