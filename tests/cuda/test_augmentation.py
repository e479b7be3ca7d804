"""The second view made on a GPU is the CPU's, for every preset."""

import pytest
import torch

from ccc_w2v.augment.pipeline import load_pipeline, presets_folder
from ccc_w2v.augment.reverb import Reverb
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.dataset.two_view import TwoViewDataset
from ccc_w2v.dataset.views import two_views
from tests.fake_corpora import RATE, write_corpus


@pytest.mark.parametrize("preset", sorted(path.stem for path in presets_folder().glob("*.yaml")))
@pytest.mark.parametrize("pad", [False, True])
def test_augmentation_is_the_cpus(tmp_path, device, preset, pad):
    speech = write_corpus(tmp_path / "speech", [24000, 20000, 28000])
    noise = write_corpus(tmp_path / "noise", [40000], seed=9)
    pipeline = load_pipeline(
        preset, RATE, noise_manifest=noise, music_manifest=noise, fallbacks={"babble_manifest": speech}
    )
    for part in pipeline.transforms:
        if isinstance(part.transform, Reverb):
            part.transform.rooms = 3  # a thousand take minutes
    pipeline.prepare()
    dataset = TwoViewDataset(read_manifest(speech), pipeline, RATE, seed=1, pad=pad, augment_device="gpu")
    for epoch in range(1, 6):
        dataset.set_epoch(epoch)
        crops = dataset.collater([dataset[index] for index in range(3)])["crops"]
        expected = two_views(crops, pipeline, True)
        actual = two_views(crops.to(device), pipeline, True)
        for view in ("source", "source_aug"):
            torch.testing.assert_close(actual[view].cpu(), expected[view], rtol=0, atol=1e-4)
