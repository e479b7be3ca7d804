"""Mixtures: what an epoch takes of each corpus, whatever the workers and ranks, and how its utterances are treated."""

import itertools
from collections import Counter

import numpy as np
import pytest
import scipy.stats
import torch
from fairseq.data.data_utils import numpy_seed

from ccc_w2v.augment.pipeline import load_pipeline
from ccc_w2v.data.manifest import Entry, Manifest, read_manifest
from ccc_w2v.data.mixture import MixedCorpus, Mixture
from ccc_w2v.dataset.mixture import MixedPipeline, MixtureDataset
from ccc_w2v.dataset.two_view import TwoViewDataset
from tests.dataset.test_epochs import iterator
from tests.fake_corpora import RATE, write_corpus

COUNTS = {"read": 400, "phone": 100, "tv": 40}


def listed(name, count, seconds=10.0):
    lengths = np.random.default_rng(len(name)).uniform(0.8, 1.2, count) * seconds * RATE
    entries = tuple(Entry(f"{name}{n}.wav", int(samples), n + 2) for n, samples in enumerate(lengths))
    return Manifest(f"{name}.tsv", "/corpus", entries)


def mixed(counts=COUNTS, seconds=(10.0, 10.0, 10.0), seed=1, **weighted):
    corpora = tuple(
        MixedCorpus(name, f"{name}.tsv", weight)
        for name, weight in zip(counts, weighted.pop("given", [None] * len(counts)), strict=True)
    )
    pipeline = load_pipeline("none", RATE)
    parts = {
        name: TwoViewDataset(listed(name, count, length), pipeline, RATE, seed)
        for (name, count), length in zip(counts.items(), seconds, strict=True)
    }
    return MixtureDataset(Mixture("mixture.yaml", corpora, **weighted), parts)


def corpus_of(dataset, index):
    return dataset.names[dataset.entries.place(int(index))[0]]


def test_by_hours_every_utterance_is_heard_once_in_every_epoch_in_another_order():
    dataset = mixed()
    paths = []
    for epoch in (1, 2):
        dataset.set_epoch(epoch)
        paths.append([entry.path for entry in dataset.entries])
    assert (
        sorted(paths[0]) == sorted(paths[1]) == sorted(entry.path for part in dataset.parts for entry in part.entries)
    )
    assert paths[0] != paths[1]


@pytest.mark.parametrize(("temperature", "shares"), [(1.0, [0.74, 0.185, 0.074]), (2.0, [0.55, 0.27, 0.18])])
def test_a_temperature_flattens_the_shares_of_hours(temperature, shares):
    dataset = mixed(weights="temperature", temperature=temperature)
    hours = [dataset.parts[corpus].sizes.sum() for corpus in range(3)]
    flat = np.array(hours) ** (1 / temperature)
    measured = np.array(list(dataset.quotas.values())) * [part.sizes.mean() for part in dataset.parts]
    assert measured / measured.sum() == pytest.approx(flat / flat.sum(), abs=0.01)
    assert measured / measured.sum() == pytest.approx(shares, abs=0.015)
    assert measured.sum() == pytest.approx(sum(hours), rel=0.01)


def test_given_weights_are_shares_of_hours_and_fairseqs_of_utterances():
    counts, seconds = {"short": 100, "long": 100}, (5.0, 20.0)
    ours = mixed(counts, seconds, given=[1, 1], weights="given")
    hours = [ours.quotas[name] * part.sizes.mean() for name, part in zip(counts, ours.parts, strict=True)]
    assert hours[0] == pytest.approx(hours[1], rel=0.01)
    theirs = mixed(counts, seconds, given=[0.25, 0.75], weights="given", of_utterances=True)
    assert theirs.quotas == {"short": 50, "long": 150}


def test_no_utterance_is_heard_twice_before_all_of_its_corpus_are_heard_once():
    dataset = mixed(given=[1, 1, 1], weights="given")
    heard = Counter()
    for epoch in range(1, 8):
        dataset.set_epoch(epoch)
        heard.update(entry.path for entry in dataset.entries)
        for name, count in COUNTS.items():
            times = [heard[f"{name}{number}.wav"] for number in range(count)]
            assert max(times) - min(times) <= 1
            assert sum(times) == epoch * dataset.quotas[name]


