"""The warm start: what its targets are, what it trains, what it depends on, its mistakes."""

from __future__ import annotations

import math

import pytest
import torch

from ccc_w2v.data.audio import read_audio
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.errors import InputError
from ccc_w2v.warm_start import LogMel, RandomCrops, WarmStartSettings, write_start
from tests.fake_corpora import RATE, write_corpus
from tests.integration.test_training import ROOT, TINY
from tests.run_tool import one_line_error, run_tool

CONFIG = ROOT / "recipes/prompts/config/pretrain.yaml"
SETTINGS = WarmStartSettings(updates=60, crops=2, seconds=0.5, learning_rate=5e-3)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, [16000, 9000, 12000, 7000], "train")
    return folder


def start(corpus, out, settings=SETTINGS, seed=1, **passthrough):
    overrides = [f"task.data={corpus}", f"common.seed={seed}", *TINY]
    manifest = read_manifest(corpus / "train.tsv") if settings else None
    losses = write_start(CONFIG, overrides, out, manifest, settings or SETTINGS, **passthrough)
    return losses, torch.load(out, weights_only=True)["model"]


def test_it_fits_the_feature_encoder_and_nothing_else(corpus, tmp_path):
    _, drawn = start(corpus, tmp_path / "drawn.pt", settings=None)
    losses, fitted = start(corpus, tmp_path / "fitted.pt")
    # The mean of each band, 0, has an error of 1.
    assert sum(losses[:5]) / 5 > 0.9
    assert sum(losses[-5:]) / 5 < 0.8
    changed = {name.split(".")[0] for name, tensor in fitted.items() if not torch.equal(tensor, drawn[name])}
    assert changed == {"feature_extractor", "layer_norm"}


def test_it_depends_on_its_seed_and_on_no_global_generator(corpus, tmp_path):
    short = WarmStartSettings(updates=2, crops=2, seconds=0.5)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    _, first = start(corpus, tmp_path / "1.pt", short)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    _, again = start(corpus, tmp_path / "2.pt", short)
    _, other = start(corpus, tmp_path / "3.pt", WarmStartSettings(updates=2, crops=2, seconds=0.5, seed=2))
    name = "feature_extractor.conv_layers.0.0.weight"
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])


def test_the_energies_are_those_of_torchaudio_around_each_frames_middle():
    import torchaudio

    field, hop, frames = 640, 320, 20
    generator = torch.Generator().manual_seed(1)
    waves_BS = torch.randn(2, 8000, generator=generator)
    ours_BTM = LogMel(RATE, 40, field, hop)(waves_BS, frames)
    mel = torchaudio.transforms.MelSpectrogram(
        RATE, n_fft=512, win_length=400, hop_length=hop, f_min=40.0, f_max=0.49 * RATE, n_mels=40, center=False
    )
    # torchaudio puts the window of 400 into the middle of 512 samples: 56 before those that it begins with.
    theirs_BTM = (mel(waves_BS[:, (field - 400) // 2 - 56 :]) + 1e-5).log().transpose(1, 2)[:, :frames]
    mean, deviation = theirs_BTM.mean(1, keepdim=True), theirs_BTM.std(1, keepdim=True)
    torch.testing.assert_close(ours_BTM, (theirs_BTM - mean) / deviation, atol=1e-3, rtol=1e-3)


def test_crops_are_parts_of_all_recordings_that_are_long_enough(corpus):
    manifest = read_manifest(corpus / "train.tsv")
    long = [read_audio(manifest.audio_path(entry), RATE) for entry in manifest.entries if entry.samples >= 10000]
    assert len(long) == 2
    crops = RandomCrops(manifest, 10000, RATE, False, WarmStartSettings(crops=50))
    sources = [
        number
        for crop_S in crops(0)
        for number, wave_S in enumerate(long)
        if (wave_S.unfold(0, 10000, 1) == crop_S).all(1).any()
    ]
    assert len(sources) == 50
    assert set(sources) == {0, 1}
    with pytest.raises(InputError, match=r"train.tsv: no recording has 2 s; lower --seconds"):
        RandomCrops(manifest, 2 * RATE, RATE, True, SETTINGS)


def test_pre_training_goes_on_from_it(corpus, tmp_path, capsys):
    arguments = [str(CONFIG), f"task.data={corpus}", *TINY]
    options = {"manifest": corpus / "train.tsv", "out": tmp_path / "start.pt", "updates": 2, "seconds": 0.5}
    assert run_tool("warm_start", *arguments, **options) == 0
    assert f"checkpoint.finetune_from_model={tmp_path / 'start.pt'}" in capsys.readouterr().out
    assert run_tool("warm_start", *arguments, **options) == 2
    assert "start.pt: exists" in one_line_error(capsys)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"updates": 0}, "updates 0: expected a whole number of at least 1"),
        ({"learning_rate": -1.0}, "a positive learning rate"),
        ({"seconds": math.inf}, "expected crops of"),
        ({"seconds": 0.01}, "expected crops of at least 0.05 s"),
    ],
)
def test_mistakes(corpus, tmp_path, changed, message):
    with pytest.raises(InputError, match=message):
        start(corpus, tmp_path / "out.pt", WarmStartSettings(**changed))
    assert not (tmp_path / "out.pt").exists()
