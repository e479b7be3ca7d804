"""The loss of each of the first 30 updates of a tiny pre-training, against tests/data/golden_loss_curve.json.

`python -m tests.integration.golden_curve --write` trains and writes the file anew: only where a change means to change
the mathematics. Losses stand there as hexadecimal floats, beside the machine and the versions that made them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/data/golden_loss_curve.json"
UPDATES = 30
RELATIVE = 1e-4


def made_by() -> dict[str, str]:
    """Return what decides a sum's last bits: the processor, its vector instructions as torch sees them, versions."""
    import torch

    names = {distribution.metadata["Name"] for distribution in metadata.distributions()}
    fairseq = "fairseq-fixed" if "fairseq-fixed" in names else "fairseq"
    return {
        "machine": platform.machine(),
        "processor": processor(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "numpy": metadata.version("numpy"),
        "fairseq": f"{fairseq} {metadata.version(fairseq)}",
    }


def processor() -> str:
    """Return the processor's name, or an empty string where Linux does not tell it."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def losses(folder: Path) -> list[float]:
    """Train in ``folder`` in single precision with one thread; returns the loss of each update (summed, nats)."""
    from tests.fake_corpora import write_corpus
    from tests.integration.test_training import command

    corpus, record = folder / "corpus", folder / "losses.txt"
    write_corpus(corpus, [16000 + 500 * index for index in range(12)], "pretrain")
    write_corpus(corpus, [16000], "pretrain_valid", seed=50)  # which fairseq 0.12.2 reads without validation too
    (folder / "noise.yaml").write_text("transforms: [{name: gaussian_noise, p: 0.5}, {name: babble, p: 0.5}]")
    overrides = [f"optimization.max_update={UPDATES}", f"task.augment={folder / 'noise.yaml'}"]
    overrides += ["checkpoint.no_save=true"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.golden_curve", *command(corpus, folder / "run", *overrides)[1:]],
        env={**os.environ, "OMP_NUM_THREADS": "1", "LOSSES": str(record)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return [float.fromhex(line) for line in record.read_text().split()]


def train() -> None:
    """Be fairseq-hydra-train, and append each update's loss to the file $LOSSES."""
    import torch
    from fairseq.tasks.fairseq_task import FairseqTask
    from fairseq_cli.hydra_train import cli_main

    torch.set_num_threads(1)
    step = FairseqTask.train_step

    def train_step(*args: Any, **kwargs: Any) -> Any:
        loss, sample_size, logged = step(*args, **kwargs)
        with open(os.environ["LOSSES"], "a", encoding="ascii") as file:
            file.write(f"{float(loss).hex()}\n")
        return loss, sample_size, logged

    FairseqTask.train_step = train_step
    cli_main()


def write() -> None:
    """Write the golden file."""
    with tempfile.TemporaryDirectory() as folder:
        curve = losses(Path(folder))
    content = {"made_by": made_by(), "losses": [loss.hex() for loss in curve]}
    GOLDEN.write_text(json.dumps(content, indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    if "LOSSES" in os.environ:
        train()
    else:
        parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--write", action="store_true", required=True, help="replace the losses checked in")
        parser.parse_args()
        write()
