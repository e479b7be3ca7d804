"""ccc-w2v benchmark precision: bfloat16 beside float32, by the loss and by the clock; times are not asserted on."""

import argparse
import json
from pathlib import Path

import pytest
import yaml
from torch import nn

from ccc_w2v.benchmark import precision, step
from ccc_w2v.benchmark.step import SIZES
from tests.run_tool import run_with
from tests.tiny_models import TINY

ROOT = Path(__file__).parents[2]


def test_200_updates_in_bfloat16_stay_within_the_spread_of_the_seeds(monkeypatch):
    monkeypatch.setitem(SIZES, "tiny", {**TINY, "encoder_layers": 1, "encoder_layerdrop": 0.0})
    args = argparse.Namespace(size="tiny", device="cpu", updates=200, seconds=0.5)
    curves = {
        name: [precision.train(args, name, seed) for seed in (1, 2, 3, 4)]
        for name in (precision.SINGLE, precision.AUTOCAST)
    }
    single, half = curves.values()
    assert single[0][-1] < single[0][0]  # it learns
    assert single != half
    assert precision.in_spreads(single, half) <= 1


def test_a_curve_depends_on_its_seed_alone():
    args = argparse.Namespace(size="tiny", device="cpu", updates=2, seconds=0.5)
    first = precision.train(args, precision.SINGLE, 1)
    assert precision.train(args, precision.SINGLE, 2) != first
    assert precision.train(args, precision.SINGLE, 1) == first


def test_a_difference_is_told_in_spreads():
    seeds = [[1.0] * 20, [2.0] * 20, [3.0] * 20]
    assert precision.in_spreads(seeds, seeds) == 0
    assert precision.in_spreads(seeds, [[value + 0.5 for value in curve] for curve in seeds]) == pytest.approx(0.5)


def test_the_command_compares_three(tmp_path, capsys):
    options = ("--size", "tiny", "--updates", 10, "--seeds", 2, "--seconds", 0.5, "--rounds", 0)
    assert run_with("benchmark", "precision", *options, "--curves", tmp_path / "curves.json") == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result.keys() >= {"autocast_difference_in_spreads", "weights_within_seed_spread", "instructions"}
    curves = json.loads((tmp_path / "curves.json").read_text())
    assert {len(curve) for losses in curves.values() for curve in losses} == {10}


def test_a_measured_step_computes_no_convolution_wrongly(monkeypatch):
    convolve = nn.Conv1d._conv_forward
    monkeypatch.setattr(nn.Conv1d, "_conv_forward", getattr(convolve, "__wrapped__", convolve))
    monkeypatch.setattr(step, "check_half_convolutions", step.check_half_convolutions.__wrapped__)
    monkeypatch.setitem(SIZES, "tiny", {**TINY, "encoder_layers": 1})
    parser = argparse.ArgumentParser()
    step.add_arguments(parser)
    bench = step.Bench(
        parser.parse_args(["--size", "tiny", "--precision", "bf16", "--device", "cpu", "--seconds", "0.5"])
    )
    bench.ours()
    assert nn.Conv1d._conv_forward.known.right


def test_the_small_size_is_the_recipes():
    model = yaml.safe_load((ROOT / "recipes/small/config/pretrain.yaml").read_text())["model"]
    recipe = {
        name: value
        for name, value in model.items()
        if name not in ("_name", "autocast", "num_negatives", "mask_length")
    }
    recipe["latent_temp"] = tuple(recipe["latent_temp"])
    assert recipe == SIZES["small"]
