"""Augmentation in the data workers and on the model's device give the same; draws replay for any workers and resume."""

import numpy as np
import pytest
import soundfile
import torch

from ccc_w2v.data.manifest import write_manifest
from ccc_w2v.settings.task import CccPretrainingConfig
from ccc_w2v.task import CccPretrainingTask
from tests.fake_corpora import RATE, write_corpus

LENGTHS = [24000, 16000, 20000, 30000, 18000, 17000, 16500, 25000]
PIPELINE = """
transforms:
  - {name: gaussian_noise, p: 0.6}
  - {name: recorded_reverb, p: 0.7}
  - {name: background_noise, p: 0.8}
  - {name: babble, p: 0.5}
  - {name: telephone, p: 0.5, line_noise_p: 0.5, packet_loss_p: 0.5}
  - {name: pitch_shift, p: 0.3}
  - {name: time_dropout, p: 0.3}
  - {name: polarity, p: 0.5}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    write_corpus(folder, LENGTHS)
    write_corpus(folder, [40000, 3000], "noise", seed=50)
    response = np.r_[np.zeros(300), 1.0, 0.1 * np.random.default_rng(0).standard_normal(2000)]
    soundfile.write(folder / "rir.wav", response, RATE, subtype="FLOAT")
    write_manifest(folder / "rir.tsv", folder, [("rir.wav", len(response))])
    (folder / "mine.yaml").write_text(PIPELINE)
    return folder


def make_task(data, **settings):
    """Return a task over the corpus with its training set loaded."""
    settings = {
        "augment": str(data / "mine.yaml"),
        "noise_manifest": str(data / "noise.tsv"),
        "rir_manifest": str(data / "rir.tsv"),
        "save_dir": "",
        **settings,
    }
    # The lock and the plan line of a run are not wanted here: the split is no train_subset.
    cfg = CccPretrainingConfig(data=str(data), train_subset="noise", seed=1, sample_rate=RATE, min_sample_size=0)
    for key, value in settings.items():
        setattr(cfg, key, value)
    task = CccPretrainingTask(cfg)
    task.load_dataset("train", cfg)
    return task


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("pad", [False, True])
def test_both_devices_give_the_same_views(data, normalize, pad):
    model = torch.nn.Linear(1, 1)
    batches = {}
    for device in ("cpu", "gpu"):
        task = make_task(data, augment_device=device, normalize=normalize, enable_padding=pad)
        dataset = task.datasets["train"]
        sample = dataset.collater([dataset[index] for index in range(8)])
        assert ("source" in sample["net_input"]) == (device == "cpu")
        batches[device] = task._with_views(sample, model)["net_input"]
    assert batches["cpu"].keys() == batches["gpu"].keys()
    for view in ("source", "source_aug"):
        torch.testing.assert_close(batches["gpu"][view], batches["cpu"][view], atol=1e-4, rtol=0)
        if normalize and not pad:
            # layer_norm adds 1e-5 to the variance, which is some percent of a quiet utterance's.
            torch.testing.assert_close(batches["gpu"][view].var(dim=1), torch.ones(8), atol=0.05, rtol=0)
    assert not torch.equal(batches["cpu"]["source"], batches["cpu"]["source_aug"])


def test_views_have_the_models_precision_and_are_made_before_rounding(data):
    task = make_task(data, augment_device="gpu")
    dataset = task.datasets["train"]
    sample = dataset.collater([dataset[index] for index in range(4)])
    exact = task._with_views(sample, torch.nn.Linear(1, 1))["net_input"]["source_aug"]
    rounded = task._with_views(sample, torch.nn.Linear(1, 1).bfloat16())["net_input"]["source_aug"]
    assert torch.equal(rounded, exact.bfloat16())
    assert "source" not in sample["net_input"]  # fairseq may train on a batch again


def epoch_batches(task, workers, skip=0):
    """Return the views of an epoch's batches, resumed behind ``skip`` of them through fairseq's own state."""
    iterator = task.get_batch_iterator(
        task.datasets["train"], max_tokens=60000, required_batch_size_multiple=1, seed=1, num_workers=workers
    )
    if skip:
        iterator.load_state_dict({"version": 2, "epoch": 1, "iterations_in_epoch": skip, "shuffle": True})
    return [batch["net_input"] for batch in iterator.next_epoch_itr()]


@pytest.mark.parametrize(("workers", "skip"), [(2, 0), (4, 0), (0, 2), (2, 2)])
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_draws_replay_for_any_workers_and_after_a_resume(data, workers, skip):
    straight = epoch_batches(make_task(data), 0)[skip:]
    again = epoch_batches(make_task(data), workers, skip)
    assert len(straight) == len(again) >= 1
    for expected, other in zip(straight, again, strict=True):
        for view in ("source", "source_aug"):
            assert torch.equal(expected[view], other[view])


def test_a_noise_that_turns_out_bad_follows_the_policy(data, tmp_path, monkeypatch):
    wave = np.full(40000, 0.1)
    wave[20000] = np.nan
    soundfile.write(tmp_path / "bad.wav", wave, RATE, subtype="FLOAT")
    write_manifest(tmp_path / "bad.tsv", tmp_path, [("bad.wav", 40000)])
    (tmp_path / "sure.yaml").write_text("transforms: [{name: background_noise, p: 0.5}]")
    settings = {"augment": str(tmp_path / "sure.yaml"), "noise_manifest": str(tmp_path / "bad.tsv")}
    skipped = {}
    for policy in ("raise", "skip"):
        dataset = make_task(data, on_bad_audio=policy, **settings).datasets["train"]
        skipped[policy] = dataset.collater([dataset[index] for index in range(8)])
    assert "bad.tsv:2" in skipped["raise"]["error"]
    assert "NaN" in skipped["raise"]["error"]
    lost = skipped["skip"]["bad_audio"]
    assert 0 < lost < 8
    assert len(skipped["skip"]["id"]) == 8 - lost == len(skipped["skip"]["net_input"]["source"])


def test_babble_is_made_of_the_training_set_by_default(data, tmp_path):
    (tmp_path / "babble.yaml").write_text("transforms: [{name: babble}]")
    task = make_task(data, augment=str(tmp_path / "babble.yaml"), noise_manifest=None)
    assert task._pipeline.transforms[0].transform.manifest == data / "noise.tsv"
    task = make_task(data, augment=str(tmp_path / "babble.yaml"), babble_manifest=str(data / "train.tsv"))
    assert task._pipeline.transforms[0].transform.manifest == data / "train.tsv"


def test_another_rate_is_resampled_on_demand_and_else_refused(tmp_path):
    time = np.arange(12000) / 8000
    soundfile.write(tmp_path / "slow.wav", 0.5 * np.sin(2 * np.pi * 440 * time), 8000, subtype="FLOAT")
    write_manifest(tmp_path / "train.tsv", tmp_path, [("slow.wav", 12000)])
    settings = {"augment": "none", "noise_manifest": None}
    dataset = make_task(tmp_path, resample=True, **settings).datasets["train"]
    dataset.check_headers(10)
    wave = dataset[0]["source"]
    assert len(wave) == dataset.sizes[0] == 24000
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(24000) / RATE)
    np.testing.assert_allclose(wave[200:-200], expected[200:-200], atol=2e-3)
    with pytest.raises(SystemExit):  # after one line: "sample rate 8000 Hz, expected 16000 Hz"
        make_task(tmp_path, **settings)
    strict = make_task(tmp_path, check_headers=0, **settings).datasets["train"]
    assert "task.resample=true" in strict[0]["error"]


def test_pairs_are_shown_in_tensorboard(data, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    task = make_task(
        data, tensorboard_logdir=str(tmp_path), tensorboard_pairs=2, train_subset="train", save_dir=str(tmp_path)
    )
    task.begin_valid_epoch(1, torch.nn.Linear(1, 1))
    events = EventAccumulator(str(tmp_path / "pairs")).Reload()
    tags = events.Tags()
    assert tags["images"] == ["pair 1/spectrograms", "pair 2/spectrograms"]
    assert len(tags["audio"]) == 4
    assert events.Audio("pair 1/augmented")[0].sample_rate == RATE
    assert events.Audio("pair 2/original")[0].encoded_audio_string.startswith(b"RIFF")
