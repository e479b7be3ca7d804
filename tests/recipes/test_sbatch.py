"""The Slurm script against stand-ins for Slurm's commands: what it starts, passes on and puts back into the queue."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "recipes/launch/multi_node.sbatch"
# Slurm's manual: srun forwards signals to its tasks, scontrol prints one host a line.
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
SCONTROL = """#!/bin/bash
if [ "$1" = requeue ]; then echo "$@" >>requeued; else printf 'node7\\nnode8\\n'; fi
"""
TASK = """#!/bin/bash
trap 'exit 75' USR1
echo "$@" >started
while ! [ -e finish ]; do sleep 0.05; done
exit "$(cat finish)"
"""


@pytest.fixture
def job(tmp_path):
    """A started job whose ranks are a stand-in that leaves with 75 on SIGUSR1, or with what the file finish says."""
    for name, text in {"bin/srun": SRUN, "bin/scontrol": SCONTROL, "recipes/launch/multi_node.sh": TASK}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    slurm = {"JOB_ID": "123456", "JOB_NODELIST": "node[7-8]", "NNODES": "2", "GPUS_ON_NODE": "8"}
    slurm = {f"SLURM_{name}": value for name, value in slurm.items()}
    environment = {**os.environ, **slurm, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    arguments = ["bash", SCRIPT, "--config-name", "pretrain", "a=[1, 2]"]
    with subprocess.Popen(arguments, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "started").exists():
            assert process.poll() is None
            time.sleep(0.02)
        yield process, tmp_path


def test_it_starts_torchrun_on_every_node(job):
    process, folder = job
    (folder / "finish").write_text("0")
    assert process.wait(3600) == 0
    assert not (folder / "requeued").exists()
    assert (folder / "started").read_text() == "2 8 node7:23456 --config-name pretrain a=[1, 2]\n"


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_told_to_stop_it_passes_that_on_and_goes_back_into_the_queue(job, number):
    process, folder = job
    process.send_signal(number)
    assert process.wait(3600) == 75
    assert (folder / "requeued").read_text() == "requeue 123456\n"
    assert "back into the queue" in process.stdout.read()


def test_an_error_does_not_go_back_into_the_queue(job):
    process, folder = job
    (folder / "finish").write_text("2")
    assert process.wait(3600) == 2
    assert not (folder / "requeued").exists()


def test_outside_of_slurm_it_says_how_to_start_it():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    ended = subprocess.run(["bash", SCRIPT, "x"], env=environment, capture_output=True, text=True, timeout=3600)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("error: expected to be started by sbatch")
