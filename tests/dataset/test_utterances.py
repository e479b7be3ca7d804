"""The utterances that a training uses: numbered without those left out, by arrays alone."""

import numpy as np
import pytest
import torch
from fairseq.data.data_utils import numpy_seed
from hypothesis import given
from hypothesis import strategies as st

from ccc_w2v.augment.pipeline import load_pipeline
from ccc_w2v.data import manifest as manifests
from ccc_w2v.data.manifest import Entry, Manifest, read_manifest
from ccc_w2v.dataset.two_view import TwoViewDataset
from ccc_w2v.dataset.utterances import Utterances
from tests.fake_corpora import RATE, write_corpus


@given(kept=st.lists(st.booleans(), min_size=1, max_size=60).filter(any))
def test_numbers_are_those_of_a_list_without_what_is_left_out(kept):
    entries = tuple(Entry(f"{number}.wav", 100 + number, number + 2) for number in range(len(kept)))
    manifest = Manifest("train.tsv", "/corpus", entries)
    left_out = np.flatnonzero(~np.array(kept))
    utterances = Utterances(manifest, manifest.samples, left_out)
    expected = [entry for entry, keep in zip(entries, kept, strict=True) if keep]
    assert list(utterances) == expected
    assert utterances.sizes.tolist() == [entry.samples for entry in expected]
    numbers = np.arange(len(expected))[::-1]
    assert utterances.sizes_of(numbers).tolist() == [entry.samples for entry in expected[::-1]]
    assert [utterances.size(number) for number in numbers] == [entry.samples for entry in expected[::-1]]
    assert utterances[1:5:2] == tuple(expected[1:5:2])
    assert utterances[-1] == expected[-1]
    with pytest.raises(IndexError):
        utterances[len(expected)]


def test_an_index_changes_nothing_of_an_epoch(tmp_path, monkeypatch):
    path = write_corpus(tmp_path, [24000, 8000, 16000, 20000, 9000, 30000, 18000])
    (tmp_path / "noise.yaml").write_text("transforms:\n  - {name: gaussian_noise, p: 1.0}\n")
    pipeline = load_pipeline(tmp_path / "noise.yaml", RATE)
    epochs = []
    for indexed_from in (1 << 40, 1):
        monkeypatch.setattr(manifests, "INDEXED_FROM", indexed_from)
        options = {"max_sample_size": 21000, "min_sample_size": 15000, "accept_left_out": True}
        dataset = TwoViewDataset(read_manifest(path), pipeline, RATE, 1, **options)
        with numpy_seed(5):
            batches = dataset.batch_by_size(dataset.ordered_indices(), max_tokens=60000)
        epochs.append([dataset.collater([dataset[index] for index in batch]) for batch in batches])
    for plain, indexed in zip(*epochs, strict=True):
        assert plain["id"].tolist() == indexed["id"].tolist()
        assert plain["id"].dtype == indexed["id"].dtype
        assert plain["net_input"]["seed"] == indexed["net_input"]["seed"]
        for view in ("source", "source_aug"):
            assert torch.equal(plain["net_input"][view], indexed["net_input"][view])


def test_a_dataset_of_an_indexed_manifest_holds_no_array_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(manifests, "INDEXED_FROM", 1)
    manifest = read_manifest(write_corpus(tmp_path, [24000, 8000, 16000]))
    dataset = TwoViewDataset(manifest, load_pipeline("none", RATE), RATE, 1)
    assert np.shares_memory(dataset.sizes, manifest.samples)
    assert dataset.size(1) == 8000
