"""recipes/switchboard: every configuration is built, and run.sh goes from LDC's folders to scores and a model."""

import functools
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fairseq import criterions, tasks
from omegaconf import OmegaConf, open_dict

from ccc_w2v.benchmark.random_ctc import trainer_state
from ccc_w2v.corpora.switchboard.lists import LABELLED
from ccc_w2v.planning.recipe import build_model, compose_config
from tests.corpora.switchboard import fake_switchboard
from tests.export.conftest import pretrained_state
from tests.fake_corpora import write_corpus
from tests.recipes.test_librispeech_configs import count, schedule
from tests.tiny_ctc import build_ctc, save, write_test_set
from tests.tiny_models import TINY

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "recipes/switchboard/config"
# What fairseq's own base_100h (110 h) and base_10h (30 h) say, and what lies between base_100h and base_960h (300 h).
EXPECTED = {
    "300h": ("train_nodup", 64_000, 5e-5, 0.5, 0.25, 0.1, 0),
    "110h": ("train_100k_nodup", 80_000, 3e-5, 0.65, 0.5, 0.1, 0),
    "30h": ("train_30h", 40_000, 5e-5, 0.65, 0.5, 0.05, 10_000),
}
FEW = ["optimization.max_update=3", "common.fp16=false", "dataset.num_workers=0", "common.log_interval=1"]
FEW += ["distributed_training.distributed_world_size=1", "common.tensorboard_logdir=null", "dataset.max_tokens=200000"]
NAMED = ("final_dim", "quantize_targets")  # what the YAML names already takes no plus
SMALL = [f"{'' if key in NAMED else '+'}model.{key}={value!r}" for key, value in TINY.items()]
ADAPT = [*FEW, *SMALL, "dataset.max_tokens=64000", "task.max_sample_size=32000", "dataset.validate_interval=1"]
FINETUNE = [*FEW, "model.mask_channel_length=4", "model.freeze_finetune_updates=0"]


@functools.cache
def adaptation():
    overrides = ["task.data=/data", "checkpoint.finetune_from_model=/start.pt", "task.noise_manifest=/noise.tsv"]
    return compose_config(CONFIG / "pretraining/ccc_base_switchboard.yaml", overrides)


def test_adaptation_builds_and_hears_switchboard_in_rooms_and_noise():
    config = adaptation()
    assert (config.dataset.train_subset, config.dataset.valid_subset) == ("pretrain", "pretrain_valid")
    # Not through a telephone, which would leave telephone speech nearly as it is.
    assert config.task.augment == "noise_reverb"
    assert config.task.noise_manifest == "/noise.tsv"
    assert count(build_model(config)) == 95_044_608
    criterions.build_criterion(config.criterion, tasks.setup_task(config.task))
    scheduler = schedule(config)
    assert scheduler.step_update(3_000) == pytest.approx(1e-4)
    assert scheduler.step_update(50_000) == 0


