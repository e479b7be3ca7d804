"""A training whose clusters aligned transcripts guide: a resumed one equals the straight one, two processes train."""

import os
import shutil
import subprocess

import pytest
import torch

from ccc_w2v.data.alignments import AlignedLabel, write_alignments
from tests.fake_corpora import write_corpus
from tests.integration.test_resume import arguments, done, same
from tests.integration.test_training import ROOT, TRAIN, state

SCOPE = ["+criterion.cluster_scope=annotated"]
SETTINGS = [
    *("optimization.max_update=8", "lr_scheduler.warmup_updates=2", "dataset.max_tokens=64000", *SCOPE),
    *("+criterion.annotated_clusters=6", "+criterion.annotated_start=2", "+criterion.annotated_lr=0.01"),
    *("checkpoint.save_interval_updates=4", "checkpoint.keep_interval_updates=-1"),
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, [16000 + 500 * i for i in range(12)], "pretrain")
    write_corpus(folder, [16000, 18000], "pretrain_valid", seed=50)
    rows = [AlignedLabel("ABC"[n % 3], 5 * n, 5 * n + 1, 0.1 * n, 0.1 * n + 0.02, -0.1) for n in range(9)]
    # Of most utterances, not of all.
    write_alignments(folder / "train.align.tsv", {f"pretrain{n}": rows for n in range(9)})
    return folder


def training(corpus, folder, *settings):
    return arguments(corpus, folder, *SETTINGS, f"+task.annotations={corpus / 'train.align.tsv'}", *settings)


@pytest.mark.parametrize("batches", [1, 2])
def test_a_resumed_training_has_the_network_of_the_uninterrupted_one(warm, corpus, tmp_path, batches):
    validated = ["dataset.disable_validation=false", "dataset.validate_interval_updates=4"]
    settings = [*validated, f"optimization.update_freq=[{batches}]"]
    log = done(warm.run(training(corpus, tmp_path / "straight", *settings), tmp_path / "log"))
    assert "9 of 12 utterances are aligned, 3 labels" in log
    assert "loss_pairs" in log
    expected = state(tmp_path / "straight")
    (half,) = (tmp_path / "straight" / "checkpoints").glob("checkpoint_*_4.pt")
    (tmp_path / "resumed" / "checkpoints").mkdir(parents=True)
    shutil.copy(half, tmp_path / "resumed" / "checkpoints" / "checkpoint_last.pt")
    done(warm.run(training(corpus, tmp_path / "resumed", *settings), tmp_path / "log"))
    resumed, first = state(tmp_path / "resumed"), torch.load(half, weights_only=True)
    networks = [kept["extra_state"]["CccPretrainingTask"]["membership"] for kept in (expected, resumed, first)]
    assert same(networks[0], networks[1])
    assert [network["steps"] for network in networks] == [8, 8, 4]
    assert not same(networks[0], networks[2])
    assert same(expected["model"], resumed["model"])
    assert not any("membership" in name for name in expected["model"])


def test_two_processes_train_with_batches_that_are_ignored(corpus, tmp_path):
    """At an epoch's end: 12 utterances in an odd number of batches."""
    settings = ["dataset.disable_validation=true", "optimization.max_update=4"]
    ended = subprocess.run(
        [ROOT / "recipes/launch/one_node.sh", "2", *training(corpus, tmp_path / "run", *settings)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{TRAIN.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert state(tmp_path / "run")["extra_state"]["CccPretrainingTask"]["membership"]["steps"] == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (SCOPE, "set task.annotations to what ccc-w2v align has written"),
        (["+task.annotations=nowhere.tsv"], "task.annotations is read by criterion.cluster_scope=annotated alone"),
        ([*SCOPE, "+task.annotations=/nowhere.tsv"], "/nowhere.tsv"),
    ],
)
def test_mistakes_are_one_line(warm, corpus, tmp_path, settings, message):
    code, output = warm.run(arguments(corpus, tmp_path / "run", *settings), tmp_path / "log")
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert code == 2
    assert len(errors) == 1
    assert message in errors[0]
