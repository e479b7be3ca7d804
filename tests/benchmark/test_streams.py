"""ccc-w2v benchmark streams: every place delivers the same speech, the table is whole, nothing is left behind.

What is measured is not asserted on.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ccc_w2v.benchmark import streams
from ccc_w2v.benchmark.range_server import served
from ccc_w2v.data.manifest import write_manifest
from ccc_w2v.user_cache import cache_folder
from tests.run_tool import one_line_error, run_with

RATE = 16_000
TOOL = Path(__file__).resolve().parents[2] / "tools" / "benchmark.py"
FEW = ("--seconds", "0.5", "--batch", "2", "--batches", "2", "--rounds", "1")


@pytest.fixture
def temporary():
    """Give a folder for temporary folders, which has to be empty afterwards.

    Its name is short: data workers hand tensors on through sockets below it, and a socket's path has 107 letters at
    most. With a longer one they lose their batches, and whoever waits for these waits for ever.
    """
    folder = Path(tempfile.mkdtemp(prefix="s"))
    yield folder
    left = list(folder.iterdir())
    shutil.rmtree(folder)
    assert left == []


@pytest.fixture
def elsewhere(tmp_path, temporary, monkeypatch):
    """Let temporary folders and the user's cache be empty folders, which have to be empty afterwards."""
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield temporary
    assert not (tmp_path / "cache").exists()
    assert cache_folder().parent == tmp_path / "cache"


def speech(folder, lengths):
    folder.mkdir()
    draw = np.random.default_rng(0)
    lines = []
    for number, length in enumerate(lengths):
        soundfile.write(folder / f"{number}.flac", draw.uniform(-0.5, 0.5, length), RATE, subtype="PCM_16")
        lines.append((f"{number}.flac", length))
    write_manifest(folder / "train.tsv", folder, lines)
    return folder / "train.tsv"


def test_the_table_has_a_row_for_each_combination(capsys, elsewhere):
    pytest.importorskip("aiohttp", reason="extra streams")
    lists = ("--workers", "0,1", "--requests", "1,3", "--latency-ms", "0,5")
    assert run_with("benchmark", "streams", *FEW, *lists) == 0
    printed = capsys.readouterr().out.splitlines()
    result = json.loads(printed[-1])
    keys = [(row["source"], row["latency_ms"], row["requests"], row["workers"]) for row in result["rows"]]
    local = [(name, None, None, workers) for name in ("files", "zip", "tar") for workers in (0, 1)]
    far = [("http", late, requests, workers) for late in (0, 5) for requests in (1, 3) for workers in (0, 1)]
    assert keys == local + far
    assert result["same_samples"] is True
    assert len([line for line in printed if line.startswith(("files", "zip", "tar", "http"))]) == len(keys)
    for row in result["rows"]:
        assert min(row["realtime"], row["mb_per_second"], row["utterances_per_second"]) > 0
        assert row["realtime"] == pytest.approx(row["utterances_per_second"] * result["seconds"], rel=0.1, abs=1)
    assert result["utterances"] == 24


def options(**changed):
    parser = argparse.ArgumentParser()
    streams.add_arguments(parser)
    args = parser.parse_args(FEW)
    return argparse.Namespace(**{**vars(args), **changed})


def test_every_source_delivers_what_is_in_the_files(tmp_path, elsewhere):
    pytest.importorskip("aiohttp", reason="extra streams")
    manifest = speech(tmp_path / "speech", [8000, 7999, 8000, 8000, 8000, 100, 8000])
    read = [soundfile.read(manifest.with_name(f"{n}.flac"), dtype="float32")[0] for n in (0, 2, 3, 4, 6)]
    expected = np.stack([(wave - wave.mean()) / np.sqrt(wave.var() + 1e-5) for wave in read])
    with streams.opened(options(manifest=str(manifest)), [0.0, 3.0], [1, 4]) as sources:
        assert [source.name for source in sources] == ["files", "zip", "tar", *["http"] * 4]
        roots = {source.dataset.manifest.root for source in sources}
        assert len(roots) == 5  # two latencies, each an address of its own
        assert [source.dataset.at_once for source in sources] == [1, 1, 1, 1, 4, 1, 4]
        for source in sources:
            batch = source.dataset.collater(source.dataset.__getitems__(range(5)))
            views = batch["net_input"]
            np.testing.assert_allclose(views["source"].numpy(), expected, atol=1e-5)
            np.testing.assert_array_equal(views["source"].numpy(), views["source_aug"].numpy())
        assert streams._same_samples(sources, 5)
        sources[2].dataset.set_epoch(2)
        assert streams._same_samples(sources, 5)  # a crop as long as its utterance has one place
        sources[2].dataset.normalize = False
        assert not streams._same_samples(sources, 5)
        assert all(set(source.dataset.manifest.source.split("/")) & {elsewhere.name} for source in sources)


