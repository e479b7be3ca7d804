"""`ccc-w2v codes`: the strongest frames of each code, against brute force, and the page."""

import re

import pytest
import torch

from ccc_w2v.data.alignments import AlignedLabel, read_alignments, write_alignments
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.data.trn import utterance_ids
from ccc_w2v.probe.code_examples import code_probabilities, labels_of_codes, use_of_codes
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
            assert [(frame.probability, -frame.utterance, -frame.frame) for frame in shown] == [
                row[2:] for row in own[:2]
            ]


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


def test_the_page_shows_the_letters_of_each_code(place, capsys):
    encoder, manifest = load_encoder(place / "pretrained.pt"), read_manifest(place / "dev.tsv")
    first, second, _ = utterance_ids(manifest)
    # The first utterance is all A, the second B up to 0.2 s and then C; the third is not aligned.
    aligned = {
        first: [AlignedLabel("A", 0, 1, 0.0, 0.02, -1.0)],
        second: [AlignedLabel("B", 0, 10, 0.0, 0.2, -1.0), AlignedLabel("C", 10, 20, 0.2, 0.4, -1.0)],
    }
    write_alignments(place / "dev.align.tsv", aligned)
    use = use_of_codes(encoder, manifest, 1)
    counts = labels_of_codes(encoder, manifest, use, read_alignments(place / "dev.align.tsv"))
    border = sum((frame + 0.5) * 0.02 < 0.2 for frame in range(len(use.sequences[1])))
    for (group, code), labels in counts.items():
        frames = [codes[:, group] == code for codes in use.sequences]
        expected = {"A": frames[0].sum(), "B": frames[1][:border].sum(), "C": frames[1][border:].sum()}
        assert dict(labels) == {label: int(count) for label, count in expected.items() if count}
    out = place / "labelled.html"
    options = ["--checkpoint", place / "pretrained.pt", "--manifest", place / "dev.tsv", "--clusters", 3]
    assert run_with("codes", *options, "--examples", 1, "--out", out, "--alignments", place / "dev.align.tsv") == 0
    page = out.read_text()
    assert page.count("commonest labels") == 2
    group, code = max(counts, key=lambda key: counts[key].total())
    label, most = counts[group, code].most_common(1)[0]
    assert f"{label} {100 * most / counts[group, code].total():.0f} %" in page
    write_alignments(place / "other.tsv", {"elsewhere": aligned[first]})
    capsys.readouterr()
    assert run_with("codes", *options, "--out", place / "none.html", "--alignments", place / "other.tsv") == 2
    assert "none of its utterances" in one_line_error(capsys)
