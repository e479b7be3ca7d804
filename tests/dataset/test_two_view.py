import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ccc_w2v.augment.pipeline import load_pipeline
from ccc_w2v.data.manifest import read_manifest, write_manifest
from ccc_w2v.dataset.two_view import TwoViewDataset
from ccc_w2v.errors import InputError
from tests.fake_corpora import RATE, write_corpus

LENGTHS = [24000, 16000, 20000, 30000]
NOISE = """
transforms:
  - {name: gaussian_noise, p: 1.0, std_ratio: [0.1, 0.3]}
"""


@pytest.fixture
def manifest(tmp_path):
    return read_manifest(write_corpus(tmp_path, LENGTHS))


@pytest.fixture
def pipeline(tmp_path):
    (tmp_path / "noise.yaml").write_text(NOISE)
    return load_pipeline(tmp_path / "noise.yaml", RATE)


def batch(dataset, indices=(0, 1, 2, 3), epoch=1):
    dataset.set_epoch(epoch)
    return dataset.collater([dataset[index] for index in indices])


def test_both_views_share_one_crop(manifest, pipeline):
    dataset = TwoViewDataset(manifest, pipeline, RATE, seed=1)
    views = batch(dataset)["net_input"]
    assert views["source"].shape == views["source_aug"].shape == (4, 16000)
    for original, augmented in zip(views["source"], views["source_aug"], strict=True):
        ratio = (augmented - original).std() / original.std()
        assert 0.09 < ratio < 0.31  # what the pipeline adds and nothing else
    whole = dataset[3]["source"]
    starts = [s for s in range(14001) if torch.equal(whole[s : s + 16000], views["source"][3])]
    assert len(starts) == 1


def test_a_batch_depends_on_seed_epoch_and_utterances_alone(manifest, pipeline):
    dataset = TwoViewDataset(manifest, pipeline, RATE, seed=1)
    first = batch(dataset)
    batch(dataset, epoch=2)
    again = batch(TwoViewDataset(manifest, pipeline, RATE, seed=1))
    other_epoch, other_seed = batch(dataset, epoch=2), batch(TwoViewDataset(manifest, pipeline, RATE, seed=2))
    for key in ("source", "source_aug"):
        assert torch.equal(first["net_input"][key], again["net_input"][key])
        assert not torch.equal(first["net_input"][key], other_epoch["net_input"][key])
        assert not torch.equal(first["net_input"][key], other_seed["net_input"][key])
    seeds = {sample["net_input"]["seed"] for sample in (first, other_epoch, other_seed)}
    assert first["net_input"]["seed"] == again["net_input"]["seed"]
    assert len(seeds) == 3


@pytest.mark.parametrize("workers", [2, 3])
def test_data_workers_change_nothing(manifest, pipeline, workers):
    dataset = TwoViewDataset(manifest, pipeline, RATE, seed=1)
    batches = [[3, 0], [1, 2]]
    for epoch in (1, 2):
        dataset.set_epoch(epoch)
        alone, together = (
            list(
                torch.utils.data.DataLoader(dataset, batch_sampler=batches, num_workers=n, collate_fn=dataset.collater)
            )
            for n in (0, workers)
        )
        for view, other in zip(alone, together, strict=True):
            assert torch.equal(view["net_input"]["source_aug"], other["net_input"]["source_aug"])
            assert view["net_input"]["seed"] == other["net_input"]["seed"]


def test_padding_is_silent_masked_and_not_normalised(manifest, pipeline):
    dataset = TwoViewDataset(manifest, pipeline, RATE, seed=1, pad=True, normalize=True)
    views = batch(dataset)["net_input"]
    assert views["source"].shape == (4, 30000)
    for row, length in enumerate(LENGTHS):
        assert views["padding_mask"][row].sum() == 30000 - length
        for view in ("source", "source_aug"):
            assert not views[view][row, length:].any()
        wave = dataset[row]["source"]
        assert torch.equal(views["source"][row, :length], F.layer_norm(wave, wave.shape))
        assert views["source_aug"][row, :length].std().item() == pytest.approx(1.0, abs=0.02)


def test_max_sample_size_bounds_the_crop(manifest, pipeline):
    dataset = TwoViewDataset(manifest, pipeline, RATE, seed=1, max_sample_size=8000)
    assert batch(dataset)["net_input"]["source"].shape == (4, 8000)


def test_short_utterances_are_left_out_and_none_left_is_an_error(manifest, pipeline):
    dataset = TwoViewDataset(manifest, pipeline, RATE, seed=1, min_sample_size=20000)
    assert len(dataset) == 3
    assert sorted(dataset.sizes) == [20000, 24000, 30000]
    with pytest.raises(InputError, match="all 4 utterances are shorter than task.min_sample_size=99999"):
        TwoViewDataset(manifest, pipeline, RATE, seed=1, min_sample_size=99999)


