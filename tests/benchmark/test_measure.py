import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ccc_w2v.benchmark import kmeans, measure, step

CPU = torch.device("cpu")
TOOL = Path(__file__).resolve().parents[2] / "tools" / "benchmark.py"


def test_peak_memory_counts_what_is_held_at_once():
    def hold_two_then_one():
        first, second = torch.zeros(1 << 20), torch.zeros(1 << 20)
        del first
        return second + 1

    assert measure.peak_memory(hold_two_then_one, CPU) == pytest.approx(8 << 20, rel=0.01)


def test_calls_are_interleaved_after_a_round_to_warm_up():
    calls = []
    seconds = measure.interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2, CPU)
    assert calls == ["a", "b"] * 3
    assert [len(seconds[name]) for name in ("a", "b")] == [2, 2]


def test_ratio_is_the_median_over_rounds():
    assert measure.median_ratio([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == 2.0


def test_ranges_are_found_by_name():
    def work():
        with torch.profiler.record_function("outer"), torch.profiler.record_function("inner"):
            return torch.randn(200, 200, generator=torch.Generator()).mm(torch.ones(200, 200))

    taken = measure.range_seconds(work, ["outer", "inner", "absent"], CPU)
    assert taken["outer"] >= taken["inner"] > 0
    assert taken["absent"] == 0


def test_slow_signals_count_once_in_so_many_updates():
    seconds = {step.SIGNALS: [1.0, 2.0], step.SLOW_SIGNALS: [51.0, 2.0]}
    assert step.signals_seconds(seconds) == [2.0, 2.0]


FAMILY = ("capi", "block_weight", "negatives_distance", "negatives_learned", "annotated")


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--precision", "bf16", "--checkpoint-activations", "--no-unfused"],
        ["--family", "--no-unfused"],
        ["--family", "--no-unfused", "--precision", "bf16"],
    ],
)
def test_step_measures_every_variant(options, capsys):
    parser = argparse.ArgumentParser()
    step.add_arguments(parser)
    result = step.run(parser.parse_args(["--size", "tiny", "--seconds", "1", "--rounds", "1", *options]))
    shown = capsys.readouterr().out
    keys = {"step_ratio_vs_wav2vec2", "step_ratio_vs_one_view", "objective_share"}
    keys |= {"one_context_ratio_vs_wav2vec2", "one_context_peak_ratio"}
    keys |= {"signals_share", "step_ratio_with_signals"}
    if "--family" in options:
        measures = ("ratio_vs_ours", "ratio_vs_wav2vec2", "peak_ratio")
        keys |= {f"{name}_{kind}" for name in FAMILY for kind in measures}
        assert all(f"\n{name} " in shown for name in FAMILY)
    assert result.keys() == keys | (set() if options else {"unfused_ratio_vs_ours", "objective_peak_ratio"})
    assert all(value > 0 for value in result.values())
    for name in (
        "feature encoder",
        "Transformer",
        "quantizer",
        "clustering",
        "negatives and logits",
        "backward",
        "signals",
    ):
        assert name in shown
    if not options:
        assert result["objective_peak_ratio"] < 0.2  # memory, unlike time, is the same on every machine


def test_kmeans_compares_three_implementations(monkeypatch, capsys):
    monkeypatch.setattr(kmeans, "PROBLEMS", [(400, 5)])
    parser = argparse.ArgumentParser()
    kmeans.add_arguments(parser)
    result = kmeans.run(parser.parse_args(["--seeds", "3"]))
    assert result["objective_ratio"] <= 1.01
    assert result["time_ratio_vs_fast_pytorch_kmeans"] > 0
    assert "fast-pytorch-kmeans" in capsys.readouterr().out


def test_distance_of_points_on_their_centroids_is_zero():
    points = torch.eye(4).repeat(3, 1)
    assert kmeans.mean_distance(points, torch.arange(4).repeat(3), 4) == pytest.approx(0, abs=1e-6)
    assert kmeans.mean_distance(points, torch.zeros(12, dtype=torch.long), 1) == pytest.approx(0.5)


def test_the_tool_ends_with_one_line_of_json_and_knows_wrong_words():
    finished = subprocess.run(
        [sys.executable, TOOL, "step", "--size", "tiny", "--seconds", "1", "--rounds", "1", "--no-unfused"],
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert "step_ratio_vs_one_view" in json.loads(finished.stdout.splitlines()[-1])
    wrong = subprocess.run([sys.executable, TOOL, "steps"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "invalid choice: 'steps'" in wrong.stderr
