"""ccc-w2v benchmark scale: every axis is measured, drawn and judged; times are not asserted on."""

import json

import pytest

from ccc_w2v.benchmark import scale
from tests.run_tool import one_line_error, run_with

EMPTY = dict.fromkeys(scale.LISTS, "")


def measured(capsys, tmp_path, **lists):
    options = [f"--{name}={values}" for name, values in {**EMPTY, **lists}.items()]
    plot = tmp_path / "scale.png"
    assert (
        run_with("benchmark", "scale", "--size", "tiny", "--rounds", 1, "--pipeline", "none", "--plot", plot, *options)
        == 0
    )
    assert plot.read_bytes()[:4] == b"\x89PNG"
    printed = capsys.readouterr().out.splitlines()
    return json.loads(printed[-1]), printed


def test_memory_grows_with_utterances_and_seconds_as_it_should(capsys, tmp_path):
    lists = {"utterances": "1,2", "seconds": "1.0,2.0", "negatives": "10,20", "clusters": "4,8", "codes": "20,40"}
    result, printed = measured(capsys, tmp_path, **lists)
    curves = result["curves"]
    assert curves.keys() == lists.keys()
    for curve in curves.values():
        assert len(curve["seconds"]) == len(curve["peak_mib"]) == 2
        assert min(curve["seconds"]) > 0
    # Memory, unlike time, is the same on every machine.
    assert scale.exponent([1, 2], curves["utterances"]["peak_mib"]) == pytest.approx(1, abs=0.1)
    assert scale.exponent([1, 2], curves["codes"]["peak_mib"]) < 0.5
    assert any("linear" in line for line in printed)


def test_processes_and_workers_are_measured(capsys, tmp_path):
    result, _ = measured(capsys, tmp_path, processes="1,2", workers="0,1")
    assert min(result["curves"]["processes"]["seconds"]) > 0
    assert min(result["curves"]["workers"]["times_real_time"]) > 0


def test_growth_worse_than_linear_is_named_with_its_part_and_reason():
    values = [5, 10, 20]
    square = {"values": values, "seconds": [1.0, 4.0, 16.0], "peak_mib": [10, 20, 40]}
    square["parts"] = {"Transformer": [0.5, 2.0, 8.0], "feature encoder": [0.5, 1.0, 2.0]}
    named = scale._faster_than_linear("seconds", square)
    assert named.startswith("time by the power 2.00; attention")
    assert named.endswith("(parts, by their powers: Transformer 2.00)")
    assert scale._faster_than_linear("seconds", {**square, "seconds": [1.0, 2.0, 4.0]}) is None


@pytest.mark.parametrize(
    ("option", "text", "expected"),
    [
        ("--utterances", "1,x", "whole numbers of at least 1"),
        ("--seconds", "0", "numbers of at least 0.1"),
        ("--workers", "-1", "whole numbers of at least 0"),
    ],
)
def test_an_axis_of_wrong_numbers_is_one_sentence(option, text, expected, capsys):
    assert run_with("benchmark", "scale", "--size", "tiny", option, text) == 2
    assert f"{option} {text}: expected {expected}" in one_line_error(capsys)