class Numbers(MixtureDataset):
    """Whose utterances are their numbers."""

    def __getitem__(self, index):
        return int(index)

    def collater(self, samples):
        return samples


def epoch_of(dataset, epoch, offset=0, **options):
    """Return the batches of an epoch from the ``offset``th on, as fairseq's trainer gets them for such a dataset."""
    assert not dataset.can_reuse_epoch_itr_across_epochs
    dataset.__class__ = Numbers
    dataset.set_epoch(epoch)
    made_by, _ = iterator(dataset, ours=True, tokens=40 * RATE, epoch=epoch, **options)
    if offset:
        made_by.load_state_dict({"version": 2, "epoch": epoch, "iterations_in_epoch": offset, "shuffle": True})
    return [list(batch) for batch in made_by.next_epoch_itr()]


def test_the_batches_of_a_training_hold_the_corpora_in_their_shares():
    dataset = mixed(weights="temperature", temperature=2.0)
    seen = Counter()
    for epoch in range(1, 7):
        batches = epoch_of(dataset, epoch)
        for batch in batches[: len(batches) // 3]:
            seen.update(corpus_of(dataset, index) for index in batch)
    expected = [sum(seen.values()) * dataset.quotas[name] / len(dataset) for name in COUNTS]
    statistic = scipy.stats.chisquare([seen[name] for name in COUNTS], expected)
    assert statistic.pvalue > 0.01
    uniform = scipy.stats.chisquare([seen[name] for name in COUNTS])
    assert uniform.pvalue < 1e-6


def test_ranks_share_an_epoch_between_them():
    weighted = {"given": [1, 2, 3], "weights": "given"}
    for epoch in (1, 4):
        ranks = [epoch_of(mixed(**weighted), epoch, shards=3, rank=rank) for rank in range(3)]
        dealt = [batch for row in itertools.zip_longest(*ranks) for batch in row if batch]
        assert dealt == epoch_of(mixed(**weighted), epoch)


def test_a_resumed_mixture_continues_where_it_stood():
    dataset, options = mixed(given=[1, 2, 3], weights="given"), {"shards": 2, "rank": 1}
    straight = []
    for epoch in range(1, 5):
        batches = epoch_of(dataset, epoch, **options)
        straight.append((batches, [entry.path for entry in dataset.entries]))
    resumed = mixed(given=[1, 2, 3], weights="given")
    for epoch, offset in ((3, 7), (4, 0)):
        batches, paths = straight[epoch - 1]
        assert epoch_of(resumed, epoch, offset, **options) == batches[offset:]
        assert [entry.path for entry in resumed.entries] == paths
    assert straight[2][1] != straight[3][1]


@pytest.fixture
def real(tmp_path):
    """Three corpora of audio: one with noise, one without, one of which a file is broken."""
    (tmp_path / "noise.yaml").write_text("transforms:\n  - {name: gaussian_noise, p: 1.0, std_ratio: [0.2, 0.2]}\n")
    noisy, plain = load_pipeline(tmp_path / "noise.yaml", RATE), load_pipeline("none", RATE)
    manifests = {}
    for seed, name in enumerate(("noisy", "plain", "broken")):
        manifests[name] = write_corpus(tmp_path / name, [24000, 16000, 20000, 30000], seed=seed)
    (tmp_path / "broken" / "audio" / "train1.wav").write_bytes(b"no audio")

    def make(policy="skip"):
        options = {"broken": {"on_bad_audio": policy}}
        parts = {
            name: TwoViewDataset(
                read_manifest(path), noisy if name == "noisy" else plain, RATE, 1, **options.get(name, {})
            )
            for name, path in manifests.items()
        }
        corpora = tuple(MixedCorpus(name, path) for name, path in manifests.items())
        return MixtureDataset(Mixture("mixture.yaml", corpora), parts)

    return make


def test_each_utterance_follows_its_corpus_pipeline_and_its_policy(real):
    dataset = real()
    batch = dataset.collater([dataset[index] for index in range(len(dataset))])
    assert batch["bad_audio"] == 1
    assert len(batch["id"]) == 11
    views = batch["net_input"]
    for row, index in enumerate(batch["id"]):
        changed = not torch.equal(views["source"][row], views["source_aug"][row])
        assert changed == (corpus_of(dataset, index) == "noisy")
    length = views["source"].shape[1]
    assert batch["processed"] == {"noisy": 4 * length, "plain": 4 * length, "broken": 3 * length}
    ending = real("raise")
    assert "train1.wav" in ending.collater([ending[index] for index in range(len(ending))])["error"]


def test_a_batch_that_is_lost_whole_has_no_hours_of_any_corpus(real):
    dataset = real()
    (broken,) = (i for i in range(len(dataset)) if dataset.entries[i].path.endswith("train1.wav") and i >= 8)
    batch = dataset.collater([dataset[broken]])
    assert batch["lost"]
    assert batch["processed"] == {"noisy": 0, "plain": 0, "broken": 0}


@pytest.mark.parametrize("workers", [1, 2])
def test_data_workers_change_nothing(real, workers):
    batches = [[0, 5, 9], [3, 7, 10]]
    for epoch in (1, 2):
        alone, together = (
            list(loader(real(), epoch, batches, number_of_workers)) for number_of_workers in (0, workers)
        )
        for single, other in zip(alone, together, strict=True):
            assert single["id"].tolist() == other["id"].tolist()
            assert single["processed"] == other["processed"]
            for view in ("source", "source_aug"):
                assert torch.equal(single["net_input"][view], other["net_input"][view])


def loader(dataset, epoch, batches, workers):
    dataset.set_epoch(epoch)
    return torch.utils.data.DataLoader(dataset, batch_sampler=batches, num_workers=workers, collate_fn=dataset.collater)


def test_an_utterance_that_stands_twice_in_an_epoch_is_cropped_anew(tmp_path):
    manifest = read_manifest(write_corpus(tmp_path, [40000]))
    other = read_manifest(write_corpus(tmp_path / "other", [40000] * 9))
    pipeline = load_pipeline("none", RATE)
    parts = {
        name: TwoViewDataset(listing, pipeline, RATE, 1, max_sample_size=16000)
        for name, listing in {"small": manifest, "large": other}.items()
    }
    corpora = (MixedCorpus("small", tmp_path, 0.5), MixedCorpus("large", tmp_path, 0.5))
    dataset = MixtureDataset(Mixture("mixture.yaml", corpora, "given"), parts)
    assert dataset.quotas == {"small": 5, "large": 5}
    views = dataset.collater([dataset[index] for index in range(5)])["net_input"]["source"]
    assert len({tuple(row[:50].tolist()) for row in views}) == 5


def test_a_mixed_pipeline_applies_what_others_have_drawn_too(tmp_path):
    (tmp_path / "noise.yaml").write_text("transforms:\n  - {name: gaussian_noise, p: 1.0}\n")
    other = load_pipeline(tmp_path / "noise.yaml", RATE)
    waves = torch.randn(2, 1000, generator=torch.Generator().manual_seed(1))
    drawn = [other.draw(torch.Generator().manual_seed(row), 1000) for row in range(2)]
    mixed_pipeline = MixedPipeline([load_pipeline("none", RATE)], other)
    assert torch.equal(mixed_pipeline.apply(waves, drawn), other.apply(waves, drawn))


def test_the_order_of_an_epoch_is_fairseqs_and_longest_first():
    dataset = mixed(weights="temperature", temperature=3.0)
    with numpy_seed(3):
        indices = dataset.ordered_indices()
    assert (np.diff(dataset.sizes[indices]) <= 0).all()
    assert dataset.num_tokens_vec(indices).tolist() == [dataset.size(index) for index in indices]
