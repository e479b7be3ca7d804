"""recipes/launch with real processes: ranks that stay equal, die, are told to stop, and resume with more or fewer."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from ccc_w2v.training.checkpoint_files import why_damaged
from tests.fake_corpora import write_corpus
from tests.integration.namespaces import ADDRESSES, two_machines
from tests.integration.test_training import ROOT, TRAIN, command, state, train

LAUNCH = ROOT / "recipes/launch"
PATIENCE_S = 3600  # no claim about speed: only so that a hang fails
# Every draw belongs to an utterance: with no dropout, sharing batches out changes only the order of sums. Three
# utterances of validation leave a rank of two or four without a batch. The bank is first clustered at update 8.
SETTINGS = [
    *("model.encoder_layerdrop=0", "+model.dropout=0", "dataset.max_tokens=32000", "lr_scheduler.warmup_updates=0"),
    *("checkpoint.save_interval_updates=3", "checkpoint.keep_interval_updates=-1", "+dataset.batch_size_valid=1"),
    *("checkpoint.save_interval=1", "checkpoint.no_epoch_checkpoints=false", "+lr_scheduler.total_num_update=9"),
    *("dataset.disable_validation=false", "dataset.validate_interval_updates=3", "+criterion.cluster_scope=global"),
    *("+criterion.bank_clusters=4", "+criterion.bank_size=200", "+criterion.bank_points=10"),
]


def updates(count):
    return f"optimization.max_update={count}"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, [16000 + 500 * i for i in range(12)], "pretrain")
    write_corpus(folder, [16000, 18000, 17000], "pretrain_valid", seed=50)
    return folder


def launch(script, corpus, folder, *overrides, before=()):
    """Start a launch script with its output in folder/NUMBER.log; returns the process and the log's path."""
    folder.mkdir(parents=True, exist_ok=True)
    tools, log = folder / "bin", folder / f"{len(list(folder.glob('*.log')))}.log"
    tools.mkdir(exist_ok=True)
    observed = tools / "fairseq-hydra-train"
    observed.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.integration.observed_train "$@"\n')
    observed.chmod(0o755)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "OBSERVED": str(folder),
        "PATH": f"{tools}:{TRAIN.parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
    }
    arguments = [*before, *map(str, script), *command(corpus, folder, *SETTINGS, *overrides)[1:]]
    with open(log, "w") as output:
        process = subprocess.Popen(arguments, env=environment, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)
    return process, log


def finish(started):
    """Wait for a launched script; returns its exit code and what it wrote."""
    process, log = started
    try:
        code = process.wait(PATIENCE_S)
    finally:
        for child in family(process.pid):
            send(child, signal.SIGKILL)
    return code, log.read_text()


def done(started):
    code, said = finish(started)
    assert code == 0, said[-3000:]
    return said


def family(pid):
    """Return the process and all that it has started, and so on."""
    children = []
    for task in Path("/proc").glob(f"{pid}/task/*/children"):
        children += [descendant for child in task.read_text().split() for descendant in family(int(child))]
    return [pid, *children]


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def rank_process(started, rank):
    """Return the process id of a rank that trains."""
    for pid in family(started[0].pid):
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        name = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"RANK=%d" % rank in variables and b"observed_train" in name:
            return pid
    raise AssertionError(f"no rank {rank}")


def wait_for_update(folder, rank, update):
    """Wait until a rank has made an update."""
    give_up = time.monotonic() + PATIENCE_S
    while update not in observed(folder, rank):
        assert time.monotonic() < give_up, f"rank {rank} never made update {update}"
        time.sleep(0.05)


def observed(folder, rank):
    """Return the hash of a rank's parameters and optimiser after each update."""
    file = folder / f"rank{rank}.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    return {int(line.split()[0]): line.split()[1] for line in lines if len(line) > 64}


def one_node(processes):
    return [LAUNCH / "one_node.sh", processes]


