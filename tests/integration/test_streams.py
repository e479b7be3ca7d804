"""Whole trainings on shards of a local server: equal to that on the files, resumed exactly, ended in one sentence."""

import shutil
from pathlib import Path

import pytest

from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.data.shard_packing import pack_shards
from tests.data.shard_server import ShardServer
from tests.fake_corpora import RATE, write_corpus
from tests.integration.test_resume import arguments, done, same
from tests.integration.test_training import state

PATTERN = "{000000..000003}.tar"
# A checkpoint in the middle of an epoch.
SETTINGS = [
    *("optimization.max_update=6", "dataset.max_tokens=40000", "checkpoint.save_interval_updates=2"),
    "checkpoint.keep_interval_updates=-1",
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    raw = read_manifest(write_corpus(folder, [16000 + 500 * index for index in range(12)], "pretrain"))
    write_corpus(folder, [16000, 18000], "pretrain_valid", seed=50)
    assert len(pack_shards(raw, folder / "shards/pretrain.tsv", RATE, 130_000)) == 4
    pack_shards(read_manifest(folder / "pretrain_valid.tsv"), folder / "shards/pretrain_valid.tsv", RATE)
    return folder


def streamed(server, folder, *overrides):
    names = [f'dataset.train_subset="pretrain-{PATTERN}"', "dataset.valid_subset=pretrain_valid"]
    return arguments(f"{server.address}", folder, *SETTINGS, *names, *overrides)


def equal(expected, actual):
    for part in ("model", "last_optimizer_state", "task_state"):
        assert same(expected[part], actual[part]), part
    for part in ("train_iterator", "CccPretrainingTask"):
        assert same(expected["extra_state"][part], actual["extra_state"][part]), part


def test_a_training_on_shards_is_that_on_the_files_and_resumes_in_the_middle_of_one(warm, corpus, tmp_path):
    done(warm.run(arguments(corpus, tmp_path / "files", *SETTINGS), tmp_path / "log"))
    expected = state(tmp_path / "files")
    with ShardServer(corpus / "shards") as server:
        straight, resumed = tmp_path / "straight", tmp_path / "resumed"
        done(warm.run(streamed(server, straight), tmp_path / "log"))
        equal(expected, state(straight))
        (middle,) = (straight / "checkpoints").glob("checkpoint_*_2.pt")
        position = state(straight, middle.name)["extra_state"]["train_iterator"]
        assert 0 < position["iterations_in_epoch"] < 4
        (resumed / "checkpoints").mkdir(parents=True)
        shutil.copy(middle, resumed / "checkpoints/checkpoint_last.pt")
        done(warm.run(streamed(server, resumed, "dataset.num_workers=2"), tmp_path / "log"))
        equal(expected, state(resumed))


def test_a_broken_server_ends_a_run_in_one_sentence_or_is_counted(warm, corpus, tmp_path):
    def trouble(path, part, number):
        return "break" if path == "/pretrain-000002.tar" else None

    with ShardServer(corpus / "shards", trouble) as server:
        patience = ["+task.stream_attempts=2", "+task.check_headers=0"]
        code, output = warm.run(streamed(server, tmp_path / "raise", *patience), tmp_path / "log")
        assert code == 2
        (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
        assert "pretrain-000002.tar:" in line
        assert "cannot be read after 2 attempts of up to 30 s" in line
        assert "Traceback" not in output
        output = done(
            warm.run(streamed(server, tmp_path / "skip", *patience, "+task.on_bad_audio=skip"), tmp_path / "log")
        )
    assert "skipped bad audio: " in output
    assert state(tmp_path / "skip")["extra_state"]["CccPretrainingTask"]["counts"]["bad_audio"] > 0


def test_shards_that_are_not_there_end_a_run_in_one_sentence(warm, corpus, tmp_path):
    with ShardServer(corpus / "shards") as server:
        names = ['dataset.train_subset="gone-{0..1}.tar"']
        code, output = warm.run(streamed(server, tmp_path / "run", *names), tmp_path / "log")
    assert code == 2
    assert "gone-0.tar: no such file on its server" in output
    assert "Traceback" not in output


def test_a_training_on_a_hub_data_set_is_that_on_the_files(warm, corpus, tmp_path):
    datasets = pytest.importorskip("datasets", reason="extra hub")
    raw = read_manifest(corpus / "pretrain.tsv")
    rows = [{"bytes": Path(raw.audio_path(entry)).read_bytes(), "path": entry.path} for entry in raw.entries]
    (tmp_path / "set").mkdir()
    made = datasets.Dataset.from_dict({"audio": rows}).cast_column("audio", datasets.Audio())
    made.to_parquet(str(tmp_path / "set/train.parquet"))
    done(warm.run(arguments(corpus, tmp_path / "files", *SETTINGS), tmp_path / "log"))
    names = ["dataset.train_subset=train", "dataset.valid_subset=train", "dataset.num_workers=1"]
    settings = arguments(f"hub:{tmp_path / 'set'}/default", tmp_path / "hub", *SETTINGS, *names)
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    done(warm.run(settings, tmp_path / "log", environment=offline))
    equal(state(tmp_path / "files"), state(tmp_path / "hub"))
