"""Runs that are started again: within an epoch, at its end, after their end, after Ctrl-C, as without the stop."""

import os
import shutil
import signal
import time

import pytest
import torch

from tests.fake_corpora import write_corpus, write_labels
from tests.integration.test_training import ROOT, command, state
from tests.tiny_ctc import raw_state

PATIENCE_S = 3600  # no claim about speed: only so that a hang fails
# Four updates an epoch; a validation and a checkpoint at the end of each.
EPOCHS = [
    *("dataset.disable_validation=false", "dataset.validate_interval=1", "dataset.validate_interval_updates=0"),
    *("checkpoint.save_interval=1", "checkpoint.no_epoch_checkpoints=false", "checkpoint.save_interval_updates=0"),
    "checkpoint.keep_interval_updates=-1",
]
PLATEAU = ["lr_scheduler._name=reduce_lr_on_plateau", "lr_scheduler.warmup_updates=0", "+lr_scheduler.lr_shrink=0.5"]
# Any loss of validation is no improvement then.
PLATEAU += ["+lr_scheduler.lr_threshold=100"]
# Everything that draws: masks of time and of channels, dropout, layers left out; a save after every other update.
FINETUNING = [
    *("dataset.max_tokens=64000", "optimization.max_update=9", "common.cpu=true", "common.tensorboard_logdir=null"),
    *("model.mask_channel_prob=0.5", "model.layerdrop=0.3", "dataset.disable_validation=true"),
    *("checkpoint.save_interval_updates=2", "checkpoint.keep_interval_updates=-1"),
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, [16000 + 500 * i for i in range(12)], "pretrain")
    write_corpus(folder, [16000, 18000], "pretrain_valid", seed=50)
    return folder


def arguments(corpus, folder, *overrides):
    return command(corpus, folder, *overrides)[1:]


def done(run):
    code, output = run
    assert code == 0, output[-3000:]
    return output


def contents(folder):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.glob("*.pt")}


def same(expected, actual):
    """Whether two values of a checkpoint are equal, tensors bit for bit."""
    if isinstance(expected, torch.Tensor):
        return torch.equal(expected, actual)
    if isinstance(expected, dict):
        return expected.keys() == actual.keys() and all(same(value, actual[name]) for name, value in expected.items())
    if isinstance(expected, (list, tuple)):
        return len(expected) == len(actual) and all(map(same, expected, actual))
    return expected == actual


@pytest.mark.parametrize("schedule", [[], PLATEAU], ids=["polynomial_decay", "reduce_lr_on_plateau"])
def test_a_run_that_goes_on_from_an_epochs_end_equals_the_uninterrupted_one(warm, corpus, tmp_path, schedule):
    settings = ["optimization.max_update=12", *EPOCHS, *schedule]
    done(warm.run(arguments(corpus, tmp_path / "straight", *settings), tmp_path / "log"))
    expected = state(tmp_path / "straight")
    if schedule:
        assert expected["last_optimizer_state"]["param_groups"][0]["lr"] < 5e-4
    assert expected["optimizer_history"][-1]["lr_scheduler_state"]["best"] is not None
    for epoch in (1, 2):
        folder = tmp_path / f"from{epoch}"
        (folder / "checkpoints").mkdir(parents=True)
        first = tmp_path / "straight" / "checkpoints" / f"checkpoint{epoch}.pt"
        shutil.copy(first, folder / "checkpoints" / "checkpoint_last.pt")
        done(warm.run(arguments(corpus, folder, *settings), tmp_path / "log"))
        resumed = state(folder)
        for part in ("model", "last_optimizer_state", "optimizer_history", "task_state"):
            assert same(expected[part], resumed[part]), part
        for part in ("train_iterator", "val_loss", "best", "CccPretrainingTask"):
            assert same(expected["extra_state"][part], resumed["extra_state"][part]), part


@pytest.fixture(scope="module")
def finetuning(warm, corpus, tmp_path_factory):
    """The arguments of a fine-tuning of a network that was hardly pre-trained."""
    folder = tmp_path_factory.mktemp("base")
    done(warm.run(arguments(corpus, folder, "optimization.max_update=1"), folder / "log"))
    write_labels(corpus / "pretrain.tsv", ["THE CAT", "A HAT", "IT IS"] * 4)
    return [
        *("--config-dir", ROOT / "recipes/small/config", "--config-name", "finetune"),
        *(f"common.user_dir={ROOT / 'ccc_w2v'}", f"task.data={corpus}", "dataset.train_subset=pretrain"),
        *(f"model.w2v_path={folder / 'checkpoints/checkpoint_last.pt'}", *FINETUNING),
    ]


