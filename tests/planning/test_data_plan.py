"""The plan of a long pre-training against closed forms, and against what was published."""

import json
from dataclasses import replace

import pytest

from ccc_w2v.cli.main import main
from ccc_w2v.planning.data_plan import PUBLISHED_RATE, Workload, data_plan

# Round numbers: each GPU processes 100 s of audio in a second.
ROUND = Workload(
    hours=1000,
    gpus=10,
    gpus_per_node=5,
    updates=1000,
    update_hours=2,
    gpu_rate=100,
    core_rate=1000,
    kb_per_second=20,
    read_seconds=10,
    crop_seconds=10,
    workers_per_gpu=2,
    shuffled=1000,
    parameters=1e9,
    save_updates=100,
    storage_gb_per_second=2,
    price=3,
)


def test_products_are_those_of_the_rates():
    plan = data_plan(ROUND)
    assert plan.epochs == 2
    assert plan.days == pytest.approx(2 / 24)  # 2000 h on ten GPUs of 100 h an hour
    assert plan.step_seconds == pytest.approx(7.2)
    assert (plan.gpu_hours, plan.cost) == (pytest.approx(20), pytest.approx(60))
    assert plan.corpus_tb == pytest.approx(0.072)
    assert (plan.read_mb_per_second, plan.node_mb_per_second) == (pytest.approx(20), pytest.approx(10))
    assert (plan.cores_per_gpu, plan.node_cores) == (pytest.approx(0.1), pytest.approx(0.5))
    assert plan.node_shuffle_gb == pytest.approx(5 * 2 * 1000 * 10 * 20e3 / 1e9)
    assert plan.shuffle_seconds == pytest.approx(2 * 1000 * 10 / 100)
    assert (plan.checkpoint_gb, plan.checkpoints, plan.checkpoints_tb) == (12, 10, pytest.approx(0.12))
    assert plan.save_seconds == 6
    assert plan.saving_share == pytest.approx(6 / 726)


def test_utterances_of_which_half_is_used_are_read_and_decoded_whole():
    plan, halved = data_plan(ROUND), data_plan(replace(ROUND, crop_seconds=5))
    assert halved.read_mb_per_second == pytest.approx(2 * plan.read_mb_per_second)
    assert halved.node_cores == pytest.approx(2 * plan.node_cores)
    assert halved.days == plan.days


def test_the_published_run_comes_out_as_published():
    plan = data_plan(Workload(hours=960, gpus=128, updates=250_000, gpu_rate=PUBLISHED_RATE))
    assert plan.days == pytest.approx(2.3)


def test_the_command_prints_the_plan_and_refuses_nonsense(capsys):
    assert main(["plan-data", "--hours", "960", "--gpus", "8", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["workload"]["hours"], printed["workload"]["gpus"]) == (960, 8)
    assert main(["plan-data", "--price", "2"]) == 0
    assert "GPU-hours" in capsys.readouterr().out
    assert main(["plan-data", "--gpu-rate", "0"]) == 2
    assert "--gpu-rate 0: expected a positive number" in capsys.readouterr().err