def test_bad_audio_is_handed_on_or_skipped_and_counted(tmp_path, pipeline):
    path = write_corpus(tmp_path, LENGTHS)
    (tmp_path / "audio" / "train1.wav").write_bytes(b"broken")
    manifest = read_manifest(path)
    ending = batch(TwoViewDataset(manifest, pipeline, RATE, seed=1))
    assert ending.keys() == {"error"}
    assert re.search(r"train\.tsv:3: .*train1\.wav", ending["error"])
    skipped = batch(TwoViewDataset(manifest, pipeline, RATE, seed=1, on_bad_audio="skip"))
    assert skipped["bad_audio"] == 1
    assert skipped["id"].tolist() == [0, 2, 3]
    only_bad = batch(TwoViewDataset(manifest, pipeline, RATE, seed=1, on_bad_audio="skip"), indices=[1])
    assert only_bad["lost"]
    assert only_bad["bad_audio"] == 1
    assert only_bad["net_input"]["source"].shape[0] == 1


def test_headers_are_checked_against_the_manifest(tmp_path, pipeline):
    path = write_corpus(tmp_path, LENGTHS)
    lines = [(f"train{i}.wav", length + (i == 2)) for i, length in enumerate(LENGTHS)]
    write_manifest(path, tmp_path / "audio", lines)
    dataset = TwoViewDataset(read_manifest(path), pipeline, RATE, seed=1)
    dataset.check_headers(1)
    with pytest.raises(InputError, match=r"train\.tsv:4: .*20000 samples, the manifest declares 20001"):
        dataset.check_headers(100)


def test_sizes_are_what_fairseq_batches_by(manifest, pipeline):
    dataset = TwoViewDataset(manifest, pipeline, RATE, seed=1, shuffle=False)
    assert np.array_equal(dataset.sizes, LENGTHS)
    batches = dataset.batch_by_size(dataset.ordered_indices(), max_tokens=60000, required_batch_size_multiple=1)
    assert sorted(index for indices in batches for index in indices) == [0, 1, 2, 3]


def test_left_out_audio_is_a_warning_with_its_setting_share_and_hours(manifest, pipeline, caplog):
    caplog.set_level("WARNING")
    TwoViewDataset(manifest, pipeline, RATE, seed=1, min_sample_size=17000)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "1 of 4 utterances (25.0%; 0.00 of 0.00 h) are shorter than task.min_sample_size=17000 (1.0625 s)" in warning
    with pytest.raises(InputError, match=r"3 of 4 utterances \(75.0%.*or say yes with task\.accept_left_out=true"):
        TwoViewDataset(manifest, pipeline, RATE, seed=1, min_sample_size=25000)
    assert len(TwoViewDataset(manifest, pipeline, RATE, seed=1, min_sample_size=25000, accept_left_out=True)) == 1


@pytest.mark.parametrize("pad", [False, True])
def test_crops_on_a_grid_have_few_lengths(tmp_path, pipeline, pad):
    lengths = [8000 + 137 * index for index in range(60)]
    manifest = read_manifest(write_corpus(tmp_path, lengths))
    settings = {"pad": pad, "max_sample_size": 15000, "min_sample_size": 8000}
    pairs = [(first, first + 1) for first in range(0, 60, 2)]

    def shapes(**more):
        dataset = TwoViewDataset(manifest, pipeline, RATE, seed=1, **settings, **more)
        batches = [batch(dataset, pair)["net_input"] for pair in pairs]
        if pad:  # nothing of an utterance is lost, and what is added is marked
            for views, pair in zip(batches, pairs, strict=True):
                sizes = [min(lengths[index], 15000) for index in pair]
                assert (~views["padding_mask"]).sum(dim=1).tolist() == list(views["lengths"]) == sizes
                assert views["source"].shape == views["padding_mask"].shape
        return [views["source"].size(1) for views in batches]

    every, few = shapes(), shapes(crop_step=2000)
    assert len(set(every)) > 20
    assert set(few) == {10000, 12000, 14000, 15000} | (set() if pad else {8000})
    for plain, gridded in zip(every, few, strict=True):
        assert 0 <= (gridded - plain if pad else plain - gridded) < 2000


def test_a_grid_of_no_step_is_refused(manifest, pipeline):
    with pytest.raises(InputError, match="task.crop_step=0: must be"):
        TwoViewDataset(manifest, pipeline, RATE, seed=1, crop_step=0)


def test_utterances_longer_than_a_batch_are_named_with_their_share(manifest, pipeline, caplog):
    whole = TwoViewDataset(manifest, pipeline, RATE, seed=1)
    whole.name_too_long(None, accepted=False)
    whole.name_too_long(30000, accepted=False)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    whole.name_too_long(24000, accepted=False)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "1 of 4 utterances (25.0%; 0.00 of 0.00 h) are longer than dataset.max_tokens=24000, not cr" in warning
    with pytest.raises(InputError, match=r"3 of 4 utterances .* or say yes with task.accept_left_out=true"):
        whole.name_too_long(16000, accepted=False)
    whole.name_too_long(16000, accepted=True)
    TwoViewDataset(manifest, pipeline, RATE, seed=1, max_sample_size=16000).name_too_long(16000, accepted=False)