def test_a_finetuning_that_goes_on_equals_the_uninterrupted_one(warm, finetuning, tmp_path):
    done(warm.run([*finetuning, f"hydra.run.dir={tmp_path / 'straight'}"], tmp_path / "log"))
    expected = raw_state(tmp_path / "straight" / "checkpoints" / "checkpoint_last.pt")
    saved = sorted((tmp_path / "straight" / "checkpoints").glob("checkpoint_?_?.pt"))
    # In the midst of an epoch, and at its end.
    assert [path.stem for path in saved] == [
        f"checkpoint_{epoch}_{update}" for epoch, update in ((1, 2), (1, 4), (2, 6), (2, 8))
    ]
    for first in saved[:2]:
        folder = tmp_path / f"from_{first.stem}"
        (folder / "checkpoints").mkdir(parents=True)
        shutil.copy(first, folder / "checkpoints" / "checkpoint_last.pt")
        done(warm.run([*finetuning, f"hydra.run.dir={folder}"], tmp_path / "log"))
        resumed = raw_state(folder / "checkpoints" / "checkpoint_last.pt")
        for part in ("model", "last_optimizer_state", "optimizer_history"):
            assert same(expected[part], resumed[part]), part


def test_a_training_ends_in_peace_while_it_still_reads_ahead(warm, finetuning, tmp_path):
    settings = [*finetuning, f"hydra.run.dir={tmp_path}", "optimization.max_update=3"]
    done(warm.run(settings, tmp_path / "log", before="tests.integration.warm_train:read_slowly_in_torch"))


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (["optimization.max_update=3"], "this run is finished: 3 updates are made, optimization.max_update=3"),
        (["optimization.max_epoch=1"], ""),
        (["optimization.stop_time_hours=1e-7"], "optimization.stop_time_hours=1e-07"),
        (["checkpoint.patience=1", "optimization.lr=[0.0]"], "1 validations were no better, checkpoint.patience=1"),
    ],
    ids=["updates", "epochs", "hours", "patience"],
)
def test_a_finished_run_says_so_and_leaves_its_checkpoints(warm, corpus, tmp_path, limit, message):
    settings = ["optimization.max_update=20", *EPOCHS, *limit]
    done(warm.run(arguments(corpus, tmp_path / "run", *settings), tmp_path / "log"))
    before = contents(tmp_path / "run" / "checkpoints")
    output = done(warm.run(arguments(corpus, tmp_path / "run", *settings), tmp_path / "log"))
    assert message in output
    assert "train_inner" not in output
    assert contents(tmp_path / "run" / "checkpoints") == before


def test_a_run_that_starts_from_a_finished_one_is_not_finished(warm, corpus, tmp_path):
    settings = ["optimization.max_update=20", *EPOCHS, "checkpoint.patience=1", "optimization.lr=[0.0]"]
    done(warm.run(arguments(corpus, tmp_path / "before", *settings), tmp_path / "log"))
    before = state(tmp_path / "before")
    before["extra_state"]["previous_training_time"] = 7200.0
    torch.save(before, tmp_path / "start.pt")
    settings += [f"checkpoint.finetune_from_model={tmp_path / 'start.pt'}", "optimization.stop_time_hours=1"]
    output = done(warm.run(arguments(corpus, tmp_path / "run", *settings), tmp_path / "log"))
    assert "this run is finished" not in output
    assert state(tmp_path / "run")["optimizer_history"][-1]["num_updates"] > 0
    assert state(tmp_path / "run")["extra_state"]["previous_training_time"] < 7200


def test_more_updates_than_before_train_on(warm, corpus, tmp_path):
    for updates in (2, 3):
        limit = f"optimization.max_update={updates}"
        done(warm.run(arguments(corpus, tmp_path / "run", limit), tmp_path / "log"))
    assert state(tmp_path / "run")["optimizer_history"][-1]["num_updates"] == 3


@pytest.mark.parametrize("workers", [0, 1])
def test_ctrl_c_saves_and_ends_with_130_and_the_run_goes_on(warm, corpus, tmp_path, workers):
    settings = [f"dataset.num_workers={workers}", "optimization.max_update=1000"]
    log = tmp_path / "log"
    pid = warm.start(arguments(corpus, tmp_path / "run", *settings), log)
    give_up = time.monotonic() + PATIENCE_S
    while "train_inner" not in log.read_text():
        assert time.monotonic() < give_up
        time.sleep(0.05)
    os.kill(pid, signal.SIGINT)
    assert warm.finish() == 130, log.read_text()[-2000:]
    output = log.read_text()
    assert "interrupted: saving after this update" in output
    assert "Traceback" not in output
    saved = state(tmp_path / "run")["optimizer_history"][-1]["num_updates"]
    assert f"told to stop: saved after update {saved}; the same command resumes" in output
    settings[1] = f"optimization.max_update={saved + 1}"
    done(warm.run(arguments(corpus, tmp_path / "run", *settings), log))
    assert state(tmp_path / "run")["optimizer_history"][-1]["num_updates"] == saved + 1


def test_ctrl_c_while_a_run_starts_is_one_line(warm, corpus, tmp_path):
    log = tmp_path / "log"
    pid = warm.start(arguments(corpus, tmp_path / "run"), log, before="tests.integration.warm_train:start_slowly")
    give_up = time.monotonic() + PATIENCE_S
    while "starting" not in log.read_text().splitlines():
        assert time.monotonic() < give_up
        time.sleep(0.01)
    os.kill(pid, signal.SIGINT)
    assert warm.finish() == 130, log.read_text()[-2000:]
    assert "interrupted" in log.read_text()
    assert "Traceback" not in log.read_text()
