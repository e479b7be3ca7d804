"""A training on shards is that on the files: same batches, crops and views whatever reads them; a good shuffle."""

import itertools
import logging
import tarfile

import numpy as np
import pytest
import torch
from fairseq.data.data_utils import numpy_seed
from fairseq.data.iterators import EpochBatchIterator

from ccc_w2v.augment.pipeline import load_pipeline
from ccc_w2v.data import remote, streams
from ccc_w2v.data.manifest import read_manifest, write_manifest
from ccc_w2v.data.remote import Patience
from ccc_w2v.data.shard_packing import pack_shards
from ccc_w2v.data.streams import read_source
from ccc_w2v.dataset import two_view
from ccc_w2v.dataset.epochs import lean
from ccc_w2v.dataset.two_view import TwoViewDataset
from tests.data.shard_server import ShardServer
from tests.fake_corpora import RATE, write_corpus

NOISE = """
transforms:
  - {name: gaussian_noise, p: 1.0, std_ratio: [0.1, 0.3]}
"""
SHORT = Patience(60, 2)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(remote, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(streams, "FRESH_SECONDS", 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve recordings as files and, below packed, as four shards."""
    folder = tmp_path_factory.mktemp("corpus")
    raw = read_manifest(write_corpus(folder, [16000 + 700 * (index % 5) for index in range(12)]))
    assert len(pack_shards(raw, folder / "packed/train.tsv", RATE, 110_000)) == 4
    (folder / "noise.yaml").write_text(NOISE)
    return folder


def dataset_of(folder, manifest, **options):
    options = {"patience": SHORT, **options}
    return TwoViewDataset(manifest, load_pipeline(folder / "noise.yaml", RATE), RATE, seed=3, **options)


def epoch_of(dataset, *, workers=0, ranks=1, epoch=1, offset=0):
    """Return all ranks' batches of an epoch, a list for each rank."""
    dataset.set_epoch(epoch)
    with numpy_seed(7 + epoch):
        batches = dataset.batch_by_size(dataset.ordered_indices(), max_tokens=60_000)
    out = []
    for rank in range(ranks):
        iterator = EpochBatchIterator(
            dataset, dataset.collater, batches, seed=1, num_shards=ranks, shard_id=rank, epoch=epoch
        )
        lean(iterator)
        own = iterator.ordered_batches(epoch, False, True)
        own = [own[number].tolist() for number in range(offset, len(own))]
        loader = torch.utils.data.DataLoader(
            dataset, batch_sampler=own, num_workers=workers, collate_fn=dataset.collater
        )
        out.append(list(loader))
    return out


def heard(ranks):
    """Return every batch of an epoch by its utterances."""
    return {tuple(batch["id"].tolist()): batch["net_input"] for batch in itertools.chain(*ranks) if batch}


def same(first, second):
    assert first.keys() == second.keys()
    for ids, views in first.items():
        assert views["seed"] == second[ids]["seed"]
        for name in ("source", "source_aug"):
            assert torch.equal(views[name], second[ids][name])


@pytest.mark.parametrize(("workers", "ranks", "at_once"), [(0, 1, 1), (0, 2, 8), (2, 1, 8), (2, 2, 3)])
def test_batches_are_those_of_the_files_whatever_the_workers_and_ranks(folder, workers, ranks, at_once):
    raw = dataset_of(folder, read_manifest(folder / "train.tsv"))
    expected = heard(epoch_of(raw, epoch=2))
    assert len(expected) > 3
    with ShardServer(folder / "packed") as server:
        pattern = f"{server.address}/train-{{000000..000003}}.tar"
        dataset = dataset_of(folder, read_source(pattern, patience=SHORT), requests=at_once)
        assert dataset.at_once == at_once
        same(heard(epoch_of(dataset, workers=workers, ranks=ranks, epoch=2)), expected)


def test_a_resumed_epoch_continues_in_the_middle_of_a_shard(folder):
    raw = dataset_of(folder, read_manifest(folder / "train.tsv"))
    (straight,) = epoch_of(raw)
    with ShardServer(folder / "packed") as server:
        manifest = read_source(f"{server.address}/train.tsv", patience=SHORT)
        (resumed,) = epoch_of(dataset_of(folder, manifest), offset=2)
    assert [batch["id"].tolist() for batch in resumed] == [batch["id"].tolist() for batch in straight[2:]]
    same(heard([resumed]), heard([straight[2:]]))
    # Of some shard one utterance was heard before and one after.
    shard_of = [entry.path.partition(":")[0] for entry in manifest.entries]
    before = {shard_of[index] for batch in straight[:2] for index in batch["id"].tolist()}
    assert before & {shard_of[index] for batch in resumed for index in batch["id"].tolist()}


def test_requests_of_a_batch_are_made_side_by_side(folder):
    together, most = [], 0

    def trouble(path, part, number):
        nonlocal most
        together.append(number)
        most = max(most, len(together))
        # Answered once another request is there, or alone after a while.
        server.ended.wait(0.2)
        together.remove(number)

    with ShardServer(folder / "packed", trouble) as server:
        manifest = read_source(f"{server.address}/train.tsv", patience=SHORT)
        most = 0
        samples = dataset_of(folder, manifest, requests=4).__getitems__([5, 1, 9, 7])
    assert [sample["id"] for sample in samples] == [5, 1, 9, 7]
    assert most > 1


def damage(path, part, number):
    """Answer with zeros for every recording of a shard; the headers before them are sound."""
    length = part[1] - part[0]
    return b"\0" * length if path == "/train-000001.tar" and length != tarfile.BLOCKSIZE else None


def test_damaged_members_are_named_and_counted_or_end_the_run(folder, caplog):
    with ShardServer(folder / "packed", damage) as server:
        manifest = read_source(f"{server.address}/train.tsv", patience=SHORT)
        bad = {index for index, entry in enumerate(manifest.entries) if entry.path.startswith("train-000001")}
        with caplog.at_level(logging.WARNING):
            (batches,) = epoch_of(dataset_of(folder, manifest, on_bad_audio="skip"))
        assert sum(batch["bad_audio"] for batch in batches) == len(bad) > 1
        said = [record.getMessage() for record in caplog.records if "skipped bad audio" in record.getMessage()]
        assert len(said) == len(bad)
        for index in bad:
            where = f"{manifest.where(manifest.entries[index])}: {manifest.audio_path(manifest.entries[index])}"
            assert any(where in line and line.endswith(f"(member train{index}.wav)") for line in said)
        (batches,) = epoch_of(dataset_of(folder, manifest))
    errors = [batch["error"] for batch in batches if "error" in batch]
    assert errors
    assert "train-000001.tar" in errors[0]
    assert "not audio" in errors[0]


def test_a_server_that_breaks_off_costs_attempts_and_then_utterances(folder, caplog):
    seen = set()

    def trouble(path, part, number):
        if path == "/train-000002.tar":
            return "break"
        first = (path, part) not in seen
        seen.add((path, part))
        return "break" if first and "tar" in path else None

    with ShardServer(folder / "packed", trouble) as server:
        manifest = read_source(f"{server.address}/train.tsv", patience=SHORT)
        lost = sum(entry.path.startswith("train-000002") for entry in manifest.entries)
        dataset = dataset_of(folder, manifest, on_bad_audio="skip")
        (batches,) = epoch_of(dataset)
    assert sum(batch["bad_audio"] for batch in batches) == lost > 1
    assert "train-000002.tar:512" in caplog.text
    assert "cannot be read after 2 attempts" in caplog.text


def test_a_server_that_is_gone_ends_the_run_whatever_the_policy(folder, monkeypatch):
    monkeypatch.setattr(two_view, "MOST_UNREACHABLE", 3)
    with ShardServer(folder / "packed") as server:
        manifest = read_source(f"{server.address}/train.tsv", patience=SHORT)
    dataset = dataset_of(folder, manifest, on_bad_audio="skip", patience=Patience(0.5, 1), requests=1)
    samples = [dataset[index] for index in range(4)]
    assert ["error" in sample for sample in samples] == [False, False, True, True]
    assert "3 recordings in a row were unreachable" in samples[2]["error"]


def test_headers_at_start_are_few_over_a_network(folder, monkeypatch):
    monkeypatch.setattr(two_view, "REMOTE_HEADERS", 3)
    with ShardServer(folder / "packed") as server:
        manifest = read_source(f"{server.address}/train.tsv", patience=SHORT)
        before = len(server.asked)
        dataset_of(folder, manifest).check_headers(2000)
        assert len(server.asked) - before == 3


SHARDS, MEMBERS = 40, 50


def neighbours(order):
    """Return the correlation of the places of neighbours in an order, and how many of them share a shard."""
    order = np.asarray(order)
    shards = order // MEMBERS
    return np.corrcoef(order[:-1], order[1:])[0, 1], float(np.mean(shards[:-1] == shards[1:]))


def test_neighbours_in_an_epoch_are_not_neighbours_in_the_shards(folder, tmp_path):
    draw = np.random.default_rng(0)
    lines = [
        (f"x-{shard:06}.tar:{512 * (member + 1)}:9", int(draw.integers(16_000, 250_000)))
        for shard in range(SHARDS)
        for member in range(MEMBERS)
    ]
    write_manifest(tmp_path / "train.tsv", tmp_path, lines)
    dataset = dataset_of(folder, read_manifest(tmp_path / "train.tsv"), max_sample_size=160_000)
    count = len(lines)
    for epoch in (1, 2):
        with numpy_seed(7 + epoch):
            batches = dataset.batch_by_size(dataset.ordered_indices(), max_tokens=1_000_000)
        iterator = EpochBatchIterator(dataset, dataset.collater, batches, seed=1, epoch=epoch)
        lean(iterator)
        order = np.concatenate(list(iterator.ordered_batches(epoch, False, True)))
        assert sorted(order) == list(range(count))
        correlation, shared = neighbours(order)
        # As of independent draws: standard deviations of 1 / sqrt(n) and sqrt(p / n).
        assert abs(correlation) < 3 / np.sqrt(count)
        assert abs(shared - 1 / SHARDS) < 3 * np.sqrt(1 / SHARDS / count)
    correlation, shared = neighbours(np.arange(count))
    assert correlation > 0.99
    assert shared > 0.9
