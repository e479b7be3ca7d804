"""`ccc-w2v probe-watch` beside a training: each checkpoint once, whatever happens to it and to the watch."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ccc_w2v.errors import InputError
from ccc_w2v.probe import watch as watching
from ccc_w2v.probe.watch import RESULTS, Watch, alone_in, updates_of, watch_until
from ccc_w2v.training.health.history import read_rows
from tests.export.conftest import pretrained_state
from tests.fake_corpora import write_corpus, write_labels
from tests.run_tool import one_line_error, run_with


def write_checkpoint(run, updates, name=None):
    """A checkpoint of which a watch reads no more than the number of updates."""
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    path = run / "checkpoints" / (name or f"checkpoint_1_{updates}.pt")
    state = {"model": {}, "cfg": {"model": {}}, "optimizer_history": [{"num_updates": updates}]}
    torch.save(state, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)
    return path


@pytest.fixture
def probed(monkeypatch):
    """The updates that were probed, by a probe that takes no time; what ``during`` holds is called within."""
    calls, during = [], []

    def run_probe(checkpoint, train, dev, tests, out, settings, *, cache, device, overwrite):
        for call in during:
            call()
        calls.append(updates_of(checkpoint))
        cache.mkdir(parents=True)
        rate = {"rate": 1 / calls[-1], "interval": [0.0, 1.0]}
        return {"layer_weights": [0.5, 0.5], "tests": {name: {"cer": rate, "wer": rate} for name in tests}}

    monkeypatch.setattr(watching, "run_probe", run_probe)
    calls_and_during = (calls, during)
    return calls_and_during


def a_watch(run, **settings):
    return Watch(run, "train.tsv", "dev.tsv", {"dev": "dev.tsv"}, **settings)


def results(run):
    return list(read_rows(run / RESULTS)) if (run / RESULTS).is_file() else []


def test_each_update_is_probed_once_and_shown(tmp_path, probed):
    calls, _ = probed
    write_checkpoint(tmp_path, 100)
    write_checkpoint(tmp_path, 100, "checkpoint_last.pt")
    watch = a_watch(tmp_path, tensorboard=tmp_path / "tb")
    with alone_in(tmp_path):
        assert (watch.look(), watch.look()) == (1, 0)
        write_checkpoint(tmp_path, 200, "checkpoint_last.pt")
        assert watch.look() == 1
        # A watch that is started again.
        assert a_watch(tmp_path).look() == 0
    assert calls == [100, 200]
    assert [(row["update"], row["probe_dev_cer"]) for row in results(tmp_path)] == [(100, 0.01), (200, 0.005)]
    events = EventAccumulator(str(tmp_path / "tb" / "probe")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("probe_dev_wer")] == [
        (100, pytest.approx(0.01)),
        (200, pytest.approx(0.005)),
    ]
    assert not list((tmp_path / "probes").rglob("features"))
    assert not list((tmp_path / "probes").glob(".checkpoint*"))


def test_a_slow_probe_keeps_the_checkpoint_that_the_training_deletes(tmp_path, probed):
    calls, during = probed
    path = write_checkpoint(tmp_path, 100)
    during.append(lambda: path.unlink(missing_ok=True))
    with alone_in(tmp_path):
        assert a_watch(tmp_path).look() == 1
    assert calls == [100]
    assert not path.exists()


def test_a_killed_watch_is_taken_up_by_the_next(tmp_path, probed):
    calls, during = probed
    write_checkpoint(tmp_path, 100)
    during.append(lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt), alone_in(tmp_path):
        a_watch(tmp_path).look()
    # A kill leaves the link behind and half a line.
    shutil.copyfile(tmp_path / "checkpoints" / "checkpoint_1_100.pt", tmp_path / "probes" / ".checkpoint-1-1.pt")
    (tmp_path / RESULTS).write_text('{"upd')
    during.clear()
    with alone_in(tmp_path):
        assert a_watch(tmp_path).look() == 1
    assert calls == [100]
    assert results(tmp_path)[-1]["update"] == 100
    assert not list((tmp_path / "probes").glob(".checkpoint*"))


def test_a_second_watch_of_a_run_is_refused(tmp_path):
    with alone_in(tmp_path), pytest.raises(InputError, match="another probe-watch"), alone_in(tmp_path):
        pass


def test_a_damaged_checkpoint_does_not_end_the_watch(tmp_path, probed, caplog):
    calls, _ = probed
    write_checkpoint(tmp_path, 100).write_bytes(b"damaged")
    write_checkpoint(tmp_path, 200)
    with alone_in(tmp_path):
        assert a_watch(tmp_path).look() == 1
    assert calls == [200]
    assert "is not probed" in caplog.text


def test_it_goes_on_until_it_is_told(tmp_path, probed):
    calls, _ = probed
    write_checkpoint(tmp_path, 100)
    pauses = []

    def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) < 3:
            write_checkpoint(tmp_path, 100 + 100 * len(pauses))

    with alone_in(tmp_path):
        watch_until(a_watch(tmp_path), lambda: len(pauses) > 2, 5.0, sleep)
    assert calls == [100, 200, 300]
    assert pauses == [5.0] * 3


def test_an_older_checkpoint_that_comes_later_takes_no_result_away(tmp_path, probed):
    calls, _ = probed
    watch = a_watch(tmp_path)
    with alone_in(tmp_path):
        for updates in (200, 100):
            write_checkpoint(tmp_path, updates)
            watch.look()
        assert a_watch(tmp_path).look() == 0
    assert calls == [200, 100]


def write_labelled(folder):
    for number, name in enumerate(("train", "dev")):
        manifest = write_corpus(folder, [9600, 8000, 12345, 8000], name=name, seed=10 * number)
        write_labels(manifest, ["A BAD CAB", "DAD", "BEAD A", "FACE"])
    return ["--train", folder / "train.tsv", "--dev", folder / "dev.tsv", "--updates", 4]


def test_a_real_watch_is_stopped_started_twice_killed_and_taken_up(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "nice", lambda _: 0)  # of the tests' own process
    run, options = tmp_path / "run", [*write_labelled(tmp_path), "--updates", 400]
    run.mkdir()
    torch.save(pretrained_state(), run / "checkpoint_last.pt")
    command = [sys.executable, "-m", "ccc_w2v", "probe-watch", run, *options]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, start_new_session=True)
    try:
        while not list((run / "probes").glob("update*/settings.json")):  # the probe has begun
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGSTOP)  # as slow as can be: the training writes its checkpoints all the same
        torch.save(pretrained_state(), run / "new.pt")
        os.replace(run / "new.pt", run / "checkpoint_last.pt")
        assert run_with("probe_watch", run, *options, "--once") == 2
        assert "another probe-watch is at work" in one_line_error(capsys)
    finally:
        process.kill()
        process.wait()
    assert not results(run)
    assert run_with("probe_watch", run, *options, "--once") == 0
    assert [row["update"] for row in results(run)] == [1000]
    assert not list((run / "probes").glob(".checkpoint*"))


def test_the_command_probes_a_real_checkpoint(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "nice", lambda _: 0)  # of the tests' own process
    options = [*write_labelled(tmp_path), "--once"]
    run = tmp_path / "run"
    (run / "tensorboard").mkdir(parents=True)
    torch.save(pretrained_state(), run / "checkpoint_last.pt")
    before = (run / "checkpoint_last.pt").read_bytes()
    assert run_with("probe_watch", run, *options) == 0
    (row,) = results(run)
    assert row["update"] == 1000
    assert row["probe_dev_cer"] > 0
    assert len(row["layer_weights"]) > 1
    assert (run / "checkpoint_last.pt").read_bytes() == before
    assert list((run / "tensorboard" / "probe").glob("events*"))
    capsys.readouterr()
    assert run_with("probe_watch", tmp_path / "missing", *options) == 2
    assert "no such folder" in one_line_error(capsys)
