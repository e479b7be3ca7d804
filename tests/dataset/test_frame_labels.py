"""Aligned labels of the frames of crops: the same speech has the same label, wherever the crop begins."""

from __future__ import annotations

import pytest
import torch

from ccc_w2v.augment.pipeline import load_pipeline
from ccc_w2v.data.alignments import AlignedLabel, label_of_frames, write_alignments
from ccc_w2v.data.manifest import read_manifest, write_manifest
from ccc_w2v.dataset.frame_labels import FrameLayout, frame_labels, layout_of
from ccc_w2v.dataset.two_view import TwoViewDataset
from ccc_w2v.errors import InputError
from tests.fake_corpora import RATE, write_corpus
from tests.tiny_models import tiny_ccc

# fairseq's base: a frame every 320 samples (20 ms).
LAYOUT = FrameLayout(((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2)))
ROWS = [
    AlignedLabel("A", 5, 7, 0.10, 0.14, -0.1),
    AlignedLabel("|", 9, 10, 0.18, 0.20, -0.1),
    AlignedLabel("B", 20, 21, 0.40, 0.42, -0.1),
    AlignedLabel("A", 30, 31, 0.60, 0.62, -0.1),
]


@pytest.fixture
def corpus(tmp_path):
    manifest = read_manifest(write_corpus(tmp_path, [24000, 16000, 20000]))
    write_alignments(tmp_path / "train.align.tsv", {"train0": ROWS, "train2": ROWS[:1]})
    return manifest, tmp_path / "train.align.tsv"


def test_the_layout_is_that_of_the_model():
    model = tiny_ccc()
    layout = layout_of(model)
    assert layout.convolutions == LAYOUT.convolutions
    assert layout.stride == 320
    for samples in (399, 400, 719, 720, 16000, 16001):
        expected = int(model._get_feat_extract_output_lengths(torch.tensor([samples])))
        assert layout.frames(samples) == max(expected, 0)


def test_frames_have_the_nearest_label_within_a_tenth_of_a_second(corpus):
    manifest, path = corpus
    labels = frame_labels(str(path), manifest, LAYOUT, RATE)
    classes = labels.of("train0.wav", 0, 24000)
    assert len(classes) == LAYOUT.frames(24000) == 74
    names = {-1: ".", 0: "A", 1: "B"}
    # Frame t is around (t + 1/2) 20 ms: A from 0 s, the word's end from 0.16 s, B from 0.3 s, A again from 0.51 s.
    shown = "".join(names[int(number)] for number in classes)
    assert shown == "A" * 8 + "." * 7 + "B" * 10 + "A" * 11 + "." * 38
    # Without pauses and ends of words it is what the alignments' own reader says.
    whole = label_of_frames(ROWS, 74, 0.02)
    assert all(names[int(number)] in (".", label) for number, label in zip(classes, whole, strict=True))
    assert labels.of("train1.wav", 0, 16000).tolist() == [-1] * 49


@pytest.mark.parametrize("shift", [1, 10, 25])
def test_a_crop_has_the_labels_of_its_place(corpus, shift):
    manifest, path = corpus
    labels = frame_labels(str(path), manifest, LAYOUT, RATE)
    whole, crop = labels.of("train0.wav", 0, 24000), labels.of("train0.wav", 320 * shift, 12000)
    assert torch.equal(crop, whole[shift : shift + len(crop)])


def test_batches_hold_the_labels_of_their_crops(corpus, tmp_path):
    manifest, path = corpus
    (tmp_path / "none.yaml").write_text("transforms: []\n")
    labels = frame_labels(str(path), manifest, LAYOUT, RATE)
    dataset = TwoViewDataset(manifest, load_pipeline("none", RATE), RATE, seed=1, frame_labels=labels)
    batch = dataset.collater([dataset[index] for index in range(3)])
    assert batch["classes"].shape == (3, LAYOUT.frames(16000))
    whole = dataset[0]["source"]
    crop = batch["net_input"]["source"][0]
    (start,) = [first for first in range(8001) if torch.equal(whole[first : first + 16000], crop)]
    assert torch.equal(batch["classes"][0], labels.of("train0.wav", start, 16000))
    assert (batch["classes"][1] == -1).all()
    lost = dataset._lost([{"id": 0}, {"id": 1}])
    assert lost["classes"].shape == (2, LAYOUT.frames(lost["net_input"]["source"].size(1)))
    without = TwoViewDataset(manifest, load_pipeline("none", RATE), RATE, seed=1)
    plain = without.collater([without[index] for index in range(3)])
    assert "classes" not in plain
    assert torch.equal(plain["net_input"]["source"], batch["net_input"]["source"])


def test_a_manifest_with_a_root_further_up_has_the_same_utterances(corpus, tmp_path):
    manifest, path = corpus
    entries = [(f"audio/{entry.path}", entry.samples) for entry in manifest.entries]
    write_manifest(tmp_path / "up.tsv", tmp_path, entries)
    labels = frame_labels(str(path), read_manifest(tmp_path / "up.tsv"), LAYOUT, RATE)
    assert set(labels.utterances) == {"audio/train0.wav", "audio/train2.wav"}
    write_manifest(tmp_path / "two.tsv", tmp_path, [*entries, ("other/train0.wav", 24000)])
    with pytest.raises(InputError, match=r"may be audio/train0.wav or other/train0.wav"):
        frame_labels(str(path), read_manifest(tmp_path / "two.tsv"), LAYOUT, RATE)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"elsewhere": ROWS}, "has none of the utterances"),
        ({"train0": ROWS[:2]}, "two different labels or more, found A"),
    ],
)
def test_alignments_of_no_use_are_one_line(corpus, tmp_path, rows, message):
    manifest, _ = corpus
    write_alignments(tmp_path / "other.tsv", rows)
    with pytest.raises(InputError, match=message):
        frame_labels(str(tmp_path / "other.tsv"), manifest, LAYOUT, RATE)
