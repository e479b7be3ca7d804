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


SHARDS = SCRIPT.with_name("shards.sbatch")


def array_task(*command, **slurm):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    environment |= {f"SLURM_ARRAY_TASK_{name}": value for name, value in slurm.items() if name != "SHARDS"}
    environment |= {"SHARDS": slurm["SHARDS"]} if "SHARDS" in slurm else {}
    return subprocess.run(["bash", SHARDS, *command], env=environment, capture_output=True, text=True, check=False)


def test_an_array_task_does_its_share():
    task = array_task("echo", "decode", "--out", "a b", ID="3", COUNT="8", MIN="1", MAX="8")
    assert (task.returncode, task.stdout) == (0, "decode --out a b --shard 3/8\n")
    again = array_task("echo", ID="7", COUNT="1", MIN="7", MAX="7", SHARDS="64")
    assert again.stdout == "--shard 7/64\n"
    assert array_task("false", ID="1", COUNT="1", MIN="1", MAX="1").returncode == 1


@pytest.mark.parametrize(
    ("slurm", "message"),
    [
        ({"ID": "7", "COUNT": "1", "MIN": "7", "MAX": "7"}, "set SHARDS=N"),
        ({"ID": "1", "COUNT": "4", "MIN": "1", "MAX": "7"}, "set SHARDS=N"),
        ({}, "expected to be started by sbatch --array=1-N"),
    ],
)
def test_an_array_that_would_do_other_shares_is_refused(slurm, message):
    task = array_task("echo", **slurm)
    assert task.returncode == 2
    assert task.stdout == ""
    assert message in task.stderr
