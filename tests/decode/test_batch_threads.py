"""Batches in threads: order, bounds, errors, and torch's own number of threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.decode import log_probs, transcribe
from ccc_w2v.decode.batch_threads import batches_at_once, compute_ahead
from ccc_w2v.decode.ctc_model import load_ctc


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_results_come_in_order_with_the_threads_shared_out() -> None:
    release = threading.Event()

    def compute(number: int) -> tuple[int, int, str]:
        if number == 0:
            assert release.wait(3600)  # the first ends last
        else:
            release.set()
        return -number, torch.get_num_threads(), threading.current_thread().name

    results = list(compute_ahead(compute, list(range(9)), 2))
    assert [(batch, result[0]) for batch, result in results] == [(number, -number) for number in range(9)]
    assert {result[1] for _, result in results} == {2}
    assert len({result[2] for _, result in results}) == 2
    assert torch.get_num_threads() == 4


def test_no_more_run_ahead_than_allowed() -> None:
    begun: list[int] = []
    results = compute_ahead(lambda number: begun.append(number), list(range(50)), 3)
    next(results)
    results.close()
    assert len(begun) <= 6
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize("at_once", [1, 2])
def test_an_error_comes_where_its_result_would(at_once: int) -> None:
    results = compute_ahead(lambda number: 1 / (number - 2), list(range(5)), at_once)
    assert [next(results) for _ in range(2)] == [(0, -0.5), (1, -1.0)]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert torch.get_num_threads() == 4


def test_a_cpu_has_as_many_as_threads_up_to_a_bound() -> None:
    assert batches_at_once(torch.device("cpu")) == 4
    torch.set_num_threads(20)
    assert batches_at_once(torch.device("cpu")) == 8
    assert batches_at_once(torch.device("cuda")) == 2


def test_transcripts_do_not_depend_on_it(
    checkpoint: Path, test_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, manifest = load_ctc(checkpoint), read_manifest(test_set)
    results = []
    for at_once in (1, 3):
        monkeypatch.setattr(log_probs, "batches_at_once", lambda device, at_once=at_once: at_once)
        results.append(transcribe.transcribe(model, manifest, tmp_path / f"{at_once}.jsonl", {}).texts)
    assert results[0] == results[1]
    assert list(results[0]) == [f"test{index}" for index in range(6)]
