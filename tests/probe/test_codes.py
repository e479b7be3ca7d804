"""`ccc-w2v codes`: the strongest frames of each code, against brute force, and the page."""

import re

import pytest
import torch

from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.probe.code_examples import code_probabilities, use_of_codes
from ccc_w2v.probe.features import hidden_states, load_encoder, read_wave
from tests.export.conftest import finetuned_state, pretrained_state
from tests.fake_corpora import write_corpus
from tests.run_tool import one_line_error, run_with


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codes")
    write_corpus(folder, [9600, 8000, 12345], name="dev")
    torch.save(pretrained_state(), folder / "pretrained.pt")
    return folder


def test_examples_are_the_strongest_of_all_frames(place):
    encoder, manifest = load_encoder(place / "pretrained.pt"), read_manifest(place / "dev.tsv")
    use = use_of_codes(encoder, manifest, 2)
    frames = []
    with torch.no_grad():
        for number, entry in enumerate(manifest.entries):
            wave = read_wave(encoder, manifest, entry)
            probability = code_probabilities(encoder, wave)
            codes = hidden_states(encoder, wave[None])[1][0]
            assert torch.equal(use.sequences[number], codes)
            for frame in range(len(codes)):
                frames += [
                    (group, code, float(probability[frame, group, code]), number, frame)
                    for group, code in enumerate(codes[frame].tolist())
                ]
    assert use.counts_GV.sum() == len(frames)
    for group, counts in enumerate(use.counts_GV.tolist()):
        for code, count in enumerate(counts):
            own = sorted((row for row in frames if row[:2] == (group, code)), key=lambda row: (-row[2], *row[3:]))
            assert len(own) == count
            shown = use.examples.get((group, code), [])
            assert [(one.probability, -one.utterance, -one.frame) for one in shown] == [row[2:] for row in own[:2]]


def test_the_page_holds_every_code_and_needs_nothing_else(place, capsys):
    out = place / "codes.html"
    options = ["--checkpoint", place / "pretrained.pt", "--manifest", place / "dev.tsv", "--clusters", 3]
    assert run_with("codes", *options, "--examples", 1, "--out", out) == 0
    used = [int(number) for number in re.findall(r"group \d: (\d+) of", capsys.readouterr().out)]
    page = out.read_text()
    assert len(re.findall('src="data:audio/wav', page)) == sum(used)
    assert len(re.findall('src="data:image/png', page)) == sum(used) + len(used)
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert ("Never chosen" in page) or ("Every code is chosen" in page)


def test_a_fine_tuned_checkpoint_has_no_codes(place, capsys):
    torch.save(finetuned_state(), place / "finetuned.pt")
    options = ["--checkpoint", place / "finetuned.pt", "--manifest", place / "dev.tsv", "--out", place / "none.html"]
    assert run_with("codes", *options) == 2
    assert "no codebook" in one_line_error(capsys)
