"""ccc-w2v benchmark augment and loader run, and their last line is JSON; what they measured is not asserted on."""

import json

import pytest

from ccc_w2v.augment.pipeline import TRANSFORMS
from tests.run_tool import one_line_error, run_tool


def last_line(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_augment_measures_every_transform_and_the_whole(capsys):
    assert run_tool("benchmark", "augment", pipeline="telephone", seconds=0.5, batch=2, rounds=1) == 0
    result = last_line(capsys)
    assert result["parts"].keys() == {"decode", "crop", *TRANSFORMS, "all of telephone"}
    assert result["realtime_per_core"] == result["parts"]["all of telephone"] > 0


def test_loader_measures_each_number_of_workers(capsys):
    options = {"pipeline": "none", "seconds": 0.5, "batch": 2, "batches": 2, "rounds": 1, "step": 1000.0}
    assert run_tool("benchmark", "loader", workers="0,1", **options) == 0
    result = last_line(capsys)
    assert result["realtime"].keys() == {"0", "1"}
    assert result["wait_share"] == {"0": 0.0, "1": 0.0}


@pytest.mark.parametrize(
    ("wrong", "message"), [({"pipeline": "papper"}, "papper: neither"), ({"manifest": "gone.tsv"}, "gone.tsv: no such")]
)
@pytest.mark.parametrize("name", ["augment", "loader"])
def test_a_mistake_is_named_before_anything_is_measured(name, wrong, message, capsys):
    assert run_tool("benchmark", name, **{"seconds": 0.5, "pipeline": "none", **wrong}) == 2
    assert message in one_line_error(capsys)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"workers": "two"}, "--workers two: expected whole numbers of at least 0"),
        ({"workers": "1,-1"}, "--workers 1,-1: expected whole numbers of at least 0"),
        ({"rounds": 0}, "--rounds 0: expected a number above 0"),
    ],
)
def test_numbers_that_the_loader_cannot_take_are_one_sentence(wrong, message, capsys):
    assert run_tool("benchmark", "loader", **wrong) == 2
    assert message in one_line_error(capsys)
