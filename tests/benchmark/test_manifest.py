"""ccc-w2v benchmark manifest: what is measured is there and of the right order; times are not asserted on."""

import json

import pytest

from ccc_w2v.benchmark.manifest import write_lines
from ccc_w2v.data.manifest import read_manifest
from tests.run_tool import run_with

LINES = 200_000


def test_the_lean_manifest_takes_less_memory_than_fairseqs(capsys, tmp_path):
    few = ["--processes", 2, "--workers", 1, "--fairseq-processes", 2, "--batches", 20, "--folder", tmp_path]
    lines = ["--lines", LINES, "--fairseq-lines", LINES]
    assert run_with("benchmark", "manifest", *lines, *few) == 0
    measured = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (measured["dataset"], measured["lines"], measured["processes"]) == ("TwoViewDataset", LINES, 2)
    theirs = measured["fairseq"]
    assert (theirs["dataset"], theirs["lines"]) == ("FileAudioDataset", LINES)
    for row in (measured, theirs):
        assert row["start_seconds"] > 0
        assert row["order_seconds"] > 0
    # Some 280 bytes a line in each process; ours shares 10 bytes a line.
    assert theirs["private_mb_per_process"] > 20
    assert measured["private_mb_per_process"] < theirs["private_mb_per_process"] / 2
    assert (tmp_path / f"lines_{LINES}.tsv.index").is_file()


def test_the_manifest_of_the_measurement_is_a_manifest(tmp_path):
    manifest = read_manifest(write_lines(tmp_path / "lines_1500.tsv", 1500))
    assert len(manifest) == len({entry.path for entry in manifest.entries}) == 1500
    assert 32_000 <= manifest.samples.min() < manifest.samples.max() < 560_000


@pytest.mark.parametrize("option", ["--lines", "--processes", "--workers", "--batches"])
def test_a_number_out_of_range_is_one_sentence(capsys, option):
    assert run_with("benchmark", "manifest", option, "-1") == 2
    assert f"{option} -1: must be a positive whole number" in capsys.readouterr().err