def equal(expected, actual):
    """Whether two checkpoints hold the same weights, bank and counters, bit for bit."""
    tasks = [checkpoint["extra_state"]["CccPretrainingTask"] for checkpoint in (expected, actual)]
    banks = [task["target_bank"] for task in tasks]
    return (
        all(torch.equal(actual["model"][name], value) for name, value in expected["model"].items())
        and all(torch.equal(banks[0][name], banks[1][name]) for name in ("points", "centroids"))
        and {**tasks[0], "target_bank": 0} == {**tasks[1], "target_bank": 0}
        and expected["extra_state"]["train_iterator"] == actual["extra_state"]["train_iterator"]
    )


def assert_close(expected, actual, targets, place):
    """The same but for rounding; the same counters, number of targets in the bank, and (epoch, batch) to resume at."""
    for name, value in expected["model"].items():
        torch.testing.assert_close(actual["model"][name], value, rtol=1e-4, atol=1e-5)
    tasks = [checkpoint["extra_state"]["CccPretrainingTask"] for checkpoint in (expected, actual)]
    banks = [task["target_bank"] for task in tasks]
    assert banks[0]["filled"] == banks[1]["filled"] == targets
    torch.testing.assert_close(banks[0]["points"], banks[1]["points"], rtol=1e-3, atol=1e-3)
    assert tasks[0]["counts"] == tasks[1]["counts"]
    places = [checkpoint["extra_state"]["train_iterator"] for checkpoint in (expected, actual)]
    assert [(at["epoch"], at["iterations_in_epoch"] * at["num_shards"]) for at in places] == [place] * 2


@pytest.fixture(scope="module")
def alone(corpus, tmp_path_factory):
    """One process that accumulates two batches for each of six updates, an epoch."""
    folder = tmp_path_factory.mktemp("alone")
    ended = train(corpus, folder, *SETTINGS, updates(6), "+optimization.update_freq=[2]")
    assert ended.returncode == 0, ended.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def together(corpus, tmp_path_factory):
    """Two ranks, nine updates without a stop."""
    folder = tmp_path_factory.mktemp("together")
    done(launch(one_node(2), corpus, folder, updates(9)))
    return folder


def goes_on_from(source, folder, name):
    """Make a run's folder that holds one checkpoint of another run as its last."""
    (folder / "checkpoints").mkdir(parents=True)
    shutil.copy(source / "checkpoints" / name, folder / "checkpoints" / "checkpoint_last.pt")
    return folder


def test_two_ranks_stay_equal_and_equal_one_process_that_accumulates_two_batches(alone, together):
    assert groups_destroyed(together) == 2
    hashes = [observed(together, rank) for rank in range(2)]
    assert hashes[0] == hashes[1]
    assert list(hashes[0]) == list(range(1, 10))
    assert len(set(hashes[0].values())) == 9
    assert_close(*(state(folder, "checkpoint_1_3.pt") for folder in (alone, together)), targets=60, place=(1, 6))


def groups_destroyed(folder):
    """Return how many processes have destroyed their process group as they ended."""
    return len(list(folder.glob("destroyed.*")))


def test_two_ranks_go_on_as_one_process_and_one_as_two_ranks(corpus, alone, together, tmp_path):
    fewer = goes_on_from(together, tmp_path / "fewer", "checkpoint_1_3.pt")
    ended = train(corpus, fewer, *SETTINGS, updates(6), "+optimization.update_freq=[2]")
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "2 process(es) before, 1 now: epoch 1 resumes after the 6 batches" in ended.stdout + ended.stderr
    assert_close(state(together, "checkpoint1.pt"), state(fewer), targets=120, place=(2, 0))
    more = goes_on_from(alone, tmp_path / "more", "checkpoint_1_3.pt")
    # Started by fairseq itself, as one_node.sh --spawn does on GPUs.
    spawn = [*("env", "PRETENDED_GPUS=2"), "fairseq-hydra-train"]
    two = [f"distributed_training.{setting}" for setting in ("distributed_world_size=2", "distributed_backend=gloo")]
    assert "1 process(es) before, 2 now: epoch 1" in done(launch(spawn, corpus, more, updates(6), *two))
    assert groups_destroyed(more) == 2
    assert_close(state(alone), state(more), targets=120, place=(2, 0))


