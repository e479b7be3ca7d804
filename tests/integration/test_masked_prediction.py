"""Trainings with a teacher: a stopped one resumes bit for bit, with teacher, student's head and online clustering."""

import os
import shutil
import subprocess

import pytest
import torch

from tests.fake_corpora import write_corpus
from tests.integration.test_resume import arguments, done, same
from tests.integration.test_training import ROOT, TRAIN, state

SETTINGS = [
    *("optimization.max_update=8", "lr_scheduler.warmup_updates=2", "dataset.max_tokens=64000"),
    *("+criterion.prototypes=16", "+criterion.clustering_lr=0.1", "+criterion.schedule_warmup=0.25"),
    *("ema.store_ema=true", "ema.ema_decay=0.9"),
    *("checkpoint.save_interval_updates=4", "checkpoint.keep_interval_updates=-1"),
    *("dataset.disable_validation=false", "dataset.validate_interval_updates=4"),
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, [16000 + 500 * i for i in range(12)], "pretrain")
    write_corpus(folder, [16000, 18000], "pretrain_valid", seed=50)
    return folder


@pytest.mark.parametrize(
    "objective",
    [
        ["criterion._name=capi", "+criterion.contexts=alternate"],
        ["+criterion.delta=0.5", "optimization.update_freq=[2]"],
    ],
    ids=["capi", "ccc_delta"],
)
def test_a_resumed_training_equals_the_uninterrupted_one(warm, corpus, tmp_path, objective):
    settings = [*SETTINGS, *objective]
    log = done(warm.run(arguments(corpus, tmp_path / "straight", *settings), tmp_path / "log"))
    assert "loss_prediction" in log
    assert "prototype_perplexity" in log
    expected = state(tmp_path / "straight")
    (half,) = (tmp_path / "straight" / "checkpoints").glob("checkpoint_*_4.pt")
    (tmp_path / "resumed" / "checkpoints").mkdir(parents=True)
    shutil.copy(half, tmp_path / "resumed" / "checkpoints" / "checkpoint_last.pt")
    done(warm.run(arguments(corpus, tmp_path / "resumed", *settings), tmp_path / "log"))
    resumed, first = state(tmp_path / "resumed"), torch.load(half, weights_only=True)
    task = "CccPretrainingTask"
    for read in (
        lambda kept: kept["model"],
        lambda kept: kept["criterion"],
        lambda kept: kept["last_optimizer_state"],
        lambda kept: kept["extra_state"]["ema"],
        lambda kept: kept["extra_state"][task]["clustering"],
    ):
        assert same(read(expected), read(resumed))
        assert not same(read(expected), read(first))
    assert not same(expected["extra_state"]["ema"], expected["model"])
    assert not any(name.startswith("criterion") for name in expected["model"])


@pytest.mark.parametrize("objective", [["criterion._name=capi"], ["+criterion.delta=0.5"]], ids=["capi", "ccc_delta"])
def test_teacher_and_student_start_from_a_checkpoint_whose_training_had_none(warm, corpus, tmp_path, objective):
    before = ["optimization.max_update=2", "lr_scheduler.warmup_updates=1", "dataset.max_tokens=64000"]
    done(warm.run(arguments(corpus, tmp_path / "before", *before), tmp_path / "log"))
    start = tmp_path / "before/checkpoints/checkpoint_last.pt"
    weights = torch.load(start, weights_only=True)["model"]
    # Without a step of the optimiser, and with a teacher that does not move, both are what they started from.
    settings = [*SETTINGS, *objective, f"checkpoint.finetune_from_model={start}", "optimization.lr=[0.0]"]
    settings += ["optimization.max_update=1", "lr_scheduler.warmup_updates=0", "checkpoint.save_interval_updates=1"]
    done(warm.run(arguments(corpus, tmp_path / "run", *settings), tmp_path / "log"))
    after = state(tmp_path / "run")
    assert same(after["model"], weights)
    # The average is rounded.
    torch.testing.assert_close(dict(after["extra_state"]["ema"]), dict(weights), rtol=1e-6, atol=1e-8)


def test_a_training_that_starts_from_another_with_a_teacher_goes_on_with_its_clustering(warm, corpus, tmp_path):
    objective = "criterion._name=capi"
    done(warm.run(arguments(corpus, tmp_path / "before", *SETTINGS, objective), tmp_path / "log"))
    start = tmp_path / "before/checkpoints/checkpoint_last.pt"
    # Nothing learns in the one update that follows.
    settings = [*SETTINGS, objective, f"checkpoint.finetune_from_model={start}", "optimization.lr=[0.0]"]
    settings += ["optimization.max_update=1", "lr_scheduler.warmup_updates=0", "checkpoint.save_interval_updates=1"]
    settings += ["++criterion.clustering_lr=1e-12"]
    done(warm.run(arguments(corpus, tmp_path / "run", *settings), tmp_path / "log"))
    before, after = torch.load(start, weights_only=True), state(tmp_path / "run")
    for part in ("model", "criterion"):
        assert same(before[part], after[part])
    clusterings = [kept["extra_state"]["CccPretrainingTask"]["clustering"] for kept in (before, after)]
    for name in ("weight", "bias"):
        torch.testing.assert_close(*(kept[name] for kept in clusterings))
    assert [int(kept["optimizer"][0]["step"]) for kept in clusterings] == [8, 1]


def test_a_training_without_a_teacher_is_refused_in_one_line(warm, corpus, tmp_path):
    code, output = warm.run(arguments(corpus, tmp_path / "run", "criterion._name=capi"), tmp_path / "log")
    assert code == 2
    assert output.strip().splitlines()[-1].endswith("set ema.store_ema=true")


def test_two_processes_train_where_one_has_a_batch_that_is_ignored(corpus, tmp_path):
    """At an epoch's end: 12 utterances in an odd number of batches."""
    settings = [*SETTINGS, "criterion._name=capi", "dataset.disable_validation=true", "optimization.max_update=4"]
    ended = subprocess.run(
        [ROOT / "recipes/launch/one_node.sh", "2", *arguments(corpus, tmp_path / "run", *settings)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{TRAIN.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    kept = state(tmp_path / "run")["extra_state"]
    assert kept["train_iterator"]["epoch"] == 2
    assert int(kept["CccPretrainingTask"]["clustering"]["optimizer"][0]["step"]) == 4
