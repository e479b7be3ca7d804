"""Whole trainings on a GPU: resumed bit for bit with deterministic algorithms, fp16 with its scaler, bf16."""

import math
import shutil

import pytest

from ccc_w2v.training.log import read_records
from tests.fake_corpora import write_corpus
from tests.integration.test_resume import same
from tests.integration.test_training import state, train


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, [16000 + 500 * index for index in range(12)], "pretrain")
    write_corpus(folder, [16000, 18000], "pretrain_valid", seed=50)
    return folder


def trained(corpus, folder, device, *overrides):
    run = train(corpus, folder, f"common.cpu={str(device.type == 'cpu').lower()}", *overrides)
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout + run.stderr


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(corpus, tmp_path, device):
    # A plus: the YAML of these tests does not name the setting.
    settings = ["+task.deterministic=true", "checkpoint.save_interval_updates=3", "checkpoint.keep_interval_updates=-1"]
    settings.append("optimization.max_update=6")
    trained(corpus, tmp_path / "straight", device, *settings)
    (half_way,) = (tmp_path / "straight/checkpoints").glob("checkpoint_*_3.pt")
    (tmp_path / "resumed/checkpoints").mkdir(parents=True)
    shutil.copy(half_way, tmp_path / "resumed/checkpoints/checkpoint_last.pt")
    trained(corpus, tmp_path / "resumed", device, *settings)
    expected, resumed = state(tmp_path / "straight"), state(tmp_path / "resumed")
    for part in ("model", "last_optimizer_state"):
        assert same(expected[part], resumed[part]), part


@pytest.mark.parametrize(
    ("device", "precision"),
    [("cpu", "bf16"), *(pytest.param("cuda", name, marks=pytest.mark.cuda) for name in ("fp16", "bf16"))],
    indirect=["device"],
)
def test_half_precision_trains(corpus, tmp_path, device, precision):
    output = trained(corpus, tmp_path / "run", device, f"common.{precision}=true", "optimization.max_update=12")
    logged = list(read_records(output.splitlines(), "train_inner"))
    assert len(logged) > 6
    assert all(math.isfinite(values["loss"]) for values in logged)
    assert ("loss_scale" in logged[-1]) == (precision == "fp16")
