"""Searching beside the network: the same results in the same order, and what happens when processes die."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.decode import log_probs, transcribe
from ccc_w2v.decode.beam import BeamSettings, beam_search, search_processes
from ccc_w2v.decode.ctc_model import load_ctc
from ccc_w2v.decode.greedy import greedy_search
from ccc_w2v.decode.hypothesis import Hypothesis
from ccc_w2v.decode.search_pool import in_order, searching, usable_cores
from ccc_w2v.errors import InputError
from tests.run_tool import run_with

FORK = multiprocessing.get_context("fork")
Search = Callable[[torch.Tensor], list[Hypothesis]]


def scored(score: float) -> list[Hypothesis]:
    return [Hypothesis([], score, 0.0, score)]


@pytest.mark.parametrize("kind", ["greedy", "beam"])
def test_processes_change_neither_results_nor_order(
    checkpoint: Path, test_set: Path, tmp_path: Path, kind: str
) -> None:
    model, manifest = load_ctc(checkpoint), read_manifest(test_set)
    if kind == "beam":
        pytest.importorskip("flashlight.lib.text", reason="flashlight-text has no wheel for Python 3.13")
    search = beam_search(model, BeamSettings(20, nbest=3)) if kind == "beam" else greedy_search(model)
    texts, journals = [], []
    for processes in (0, 2):
        journal = tmp_path / f"{processes}.jsonl"
        options = transcribe.DecodingOptions(search, processes, max_samples=9600)
        decoded = transcribe.transcribe(model, manifest, journal, {}, options)
        texts.append(decoded.hypotheses)
        journals.append(journal.read_bytes())
    assert texts[0] == texts[1]
    assert list(texts[0]) == list(texts[1]) == [f"test{index}" for index in range(6)]
    assert journals[0] == journals[1]


def test_the_network_goes_on_while_a_search_runs(
    checkpoint: Path, test_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emitted, emit_positions = FORK.Semaphore(0), log_probs.emit_positions

    def counted(*args: object) -> list[torch.Tensor]:
        emissions = emit_positions(*args)
        emitted.release()
        return emissions

    def waits_for_the_second_batch(log_probs_TV: torch.Tensor) -> list[Hypothesis]:
        arrived = emitted.acquire(timeout=3600) and emitted.acquire(timeout=600)
        for _ in range(2):
            emitted.release()
        return scored(float(arrived))

    monkeypatch.setattr(log_probs, "emit_positions", counted)
    options = transcribe.DecodingOptions(waits_for_the_second_batch, search_processes=1, max_samples=9600)
    decoded = transcribe.transcribe(load_ctc(checkpoint), read_manifest(test_set), tmp_path / "j", {}, options)
    assert [best[0].acoustic for best in decoded.hypotheses.values()] == [1.0] * 6


@given(st.permutations(range(8)), st.integers(0, 8))
def test_results_come_in_order_and_few_wait(ends: list[int], most: int) -> None:
    futures: list[Future] = [Future() for _ in ends]
    kept: list[int] = []

    def started() -> Iterator[tuple[int, Future]]:
        for name, (end, future) in enumerate(zip(ends, futures, strict=True)):
            # Others end first; this one ends before more than ``most`` wait for it.
            if not futures[end].done():
                futures[end].set_result(end)
            if name >= most and not futures[name - most].done():
                futures[name - most].set_result(name - most)
            yield name, future
            assert name + 1 - len(kept) <= most
        for name, future in enumerate(futures):
            if not future.done():
                future.set_result(name)

    for name, result in in_order(started(), most):
        assert result == name
        kept.append(name)
    assert kept == list(range(8))


def test_cores_by_default_and_none_without_a_beam() -> None:
    assert search_processes(None, BeamSettings(5)) == usable_cores() >= 1
    assert search_processes(3, BeamSettings(5)) == 3
    assert search_processes(3, None) == 0
    with pytest.raises(InputError, match="-1 search processes; expected a number of 0 or more"), searching(scored, -1):
        pass


def killed(log_probs_TV: torch.Tensor) -> list[Hypothesis]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def test_a_killed_search_is_one_line_and_the_decoding_goes_on(
    checkpoint: Path,
    test_set: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("flashlight.lib.text", reason="flashlight-text has no wheel for Python 3.13")
    options = ["--checkpoint", checkpoint, "--manifest", test_set, "--out", tmp_path, "--beam", 5]
    with monkeypatch.context() as patched:
        patched.setattr("ccc_w2v.decode.beam.beam_search", lambda model, settings: killed)
        assert run_with("decode", *options, "--search-processes", 2) == 2
    assert "a search process was killed" in capsys.readouterr().err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["hyp.partial.jsonl"]
    assert run_with("decode", *options, "--search-processes", 2) == 0
    assert (tmp_path / "hyp.trn").is_file()


def _search_and_be_killed() -> None:
    with searching(lambda log_probs_TV: scored(1.0), 2) as submit:
        submit(torch.zeros(1, 1)).result()
        os.kill(os.getpid(), signal.SIGKILL)


def test_searchers_end_with_a_killed_decoding() -> None:
    # The pipe ends when the last process that holds its other end is gone.
    reader, writer = os.pipe()
    decoding = FORK.Process(target=_search_and_be_killed)
    decoding.start()
    os.close(writer)
    decoding.join(3600)
    assert decoding.exitcode == -signal.SIGKILL
    ended, _, _ = select.select([reader], [], [], 3600)
    assert ended
    assert os.read(reader, 1) == b""
    os.close(reader)