def test_a_killed_rank_ends_the_job_of_two_machines_and_is_named_and_the_job_goes_on_exactly(
    corpus, together, tmp_path
):
    with ExitStack() as stack:
        try:
            machines = stack.enter_context(two_machines(os.getpid() % 10**6))
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"network namespaces are not permitted here: {getattr(error, 'stderr', None) or error}")
        script = [LAUNCH / "multi_node.sh", 2, 1, f"{ADDRESSES[0]}:29400"]
        machines = [[*machine, "HOLD=1:5"] for machine in machines]
        started = [launch(script, corpus, tmp_path, updates(9), before=machine) for machine in machines]
        wait_for_update(tmp_path, 1, 5)
        # Which machine's rank is the second is for torchrun to say.
        victim = next(machine for machine in started if b"RANK=1" in environments(machine))
        os.kill(rank_process(victim, 1), signal.SIGKILL)
        ends = {machine is victim: finish(machine) for machine in started}
    assert all(code != 0 for code, _ in ends.values())
    assert "rank      : 1 (local_rank: 0)" in ends[True][1]
    assert "Signal 9 (SIGKILL)" in ends[True][1]
    assert "rank      : 0 (local_rank: 0)" in ends[False][1]
    assert "Connection " in ends[False][1]
    done(launch(one_node(2), corpus, tmp_path, updates(9)))
    assert equal(state(together), state(tmp_path))
    assert all(observed(tmp_path, rank) == observed(together, rank) for rank in range(2))


def environments(started):
    return b"\0".join(Path(f"/proc/{pid}/environ").read_bytes() for pid in family(started[0].pid)).split(b"\0")


def test_four_ranks_told_to_stop_with_their_data_workers_save_after_the_same_update(corpus, tmp_path):
    started = launch(one_node(4), corpus, tmp_path, updates(1000), "dataset.num_workers=1")
    wait_for_update(tmp_path, 3, 4)
    # As Slurm does: every process of the job.
    for pid in family(started[0].pid):
        send(pid, signal.SIGUSR1)
    code, said = finish(started)
    hashes = [observed(tmp_path, rank) for rank in range(4)]
    assert hashes[0] == hashes[1] == hashes[2] == hashes[3]
    stopped = state(tmp_path)["optimizer_history"][-1]["num_updates"]
    assert stopped == max(hashes[0]) + 1
    assert code == os.EX_TEMPFAIL
    assert f"told to stop: saved after update {stopped}" in said
    assert groups_destroyed(tmp_path) == 4
    assert "exitcode  : 75" in said[said.index("Root Cause (first observed failure)") :]


def test_a_process_told_to_stop_saves_and_goes_on_exactly(corpus, alone, tmp_path):
    script, accumulate = [LAUNCH / "one_gpu.sh"], "+optimization.update_freq=[2]"
    started = launch(script, corpus, tmp_path, updates(6), accumulate, before=["env", "HOLD=0:3"])
    wait_for_update(tmp_path, 0, 3)
    started[0].send_signal(signal.SIGTERM)
    (tmp_path / "go").touch()
    code, said = finish(started)
    assert code == os.EX_TEMPFAIL
    assert "told to stop: saved after update 4; the same command resumes" in said
    assert state(tmp_path)["optimizer_history"][-1]["num_updates"] == 4
    done(launch(script, corpus, tmp_path, updates(6), accumulate))
    expected, actual = state(alone), state(tmp_path)
    assert all(torch.equal(actual["model"][name], value) for name, value in expected["model"].items())


