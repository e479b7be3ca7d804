"""recipes/librispeech/run.sh: all its stages on a small corpus, a second call, a dry run, wrong options."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import Wav2Vec2ForCTC

from tests.corpora.librispeech.fake_librispeech import write_librispeech
from tests.fake_corpora import write_corpus

ROOT = Path(__file__).resolve().parents[2]
# As large as a CPU takes in a second, and as short as it can be; everything else is the recipe's.
TINY = {
    "pretrain": [
        *("common.fp16=false", "dataset.num_workers=0", "dataset.max_tokens=64000", "task.max_sample_size=32000"),
        *("distributed_training.distributed_world_size=1", "optimization.max_update=3", "model.final_dim=32"),
        *("+model.encoder_layers=2", "+model.encoder_attention_heads=4", "+model.encoder_embed_dim=32"),
        *("+model.encoder_ffn_embed_dim=64", "+model.latent_vars=8"),
        "+model.conv_feature_layers='[(16,10,5)] + [(16,3,2)]*4 + [(16,2,2)]*2'",
    ],
    "finetune": [
        *("common.fp16=false", "dataset.num_workers=0", "dataset.max_tokens=200000", "model.mask_channel_length=8"),
        *("distributed_training.distributed_world_size=1", "optimization.max_update=3"),
    ],
}
FEW_PIECES = ("--amount", "10h", "--labels", "spm1000")


def run(*options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    command = [str(ROOT / "recipes/librispeech/run.sh"), *map(str, options)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3600, cwd="/")


def overrides(folder):
    (folder / "mixed.yaml").write_text("transforms: [{name: gaussian_noise, p: 0.5}, {name: background_noise}]")
    tiny = {**TINY, "pretrain": [*TINY["pretrain"], f"+task.augment={folder / 'mixed.yaml'}"]}
    return [word for kind, values in tiny.items() for value in values for word in (f"--{kind}-override", value)]


def test_all_stages_run_and_a_second_call_does_nothing(tmp_path):
    tree = write_librispeech(tmp_path, speakers=1)
    noise = write_corpus(tmp_path / "noise", [64000, 32000], "noise")
    options = ["--out", tmp_path / "exp", "--from", tree, "--noise", noise, "--gpus", 1, "--subsets", "test_clean"]
    options += ["--pretrain-checkpoint", "best"]
    first = run(*options, *overrides(tmp_path))
    assert first.returncode == 0, first.stdout[-2000:] + first.stderr[-3000:]
    assert [line[0] for line in first.stdout.splitlines() if re.match(r"\d\. ", line)] == list("123456")
    finetuned = tmp_path / "exp/ccc_base_960h/seed1/base_100h_best"
    score = json.loads((finetuned / "decode/test_clean/score.json").read_text())
    assert score["utterances"] == 6
    assert score["wer"]["units"] > 0
    assert Wav2Vec2ForCTC.from_pretrained(finetuned / "huggingface").config.num_hidden_layers == 2
    # What was shown is what ran: fairseq's log begins with its configuration.
    shown = [line for line in first.stdout.splitlines() if "$ fairseq-hydra-train" in line]
    assert len(shown) == 2
    assert "optimization.update_freq=" in shown[0]
    assert "plain_best.pt" in shown[1]
    log = (tmp_path / "exp/ccc_base_960h/seed1/pretrain/train.log").read_text()
    assert "'noise_manifest': '" + str(noise) in log
    assert "'mask_prob': 0.65" in log
    assert "'max_update': 3" in log

    again = run(*options, *overrides(tmp_path))
    assert again.returncode == 0, again.stderr[-2000:]
    assert "fairseq-hydra-train" not in again.stdout
    assert again.stdout.count("done before: ") == 6


def test_a_dry_run_of_the_real_configuration_plans_for_1_8_and_64_gpus_and_writes_nothing(tmp_path):
    finished = run("--dry-run", "--out", tmp_path / "exp", "--gpus", 8, "--memory", 80, *FEW_PIECES)
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert not (tmp_path / "exp").exists()
    plans = finished.stderr.split("finetune amount=10h labels=spm1000 size=base: ")
    assert re.search(r"GPUs +8 +1 +64\n", plans[0])
    assert re.search(r"GPUs +8 +1 +64\n", plans[1])
    assert re.search(r"optimization.update_freq +7 +50 +1\n", plans[0])
    assert "dataset.max_tokens=1600000 optimization.update_freq=\\[7\\]" in finished.stdout
    # The machine that is meant has eight GPUs, this one need not have one.
    assert "--device cuda" in finished.stdout
    assert "--device cpu" not in finished.stdout
    assert "--limited" in finished.stdout
    assert "ccc-w2v sentencepiece" in finished.stdout
    assert "prepare musan" in finished.stdout


def test_large_is_fine_tuned_as_large(tmp_path):
    (tmp_path / "librivox.tsv").touch()
    options = ["--dry-run", "--out", tmp_path / "exp", "--gpus", 8, "--memory", 80, "--stop-stage", 3]
    finished = run(*options, "--pretraining", "ccc_large_librivox", "--librivox", tmp_path / "librivox.tsv")
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert "size=large_librivox: 317.0 million parameters" in finished.stderr
    assert f"ln -sfn {tmp_path}/librivox.tsv {tmp_path}/exp/data/manifests/train_librivox.tsv" in finished.stdout
    assert "--parts train-clean-100\\,dev-clean" in finished.stdout
    assert f"hydra.run.dir={tmp_path}/exp/ccc_large_librivox/seed1/large_librivox_100h" in finished.stdout


@pytest.mark.parametrize(
    ("pretraining", "amount", "labels", "parts"),
    [
        ("ccc_base_960h", "1h", "letters", "train-clean-100,train-clean-360,train-other-500"),
        ("ccc_base_360h", "960h", "letters", "train-clean-100,train-clean-360,train-other-500"),
        ("ccc_base_360h", "100h", "letters", "train-clean-100,train-clean-360"),
        ("ccc_base_360h", "10m", "spm1000", "train-clean-100,train-clean-360"),
        ("ccc_base_360h", "10h", "letters", "train-clean-360"),
    ],
)
def test_the_parts_of_librispeech_that_two_configurations_need_are_prepared(
    tmp_path, pretraining, amount, labels, parts
):
    options = ["--pretraining", pretraining, "--amount", amount, "--labels", labels]
    options += ["--out", tmp_path, "--stop-stage", 1]
    finished = run("--dry-run", *options)
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert f"--parts {parts},dev-clean,dev-other,test-clean,test-other" in finished.stdout.replace("\\,", ",")
    assert (" --limited" in finished.stdout) == (amount not in ("100h", "960h"))


# arXiv 2006.11477, appendix B.
@pytest.mark.parametrize(
    ("amount", "weight", "word_score"),
    [("10m", 3.23, -0.26), ("1h", 2.9, -1.62), ("10h", 2.46, -0.59), ("100h", 2.15, -0.52), ("960h", 1.74, 0.52)],
)
def test_the_4_gram_has_its_published_weights(tmp_path, amount, weight, word_score):
    for name in ("lm.arpa", "words.txt"):
        (tmp_path / name).touch()
    options = ["--out", tmp_path, "--amount", amount, "--stage", 4, "--stop-stage", 4]
    finished = run("--dry-run", *options, "--lm", tmp_path / "lm.arpa", "--lexicon", tmp_path / "words.txt")
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert finished.stdout.count(f" --lm-weight {weight} --word-score {word_score}\n") == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--pretraining", "ccc_base_10h"], "--pretraining ccc_base_10h: unknown; available: ccc_base_360h "),
        (["--amount", "2h"], "--amount 2h: unknown; available: 100h 10h 10m 1h 960h"),
        (["--labels", "words"], "--labels words: unknown; available: letters spm1000"),
        (["--pretrain-checkpoint", "3"], "--pretrain-checkpoint 3: must be last or best"),
        (["--lm", "4gram.arpa"], "--lm needs --lexicon"),
        (["--lm", "/no/4gram.arpa", "--lexicon", "/no/w"], "--lm /no/4gram.arpa: no such language model"),
        (["--dry-run", "--from", "/no/LibriSpeech"], "--from /no/LibriSpeech: no such folder"),
        (["--dry-run", "--noise", "/no/noise.tsv"], "--noise /no/noise.tsv: no such manifest"),
        (["--stage", "two"], "--stage two: must be a whole number"),
        (["--sed", "1"], "unknown option --sed"),
        (["--seed"], "--seed needs a value"),
        (["now"], "unexpected argument now"),
    ],
)
def test_a_wrong_option_is_one_line_below_the_usage(options, said):
    finished = run(*options)
    assert finished.returncode == 2
    assert finished.stdout == ""
    lines = finished.stderr.splitlines()
    assert lines[0].startswith("LibriSpeech: ")
    assert lines[-1].startswith("error: ")
    assert said in lines[-1]


@pytest.mark.parametrize(("stage", "split"), [(2, "train_360"), (3, "train_10m")])
def test_a_stage_without_the_data_says_which_stage_writes_them(tmp_path, stage, split):
    run_folder = tmp_path / "w2v_base_360h_equal_compute/seed1/pretrain"
    run_folder.mkdir(parents=True)
    (run_folder / ".exported").touch()
    options = ["--pretraining", "w2v_base_360h_equal_compute", "--amount", "10m", "--stage", stage]
    finished = run("--out", tmp_path, *options)
    assert finished.returncode == 2
    assert finished.stderr == f"error: {tmp_path}/data/manifests/{split}.tsv: no such manifest; stage 1 writes it\n"
