"""Kernels are counted where they start; a step of ours starts no more of them than it did: a count, never a time."""

import pytest
import torch

from ccc_w2v.benchmark.launches import KernelCounter, kernels
from ccc_w2v.criterion import CccCriterion
from ccc_w2v.settings.criterion import CccCriterionConfig
from tests.pretended_cuda import CUDA, backward, pretended_cuda
from tests.test_criterion import sample
from tests.test_device_waits import on_device
from tests.tiny_models import tiny_ccc


def test_views_and_empty_memory_start_nothing():
    def call():
        values = torch.empty(2, 3)
        values.zero_()
        with torch.profiler.record_function("sums"):
            (values.view(3, 2).T.unsqueeze(0) + 1).sum()

    assert kernels(call, torch.device("cpu")) == {"rest": 1, "sums": 2}
    assert kernels(call, torch.device("cuda")) == {}


def started(monkeypatch, contexts, samples=16_000):
    model = tiny_ccc().train()
    model.set_num_updates(7)
    criterion = CccCriterion(CccCriterionConfig(contexts=contexts), task=None)
    with pretended_cuda(monkeypatch):
        model.to(CUDA)
        batch = on_device(sample(samples=samples))
        with KernelCounter("cuda") as counter:
            loss = criterion(model, batch)[0]
            counter.ranges[0] = "backward"
            backward(loss)
    return counter.counts


# Of a model of two layers, a few more than were counted: (two views, the original's context alone).
MOST = {
    "ccc.clustering": (185, 185),
    "ccc.negatives_and_logits": (96, 73),
    "ccc.signals": (200, 150),
    "ccc.quantizer": (75, 75),
}
MOST_IN_ALL = (1090, 1045)


@pytest.mark.parametrize(("contexts", "column"), [("both", 0), ("original", 1)])
def test_a_step_starts_few_kernels(monkeypatch, contexts, column):
    counts = started(monkeypatch, contexts)
    for part, most in MOST.items():
        assert 0 < counts[part] <= most[column], (part, counts)
    assert sum(counts.values()) <= MOST_IN_ALL[column], counts


def test_one_context_starts_no_more_than_two(monkeypatch):
    alone, both = (sum(started(monkeypatch, contexts).values()) for contexts in ("original", "both"))
    assert alone <= both


def test_the_encoder_of_longer_utterances_starts_no_more(monkeypatch):
    """Not one for each run of masked frames; the clustering has more clusters then."""
    short, long = (started(monkeypatch, "original", samples) for samples in (16_000, 64_000))
    assert long["rest"] == short["rest"]
    assert long["backward"] == short["backward"]


def test_a_further_cluster_takes_few_kernels(monkeypatch):
    counts = [started(monkeypatch, "both", samples)["ccc.clustering"] for samples in (64_000, 128_000)]
    assert 0 < counts[1] - counts[0] <= 10 * 4  # four clusters more