def test_a_damaged_last_checkpoint_is_replaced_and_a_full_disk_leaves_the_one_before(corpus, alone, tmp_path):
    folder = goes_on_from(alone, tmp_path, "checkpoint_1_3.pt")
    last = folder / "checkpoints" / "checkpoint_last.pt"
    size = last.stat().st_size
    shutil.copy(last, folder / "checkpoints" / "checkpoint_1_3.pt")
    last.write_bytes(last.read_bytes()[: size // 2])
    one_checkpoint = "checkpoint.keep_interval_updates=1"
    started = launch([LAUNCH / "one_gpu.sh"], corpus, folder, updates(1000), one_checkpoint)
    wait_for_update(folder, 0, 4)
    # From now on no file may grow as large as a checkpoint.
    resource.prlimit(started[0].pid, resource.RLIMIT_FSIZE, (size * 3 // 4, resource.RLIM_INFINITY))
    code, said = finish(started)
    assert code == 2, said[-2000:]
    assert "checkpoint_last.pt is damaged (" in said
    assert "resuming from checkpoint_1_3.pt" in said
    (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "cannot be written (File too large); the checkpoints before it are whole" in error
    saved = state(folder)["optimizer_history"][-1]["num_updates"]
    assert saved % 3 == 0
    assert f"_{saved + 3}.pt: cannot" in error
    assert why_damaged(last) is None
    assert not list(last.parent.glob("*.tmp"))


def test_an_interrupt_while_torchrun_starts_leaves_no_process(corpus, tmp_path):
    started = launch(one_node(2), corpus, tmp_path, updates(1000))
    give_up = time.monotonic() + PATIENCE_S
    while not (torchrun := [pid for pid in family(started[0].pid) if b"--signals-to-handle" in arguments_of(pid)]):
        assert time.monotonic() < give_up
        time.sleep(0.01)
    started[0].send_signal(signal.SIGINT)
    code, said = finish(started)
    assert code != 0
    assert "train_inner" not in said
    assert b"--signals-to-handle" not in arguments_of(torchrun[0])


def test_a_mistake_in_two_ranks_is_named_with_its_rank_in_the_last_line(corpus, tmp_path):
    code, said = finish(launch(one_node(2), corpus, tmp_path, updates(1), "+criterion.scale_factor=3"))
    assert code == 2, said[-3000:]
    last = said.strip().splitlines()[-1]
    assert last.startswith("error: rank ")
    assert "criterion.scale_factor=3" in last


def test_ctrl_c_in_two_ranks_saves_and_ends_with_130(corpus, tmp_path):
    started = launch(one_node(2), corpus, tmp_path, updates(1000))
    wait_for_update(tmp_path, 1, 2)
    started[0].send_signal(signal.SIGINT)
    code, said = finish(started)
    assert code == 130, said[-3000:]
    stopped = state(tmp_path)["optimizer_history"][-1]["num_updates"]
    assert f"told to stop: saved after update {stopped}" in said
    assert observed(tmp_path, 0) == observed(tmp_path, 1)


def arguments_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("one_gpu.sh", [], "expected the arguments"),
        ("one_node.sh", ["two", "--config-dir", "x"], "expected a number of processes"),
        ("one_node.sh", ["--spawn", "9999", "--config-dir", "x"], "needs as many GPUs"),
        ("multi_node.sh", ["2", "1", "--config-dir", "x"], "expected the numbers of machines"),
        ("multi_node.sh", ["2", "1", "no-such-host.invalid", "x"], "cannot be reached"),
    ],
)
def test_a_launch_mistake_is_one_line_and_exit_code_2(script, arguments, message):
    path = f"{TRAIN.parent}:{os.environ['PATH']}"
    ended = subprocess.run(
        [LAUNCH / script, *arguments], env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=3600
    )
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert ended.returncode == 2
    assert len(errors) == 1
    assert message in errors[0]