def test_an_answer_comes_after_its_latency_and_ranges_are_served(tmp_path):
    pytest.importorskip("aiohttp", reason="extra streams")
    (tmp_path / "shard.tar").write_bytes(bytes(range(200)))
    with served(tmp_path, [0, 150]) as addresses:
        for address, least in zip(addresses, (0, 0.15), strict=True):
            request = urllib.request.Request(f"{address}/shard.tar", headers={"Range": "bytes=20-29"})
            began = time.monotonic()
            with urllib.request.urlopen(request) as answer:
                assert (answer.status, answer.read()) == (206, bytes(range(20, 30)))
            assert time.monotonic() - began >= least  # a wait has no upper bound
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{addresses[0]}/shard.tar")


def test_without_aiohttp_the_rest_is_measured(capsys, elsewhere, monkeypatch):
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    assert run_with("benchmark", "streams", *FEW, "--workers", "0") == 0
    captured = capsys.readouterr()
    assert "pip install 'ccc-w2v[streams]'" in captured.err
    assert [row["source"] for row in json.loads(captured.out.splitlines()[-1])["rows"]] == ["files", "zip", "tar"]


def test_without_a_latency_there_is_no_server(capsys, elsewhere, monkeypatch):
    monkeypatch.setattr(streams, "served", None)
    assert run_with("benchmark", "streams", *FEW, "--workers", "0", "--latency-ms", "") == 0
    assert len(json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]) == 3


def test_only_so_many_utterances_of_a_manifest_are_copied(tmp_path, elsewhere):
    manifest = speech(tmp_path / "speech", [8000] * 9)
    with streams.opened(options(manifest=str(manifest), utterances=3), [], []) as sources:
        assert [entry.path for entry in sources[0].dataset.manifest.entries] == ["0.flac", "4.flac", "8.flac"]
        assert all(len(source.dataset) == 3 for source in sources)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("--workers", "x"), "--workers x: expected whole numbers of at least 0"),
        (("--workers", "-1"), "--workers -1: expected whole numbers of at least 0"),
        (("--workers", ""), "--workers '': expected whole numbers of at least 0"),
        (("--requests", "0"), "--requests 0: expected whole numbers of at least 1"),
        (("--requests", "1.5"), "--requests 1.5: expected whole numbers of at least 1"),
        (("--latency-ms", "-1"), "--latency-ms -1: expected numbers of at least 0"),
        (("--latency-ms", "nan"), "--latency-ms nan: expected numbers of at least 0"),
        (("--latency-ms", "0,,5"), "--latency-ms 0,,5: expected numbers of at least 0"),
        (("--rounds", "0"), "--rounds 0: expected a number above 0"),
        (("--seconds", "nan"), "--seconds nan: expected a number above 0"),
        (("--manifest", "gone.tsv"), "gone.tsv: no such"),
        (("--manifest", "https://host/train.tsv"), "expected a .tsv of files"),
    ],
)
def test_a_mistake_is_one_sentence(wrong, message, capsys, elsewhere):
    assert run_with("benchmark", "streams", *FEW, *wrong) == 2
    assert message in one_line_error(capsys)


def test_speech_that_does_not_fit_is_one_sentence(tmp_path, capsys, elsewhere):
    short = speech(tmp_path / "short", [4000, 100])
    assert run_with("benchmark", "streams", *FEW, "--manifest", short) == 2
    assert "none of 2 utterances has 0.5 s; lower --seconds" in one_line_error(capsys)
    write_manifest(tmp_path / "slices.tsv", tmp_path, [("a.zip:0:10", 8000)])
    assert run_with("benchmark", "streams", *FEW, "--manifest", tmp_path / "slices.tsv") == 2
    assert "slices.tsv:2: a.zip:0:10: is a part of a file" in one_line_error(capsys)


def children_of(pid):
    """Return the processes below one, and theirs."""
    try:
        direct = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has ended
        return []
    return [*direct, *(below for child in direct for below in children_of(child))]


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(tmp_path, temporary, number):
    pytest.importorskip("aiohttp", reason="extra streams")
    environment = {**os.environ, "TMPDIR": str(temporary), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("TQDM_DISABLE", None)  # its progress says where it is
    few = ("--seconds", "0.5", "--batch", "1", "--batches", "200", "--rounds", "1", "--workers", "2")
    command = [sys.executable, TOOL, "streams", *few, "--requests", "1", "--latency-ms", "300"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True) as tool:
        try:
            # Each answer of the server takes 0.3 s: files, zip and tar are done, and 200 of its answers are not.
            said = ""
            while "http" not in said.rpartition("\r")[2]:
                letter = tool.stderr.read(1)
                assert letter, f"ended early: {said[-2000:]}"
                said += letter
            # While it forks, Python drops what the handler of a signal raises: both workers are there first.
            while len(below := children_of(tool.pid)) < 4:  # they, the server, multiprocessing's tracker
                assert tool.poll() is None
                time.sleep(0.1)
            time.sleep(1)
            assert list(temporary.iterdir())
            tool.send_signal(number)
            said += tool.communicate(timeout=120)[1]
        finally:
            tool.kill()
    assert tool.returncode == 128 + number, said[-2000:]
    assert "Traceback" not in said
    deadline = time.monotonic() + 60
    while (alive := [pid for pid in below if is_running(pid)]) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert alive == []
    assert not (tmp_path / "cache").exists()
