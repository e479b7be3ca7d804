"""A folder of long recordings trains: segments of FLAC and stereo MP3, whose samples are those of the whole decode."""

import numpy as np
import pytest
import soundfile
import torch

from ccc_w2v.augment.pipeline import load_pipeline
from ccc_w2v.cli.main import main
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.data.resample import resample
from ccc_w2v.dataset.two_view import TwoViewDataset
from tests.corpora.long.test_prepare import talk
from tests.fake_corpora import RATE
from tests.integration.test_resume import arguments, done
from tests.integration.test_training import state

MP3_RATE = 44_100


@pytest.fixture(scope="module")
def podcasts(tmp_path_factory):
    """Five minutes of FLAC, two of MP3, and their segments."""
    folder = tmp_path_factory.mktemp("podcasts")
    (folder / "shows").mkdir()
    soundfile.write(folder / "shows" / "long.flac", np.concatenate([talk(seed) for seed in range(4)]), RATE)
    soundfile.write(folder / "shows" / "short.flac", talk(9), RATE)
    stereo = np.stack([np.concatenate([talk(seed, MP3_RATE) for seed in pair]) for pair in ((5, 6), (7, 8))], axis=1)
    soundfile.write(folder / "shows" / "show.mp3", stereo, MP3_RATE, bitrate_mode="VARIABLE")
    options = ["--detector", "energy", "--dev", "0.1", "--max-seconds", "8"]
    assert main(["segment", str(folder / "shows"), "--out", str(folder / "data"), *options]) == 0
    return folder


def test_what_a_training_reads_is_the_slice_of_the_whole(podcasts):
    manifest = read_manifest(podcasts / "data" / "pretrain.tsv")
    dataset = TwoViewDataset(manifest, load_pipeline("none", RATE), RATE, seed=1, resample=True)
    formats = set()
    for index, entry in enumerate(manifest.entries):
        file, start, samples = entry.path.rsplit(":", 2)
        whole, rate = soundfile.read(podcasts / "shows" / file, dtype="float32", always_2d=True)
        expected = torch.from_numpy(whole[int(start) : int(start) + int(samples)].mean(axis=1))
        heard = dataset[index]["source"]
        formats.add(file.rpartition(".")[2])
        if file.endswith("flac"):
            assert torch.equal(heard, expected)
        else:
            assert rate == MP3_RATE
            torch.testing.assert_close(heard, resample(expected, rate, RATE), rtol=0, atol=1e-6)
    assert formats == {"flac", "mp3"}


def test_segments_train_for_a_few_updates(podcasts, warm, tmp_path):
    settings = [
        *("dataset.valid_subset=dev", "+task.resample=true", "task.augment=none", "+task.on_bad_audio=raise"),
        *("optimization.max_update=4", "dataset.num_workers=2"),
    ]
    done(warm.run(arguments(podcasts / "data", tmp_path / "run", *settings), tmp_path / "log"))
    counts = state(tmp_path / "run")["extra_state"]["CccPretrainingTask"]["counts"]
    assert state(tmp_path / "run")["optimizer_history"][-1]["num_updates"] == 4
    assert counts["audio_samples"] > 4 * RATE
    assert counts["bad_audio"] == 0
