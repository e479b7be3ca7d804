"""fairseq-hydra-train with the demo's configuration on a small corpus: runs, dies, resumes, refuses bad input."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch

from ccc_w2v.training.log import parse_line
from tests.fake_corpora import RATE, speech_like, write_corpus

ROOT = Path(__file__).resolve().parents[2]
TRAIN = Path(sys.executable).parent / "fairseq-hydra-train"
TINY = [
    "model.conv_feature_layers='[(16,10,5)] + [(16,3,2)]*4 + [(16,2,2)]*2'",
    "model.encoder_layers=2",
    "model.encoder_embed_dim=32",
    "model.encoder_ffn_embed_dim=64",
    "model.encoder_layerdrop=0.2",
    "model.latent_vars=8",
    "task.augment=none",
    "task.noise_manifest=null",
    "dataset.max_tokens=64000",
    "dataset.disable_validation=true",
    "common.log_interval=1",
    "common.tensorboard_logdir=null",
]


def command(corpus, folder, *overrides):
    return [
        str(TRAIN),
        "--config-dir",
        str(ROOT / "tests/integration/config"),
        "--config-name",
        "pretrain",
        f"common.user_dir={ROOT / 'ccc_w2v'}",
        f"hydra.run.dir={folder}",
        f"task.data={corpus}",
        *TINY,
        *overrides,
    ]


def train(corpus, folder, *overrides):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command(corpus, folder, *overrides), env=environment, capture_output=True, text=True, timeout=3600
    )


def state(folder, name="checkpoint_last.pt"):
    return torch.load(folder / "checkpoints" / name, weights_only=True)


def weights(folder):
    return state(folder)["model"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, [16000 + 500 * i for i in range(12)], "pretrain")
    write_corpus(folder, [16000, 18000], "pretrain_valid", seed=50)
    return folder


# Before the first checkpoint, between two that cluster the bank, and after the last.
@pytest.mark.parametrize(("scope", "killed_at"), [("batch", 2), ("global", 5), ("global", 9)])
def test_a_run_killed_at_any_update_and_resumed_equals_the_uninterrupted_one(corpus, tmp_path, scope, killed_at):
    (tmp_path / "noisy.yaml").write_text("transforms: [{name: gaussian_noise, p: 0.5}, {name: babble, p: 0.5}]")
    overrides = ["optimization.max_update=9", "checkpoint.save_interval_updates=2", f"+criterion.cluster_scope={scope}"]
    # A bank that is clustered for the first time at the third update, and again at every second one.
    overrides += ["+criterion.bank_clusters=4", "+criterion.bank_size=200", "+criterion.bank_points=60"]
    overrides += ["+criterion.bank_refit_updates=2", f"task.augment={tmp_path / 'noisy.yaml'}"]
    straight = train(corpus, tmp_path / "straight", *overrides)
    assert straight.returncode == 0, straight.stderr[-2000:]
    folder = tmp_path / "killed"
    with subprocess.Popen(
        command(corpus, folder, *overrides),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout:
            tag, values = parse_line(line) or ("", {})
            if tag == "train_inner" and values["num_updates"] >= killed_at:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    resumed = train(corpus, folder, *overrides)
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    expected, actual = state(tmp_path / "straight"), state(folder)
    assert all(torch.equal(actual["model"][name], value) for name, value in expected["model"].items())
    assert actual["optimizer_history"] == expected["optimizer_history"]
    tasks = [checkpoint["extra_state"]["CccPretrainingTask"] for checkpoint in (expected, actual)]
    assert tasks[0]["counts"] == tasks[1]["counts"]
    assert tasks[0]["counts"]["audio_samples"] > 0
    if scope == "global":
        bank, found_bank = (kept["target_bank"] for kept in tasks)
        assert bank["fitted_at"] >= 6
        assert bank["fitted_at"] == found_bank["fitted_at"]
        assert torch.equal(bank["centroids"], found_bank["centroids"])
        assert torch.equal(bank["points"], found_bank["points"])


@pytest.mark.parametrize(
    "precision",
    # fairseq's usual fp16 optimiser asks for a GPU; the other one has the same loss scaler and runs anywhere.
    [["common.bf16=true"], ["common.fp16=true", "common.memory_efficient_fp16=true", "common.fp16_init_scale=8"]],
    ids=["bf16", "fp16"],
)
def test_it_trains_in_low_precision(corpus, tmp_path, precision):
    finished = train(corpus, tmp_path, "optimization.max_update=3", *precision)
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert all(value.isfinite().all() for value in weights(tmp_path).values())
    assert '"train_num_updates": "3"' in finished.stdout + finished.stderr


def test_augmentation_where_the_model_is_and_what_a_run_shows_of_its_data(warm, corpus, tmp_path):
    pipeline = tmp_path / "mine.yaml"
    pipeline.write_text("transforms: [{name: gaussian_noise, p: 0.5}, {name: babble}, {name: telephone, p: 0.5}]")
    overrides = [
        "optimization.max_update=4",
        f"task.augment={pipeline}",
        "+task.augment_device=gpu",
        "common.bf16=true",
    ]
    overrides += ["dataset.disable_validation=false", "dataset.validate_interval_updates=2"]
    overrides += ["common.tensorboard_logdir=tensorboard", "dataset.num_workers=1"]
    arguments = command(corpus, tmp_path / "run", *overrides)[1:]
    code, output = warm.run(arguments, tmp_path / "log", before="tests.integration.warm_train:augment_as_on_a_gpu")
    assert code == 0, output[-2000:]
    assert all(value.isfinite().all() for value in weights(tmp_path / "run").values())
    assert '"data_wait_share": "' in output
    assert len(list((tmp_path / "run" / "tensorboard" / "pairs").glob("events*"))) == 2


def damaged(kind):
    """A wave of 18500 samples that its header does not give away."""
    wave = speech_like(18500, 0)
    if kind == "silent":
        return wave * 0
    wave[8000] = float("nan")
    return wave


@pytest.mark.parametrize("resample", ["false", "true"])
def test_files_that_are_bad_already_at_the_start_are_skipped_and_counted(warm, corpus, tmp_path, resample):
    data = tmp_path / "data"
    shutil.copytree(corpus, data)
    manifest = data / "pretrain.tsv"
    manifest.write_text(manifest.read_text().replace(str(corpus), str(data)))
    missing, empty, cut = (data / "audio" / f"pretrain{index}.wav" for index in (2, 5, 9))
    missing.unlink()
    empty.write_bytes(b"")
    cut.write_bytes(cut.read_bytes()[:9000])
    overrides = ["optimization.max_epoch=2", "optimization.max_update=50", "+task.on_bad_audio=skip"]
    overrides += ["+task.check_headers=12", f"+task.resample={resample}"]
    code, output = warm.run(command(data, tmp_path / "run", *overrides)[1:], tmp_path / "log")
    assert code == 0, output[-2000:]
    assert f"{manifest}: 3 of 12 files looked at cannot be used and are skipped" in output
    assert '"train_bad_audio": "3"' in output
    assert '"train_bad_audio": "6"' in output
    assert "on_bad_audio=skip: unreadable utterances were left out 6 times in all epochs" in output
    for file in (data / "audio").glob("pretrain?*.wav"):
        if "valid" not in file.name:
            file.unlink()
    code, output = warm.run(command(data, tmp_path / "none", *overrides)[1:], tmp_path / "log")
    assert code == 2, output[-2000:]
    assert "none of 12 files can be used" in output, output[-2000:]


@pytest.mark.parametrize(
    ("kind", "workers", "alone"), [("silent", 0, False), ("silent", 0, True), ("not finite", 2, False)]
)
def test_audio_that_turns_out_bad_ends_the_run_or_is_skipped(corpus, tmp_path, kind, workers, alone):
    data = tmp_path / "data"
    shutil.copytree(corpus, data)
    manifest = data / "pretrain.tsv"
    manifest.write_text(manifest.read_text().replace(str(corpus), str(data)))
    soundfile.write(data / "audio" / "pretrain5.wav", damaged(kind), RATE, subtype="FLOAT")
    overrides = ["optimization.max_epoch=1", "optimization.max_update=50", f"dataset.num_workers={workers}"]
    overrides += ["+dataset.batch_size=1"] * alone
    ended = train(data, tmp_path / "ended", *overrides)
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert ended.returncode == 2, ended.stderr[-2000:]
    assert "Traceback" not in ended.stderr, ended.stderr[-2000:]
    assert len(errors) == 1
    assert f"{manifest}:7: " in errors[0]
    assert "task.on_bad_audio=skip" in errors[0]
    skipped = train(data, tmp_path / "skipped", *overrides, "+task.on_bad_audio=skip")
    assert skipped.returncode == 0, skipped.stderr[-2000:]
    assert '"train_bad_audio": "1"' in skipped.stdout + skipped.stderr