@pytest.mark.parametrize("choice", ["letters", "spm1000"])
@pytest.mark.parametrize("amount", sorted(path.stem for path in (CONFIG / "finetuning/amount").glob("*.yaml")))
def test_finetuning_builds_on_the_lists_that_are_prepared(amount, choice, tmp_path):
    for kind in ("ltr", "spm1000"):
        (tmp_path / f"dict.{kind}.txt").write_text("".join(f"symbol{index} 1\n" for index in range(29)))
    overrides = [f"task.data={tmp_path}", "model.w2v_path=pretrained.pt", f"amount={amount}", f"labels={choice}"]
    config = compose_config(CONFIG / "finetuning/finetune.yaml", overrides)
    model = config.model
    chosen = (config.dataset.train_subset, config.optimization.max_update, config.optimization.lr[0], model.mask_prob)
    chosen += (model.mask_channel_prob, model.layerdrop, model.freeze_finetune_updates)
    assert chosen == EXPECTED[amount]
    assert {config.dataset.train_subset, config.dataset.valid_subset} <= set(LABELLED)
    labels = ("spm1000", "sentencepiece") if choice == "spm1000" else ("ltr", "letter")
    assert (config.task.labels, config.criterion.post_process) == labels
    with open_dict(config), open_dict(config.model):
        # In place of the checkpoint, what it says of its model.
        config.model.w2v_args = OmegaConf.to_container(adaptation(), resolve=True, enum_to_str=True)
    assert count(build_model(config)) == 94_371_712 + 768 * 33 + 33
    criterions.build_criterion(config.criterion, tasks.setup_task(config.task))
    assert schedule(config).step_update(config.optimization.max_update // 10) == pytest.approx(chosen[2])


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """LDC's folders, a checkpoint of LibriSpeech and a model fine-tuned there, all tiny; as options of run.sh."""
    root = tmp_path_factory.mktemp("recipe")
    audio, text = fake_switchboard.write_eval2000(root)
    write_test_set(root / "libri")
    tuned = save(trainer_state(*build_ctc(root / "libri", extractor_mode="default")), root / "libri/tuned.pt")
    options = {
        "train": fake_switchboard.write_train(root),
        "transcripts": fake_switchboard.write_transcripts(root),
        "eval2000-audio": audio,
        "eval2000-text": text,
        "pretrained": save(pretrained_state(), root / "pretrained.pt"),
        "librispeech-model": tuned,
    }
    options["noise"] = write_corpus(root / "noise", [64000, 32000], "noise")
    return [part for key, value in options.items() for part in (f"--{key}", str(value))]


def run(*arguments):
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    command = ["bash", str(ROOT / "recipes/switchboard/run.sh"), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3600)


def repeated(option, values):
    return [part for value in values for part in (option, value)]


def test_all_stages_run_on_the_small_corpus_and_a_second_call_does_nothing(folders, tmp_path):
    arguments = [*folders, "--out", tmp_path, "--amount", "30h"]
    arguments += repeated("--prepare-option", ["--dev", str(fake_switchboard.DEV)])
    (tmp_path / "rooms.yaml").write_text("transforms: [{name: reverb, rooms: 2}, {name: background_noise}]")
    adapt = [*ADAPT, f"task.augment={tmp_path}/rooms.yaml"]
    arguments += repeated("--adapt-override", adapt) + repeated("--finetune-override", FINETUNE)
    first = run(*arguments)
    assert first.returncode == 0, first.stdout + first.stderr
    tuned = tmp_path / "seed1/base_30h"
    for folder in (tmp_path / "zero_shot/eval2000", tuned / "decode/eval2000"):
        report = json.loads((folder / "score.json").read_text())
        assert report["standard"] == "hub5"
        assert report["segments"] == 12
        assert {"Switchboard", "CallHome"} <= set(report["by_corpus"])
    assert (tuned / "huggingface/model.safetensors").is_file()
    assert "eval2000/score.json" in (tuned / "huggingface/README.md").read_text()
    # Adaptation began at the checkpoint and fine-tuning at what it left.
    start, adapted = (torch.load(tmp_path / "seed1" / f"{name}.pt", weights_only=True) for name in ("start", "adapted"))
    moved = [(start["model"][key] - adapted["model"][key]).abs().max() for key in start["model"]]
    assert 0 < max(moved) < 0.1
    log = (tuned / "train.log").read_text()
    assert f"'w2v_path': '{tmp_path}/seed1/adapted.pt'" in log
    second = run(*arguments)
    assert second.returncode == 0
    ran = [line for line in second.stdout.splitlines() if line.startswith("  $ ")]
    assert [shlex.split(line)[1:4] for line in ran] == [["ccc-w2v", "prepare", "switchboard"]]
    assert second.stdout.count("done before") == 9


def test_a_dry_run_prints_commands_and_writes_nothing(tmp_path):
    (tmp_path / "ours.pt").touch()
    (tmp_path / "LDC97S62").mkdir()
    options = ["--pretrained", tmp_path / "ours.pt", "--train", tmp_path / "LDC97S62", "--rt03", tmp_path]
    done = run("--dry-run", "--out", tmp_path / "out", *options)
    assert done.returncode == 0, done.stderr
    commands = [shlex.split(line[4:]) for line in done.stdout.splitlines() if line.startswith("  $ ")]
    assert [command[command[0] == "ccc-w2v"] for command in commands] == [
        *("prepare", "prepare", "export", "fairseq-hydra-train", "export", "fairseq-hydra-train"),
        *("decode", "decode", "score", "score", "export"),
    ]
    assert not (tmp_path / "out").exists()


def test_without_adaptation_the_checkpoint_is_fine_tuned_as_it_is(tmp_path):
    (tmp_path / "ours.pt").touch()
    arguments = [
        "--dry-run",
        "--out",
        tmp_path / "out",
        "--pretrained",
        tmp_path / "ours.pt",
        "--no-adaptation",
        "--stop-stage",
        "3",
    ]
    done = run(*arguments, "--amount", "110h", "--labels", "spm1000")
    assert done.returncode == 0
    assert "ccc_base_switchboard" not in done.stdout
    assert f"model.w2v_path={tmp_path}/out/seed1/start.pt" in done.stdout
    assert f"hydra.run.dir={tmp_path}/out/seed1/base_110h_spm1000_unadapted" in done.stdout
    assert "ccc-w2v sentencepiece" in done.stdout


def test_speeds_and_the_best_adapted_checkpoint_are_options_with_folders_of_their_own(tmp_path):
    for name in ("ours.pt", "noise.tsv"):
        (tmp_path / name).touch()
    options = ["--speed-perturbation", "--adapt-checkpoint", "best", "--noise", tmp_path / "noise.tsv"]
    done = run(
        "--dry-run", "--out", tmp_path / "out", "--pretrained", tmp_path / "ours.pt", *options, "--stop-stage", 3
    )
    assert done.returncode == 0, done.stderr
    lines = {line.split()[2]: line for line in done.stdout.splitlines() if line.startswith("  $ ccc-w2v")}
    assert "prepare musan" not in done.stdout
    assert "task.noise_manifest=" in done.stdout
    assert "train_nodup.tsv --factors 0.95\\,1\\,1.05" in lines["speed"]
    assert "checkpoint_best.pt" in lines["export"]
    assert "adapted_best.pt" in lines["export"]
    training = done.stdout.splitlines()[-1]
    assert "dataset.train_subset=train_nodup_speeds" in training
    assert "adapted_best.pt" in training
    assert f"hydra.run.dir={tmp_path}/out/seed1/base_300h_best_speeds" in training


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--adapt-checkpoint", "first"], "error: --adapt-checkpoint first: must be last or best"),
        (["--amount", "3h"], "error: --amount 3h: unknown; available: 110h 300h 30h"),
        (["--stage", "2"], "error: stages 2 and 3 need --pretrained"),
        (["--lm", "words.arpa"], "error: --lm needs --lexicon"),
        (["--dry-run", "--pretrained", "/no/ours.pt"], "error: --pretrained /no/ours.pt: no such checkpoint"),
        (["--dry-run", "--pretrained", "/", "--train", "/no"], "error: --train /no: no such folder"),
        (["--dry-run", "--pretrained", "/", "--fisher", "/,/no"], "error: --fisher /no: no such folder"),
        (["--hours", "300"], "error: unknown option --hours"),
    ],
)
def test_mistakes_end_with_one_line_and_code_2(tmp_path, arguments, message):
    done = run("--out", tmp_path / "out", *arguments)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(message)
    assert not (tmp_path / "out").exists()
