"""Runs that `ccc-w2v pretrain`, `finetune` and `resume` start: their commands, their folders, what is refused."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import ccc_w2v
from ccc_w2v.cli import follow
from ccc_w2v.cli.main import main
from ccc_w2v.errors import InputError
from ccc_w2v.planning.recipe import build_model, compose_config
from ccc_w2v.training.launch import Run, claim_run, data_of, find_recipe, newest_checkpoint, read_run, spread
from tests.fake_corpora import write_corpus, write_labels

RECIPES = [(kind, name) for kind in ("pretraining", "finetuning") for name in ("tiny", "base")]


@pytest.fixture
def run(tmp_path) -> Run:
    for name in ("pretrain", "dev"):
        write_corpus(tmp_path / "data", [8000], name=name)
    return Run("pretraining", str(tmp_path / "run"), "tiny", str(tmp_path / "data"), 0, ("common.seed=7",))


@pytest.mark.parametrize(("kind", "name"), RECIPES)
def test_recipes_state_what_fairseq_takes(kind, name, tmp_path):
    manifest = write_corpus(tmp_path, [8000])
    write_labels(manifest, ["A B"])
    path = find_recipe(kind, name)
    words = [f"task.data={tmp_path}", *spread(path, 2)]
    cfg = compose_config(path, words)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    batches = (
        content["distributed_training"]["distributed_world_size"] * content["optimization"].get("update_freq", [1])[0]
    )
    assert cfg.distributed_training.distributed_world_size * cfg.optimization.update_freq[0] == max(2, batches)
    assert cfg.dataset.required_batch_size_multiple == 1
    if kind == "pretraining":
        assert sum(parameter.numel() for parameter in build_model(cfg).parameters()) > 1e6


def test_base_is_the_recipe_of_librispeech():
    """Its settings, in one file: all that differs is the lists, the augmentation and the length."""
    root = Path(__file__).parents[2] / "recipes/librispeech/config/pretraining"
    ours = compose_config(find_recipe("pretraining", "base"), ["task.data=x"])
    theirs = compose_config(root / "ccc_base_360h.yaml", ["task.data=x", "task.noise_manifest=x"])
    for section in ("model", "criterion", "optimization", "optimizer", "lr_scheduler"):
        assert ours[section] == theirs[section], section


def test_command_finds_the_plugin(run):
    command = run.command()
    assert command[:3] == [sys.executable, "-m", "ccc_w2v.training.command"]
    assert f"common.user_dir={Path(ccc_w2v.__file__).parent}" in command
    assert f"hydra.run.dir={run.out}" in command
    assert "common.fp16=false" in command
    assert command[-1] == "common.seed=7"
    assert "common.fp16=false" not in replace(run, gpus=1).command()


def test_a_folder_holds_one_run(run):
    claim_run(run, [])
    claim_run(run, [])
    claim_run(replace(run, gpus=2), [])
    assert read_run(run.out) == replace(run, gpus=2)
    with pytest.raises(InputError, match=r"run: exists already, made with other settings \(overrides\)"):
        claim_run(replace(run, overrides=()), [])
    claim_run(replace(run, overrides=()), [], overwrite=True)
    assert read_run(run.out).overrides == ()


def test_data_that_is_not_there(run):
    with pytest.raises(InputError, match=r"data: holds no pretrain\.tsv; write one with ccc-w2v manifest"):
        claim_run(replace(run, data=f"{run.data}/none/data"), [])
    with pytest.raises(InputError, match=r"holds no mine\.tsv"):
        claim_run(replace(run, overrides=("dataset.train_subset=mine",)), [])
    assert not Path(run.out).exists()


def test_unknown_recipe(run):
    with pytest.raises(InputError, match="--recipe huge: neither a recipe nor a YAML file; recipes: base, tiny"):
        find_recipe("pretraining", "huge")


def test_checkpoint_of_a_run(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    last = tmp_path / "checkpoints" / "checkpoint_last.pt"
    with pytest.raises(InputError, match="neither a checkpoint nor a run's folder"):
        newest_checkpoint(tmp_path)
    last.touch()
    assert newest_checkpoint(tmp_path) == newest_checkpoint(last) == last


def test_commands_start_and_resume_the_same_run(run, monkeypatch, capsys):
    started = []
    monkeypatch.setattr(follow, "follow", lambda command, log, title: started.append((command, log, title)) or 0)
    words = ["--data", run.data, "--out", run.out, "--gpus", "0", "common.seed=7"]
    assert main(["pretrain", *words]) == 0
    assert main(["resume", run.out]) == 0
    assert started == [(run.command(), Path(run.out) / "train.log", "pre-training")] * 2
    assert main(["pretrain", *words[:-1], "common.seed=8"]) == 2
    assert capsys.readouterr().err.endswith("name another output, or give --overwrite\n")
    assert main(["resume", run.data]) == 2
    assert "holds no command.json; expected the folder of ccc-w2v pretrain or finetune" in capsys.readouterr().err


def test_failed_training_keeps_its_exit_code(run, monkeypatch):
    monkeypatch.setattr(follow, "follow", lambda command, log, title: 3)
    assert main(["pretrain", "--data", run.data, "--out", run.out, "--gpus", "0"]) == 3


def test_data_may_be_a_stream_which_the_run_itself_looks_for(run, tmp_path):
    assert data_of("s3://bucket/corpus") == "s3://bucket/corpus"
    assert data_of("hub:name/config") == "hub:name/config"
    assert data_of(f"{tmp_path}/./data") == str(tmp_path / "data")
    claim_run(replace(run, data="s3://bucket/corpus"), [])
    assert "task.data=s3://bucket/corpus" in read_run(run.out).command()
