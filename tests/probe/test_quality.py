"""Purity and PNMI against closed forms and scikit-learn, ABX against what it must be, and the command."""

import json
import math

import numpy as np
import pytest
import torch

from ccc_w2v.data.alignments import AlignedLabel, write_alignments
from ccc_w2v.probe import abx
from ccc_w2v.probe.abx import PhoneSegment, abx_error
from ccc_w2v.probe.phone_measures import phone_measures
from ccc_w2v.probe.quality import cluster_frames
from ccc_w2v.report.quality import quality_table
from tests.export.conftest import finetuned_state, pretrained_state
from tests.fake_corpora import write_corpus
from tests.run_tool import one_line_error, run_with

needs_fastabx = pytest.mark.skipif(not abx.available(), reason="fastabx needs Python 3.12")


def test_measures_of_a_table_worked_out_by_hand():
    """Phones A A A B; units 0 0 1 1: the joint is 1/2, 1/4, 0, 1/4."""
    measured = phone_measures(["A", "A", "A", "B"], [0, 0, 1, 1])
    assert measured.phone_purity == pytest.approx(1 / 2 + 1 / 4)
    assert measured.unit_purity == pytest.approx(1 / 2 + 1 / 4)
    phone_entropy = -(3 / 4 * math.log(3 / 4) + 1 / 4 * math.log(1 / 4))
    # H(phone) - H(phone | unit): unit 0 is certain, unit 1 is a coin.
    assert measured.pnmi == pytest.approx((phone_entropy - 1 / 2 * math.log(2)) / phone_entropy)
    assert (measured.frames, measured.phones, measured.units) == (4, 2, 2)


def test_perfect_and_useless_units():
    phones = ["A", "B", "C"] * 4
    perfect = phone_measures(phones, [7, 3, 5] * 4)
    assert (perfect.phone_purity, perfect.unit_purity, perfect.pnmi) == pytest.approx((1, 1, 1))
    useless = phone_measures(phones, [0] * 12)
    assert (useless.phone_purity, useless.unit_purity, useless.pnmi) == pytest.approx((1 / 3, 1, 0))
    assert math.isnan(phone_measures(["A", "A"], [0, 1]).pnmi)


def test_mutual_information_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    draw = np.random.default_rng(3)
    phones, units = draw.integers(0, 9, 500), draw.integers(0, 40, 500)
    units = np.where(draw.random(500) < 0.5, phones, units)
    counts = np.bincount(phones) / 500
    expected = metrics.mutual_info_score(phones, units) / -(counts * np.log(counts)).sum()
    assert phone_measures([f"p{phone}" for phone in phones], units.tolist()).pnmi == pytest.approx(expected)


def test_clusters_are_those_of_separate_blobs_and_repeat_with_the_seed():
    draw = np.random.default_rng(1)
    blobs = np.concatenate([draw.normal(10 * centre, 0.1, (50, 3)) for centre in range(3)]).astype(np.float32)
    units = cluster_frames(blobs, 3, seed=1)
    assert [len(set(units[50 * blob : 50 * blob + 50])) for blob in range(3)] == [1, 1, 1]
    assert len(set(units)) == 3
    assert units == cluster_frames(blobs, 3, seed=1)
    assert len(cluster_frames(blobs[:4], 100, seed=1)) == 4


def segments_of(frames_each=3, times=4):
    segments, first = [], 0
    for speaker in ("anna", "ben"):
        for phone in ("A", "B", "C"):
            for _ in range(times):
                segments.append(PhoneSegment(phone, speaker, first, first + frames_each))
                first += frames_each
    return segments, first


@needs_fastabx
@pytest.mark.parametrize("speaker", abx.SPEAKERS)
def test_abx_is_0_for_separate_phones_and_chance_for_equal_frames(speaker):
    segments, frames = segments_of()
    kind = torch.tensor(["ABC".index(segment.phone) for segment in segments]).repeat_interleave(3)
    separate = torch.eye(4)[kind] + 0.01 * torch.randn(frames, 4, generator=torch.Generator().manual_seed(1))
    assert abx_error(separate, segments, speaker) == 0
    assert abx_error(torch.ones(frames, 4), segments, speaker) == pytest.approx(0.5)
    assert abx_error(kind[:, None], segments, speaker, discrete=True) == 0
    assert abx_error(torch.zeros(frames, 1, dtype=torch.long), segments, speaker, discrete=True) == pytest.approx(0.5)


@needs_fastabx
def test_abx_of_two_segments_is_no_number():
    assert math.isnan(abx_error(torch.ones(6, 2), [PhoneSegment("A", "anna", 0, 3)], "within"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quality")
    write_corpus(folder, [9600, 8000, 12345], name="dev")
    torch.save(pretrained_state(), folder / "pretrained.pt")
    torch.save(finetuned_state(), folder / "finetuned.pt")
    utterances = [
        line.split("\t")[0].removesuffix(".wav") for line in (folder / "dev.tsv").read_text().splitlines()[1:]
    ]
    rows = [AlignedLabel(label, 5 * n, 5 * n + 1, 0.1 * n, 0.1 * n + 0.02, -0.5) for n, label in enumerate("AB|AC")]
    write_alignments(folder / "dev.align.tsv", dict.fromkeys(utterances[:2], rows))
    (folder / "speakers").write_text("".join(f"{name} {n % 2}\n" for n, name in enumerate(utterances)))
    return folder


def quality(place, out, *options, checkpoint="pretrained.pt"):
    arguments = ["--checkpoint", place / checkpoint, "--manifest", place / "dev.tsv", "--speakers", place / "speakers"]
    return run_with("quality", *arguments, "--alignments", place / "dev.align.tsv", "--out", place / out, *options)


def test_the_command_measures_layers_and_codes(place, capsys):
    assert quality(place, "out", "--clusters", 5, "--no-abx") == 0
    printed = capsys.readouterr().out
    content = json.loads((place / "out" / "quality.json").read_text())
    names = [row["of"] for row in content["rows"]]
    assert names[:2] == ["layer 0", "layer 1"]
    assert names[-3:] == ["codes of group 1", "codes of group 2", "codes of all groups"]
    for row in content["rows"]:
        assert row["phones"] == 3
        assert 0 <= row["pnmi"] <= 1
        assert f"{row['pnmi']:.3f}" in printed
    groups, together = content["rows"][-3:-1], content["rows"][-1]
    assert together["pnmi"] >= max(row["pnmi"] for row in groups) - 1e-9
    assert (place / "out" / "quality.png").read_bytes().startswith(b"\x89PNG")
    assert quality(place, "out", "--clusters", 6, "--no-abx") == 2
    assert "clusters" in one_line_error(capsys)


def test_a_fine_tuned_checkpoint_has_layers_only(place):
    assert quality(place, "tuned", "--no-abx", "--layers", "0,2", checkpoint="finetuned.pt") == 0
    rows = json.loads((place / "tuned" / "quality.json").read_text())["rows"]
    assert [row["of"] for row in rows] == ["layer 0", "layer 2"]


@needs_fastabx
def test_the_command_has_abx_where_it_installs(place):
    assert quality(place, "abx", "--layers", "1") == 0
    rows = json.loads((place / "abx" / "quality.json").read_text())["rows"]
    assert {"abx_within", "abx_across"} <= set(rows[0])


def test_without_fastabx_the_rest_is_measured(place, capsys, monkeypatch):
    monkeypatch.setattr(abx, "available", lambda: False)
    assert quality(place, "without", "--layers", "1") == 0
    assert "ABX is left out" in capsys.readouterr().err
    assert "abx_within" not in json.loads((place / "without" / "quality.json").read_text())["rows"][0]


def test_alignments_of_another_manifest(place, capsys):
    other = place / "other.tsv"
    write_alignments(other, {"elsewhere": [AlignedLabel("A", 0, 1, 0.0, 0.02, -1.0)]})
    assert quality(place, "none", "--no-abx", "--alignments", other) == 2
    assert "none of its utterances is in the alignments" in one_line_error(capsys)


def test_the_table_has_a_column_for_what_was_measured():
    rows = [{"of": "layer 0", "phone_purity": 0.5, "unit_purity": 0.25, "pnmi": math.nan, "units": 1000}]
    head, line = quality_table(rows).splitlines()
    assert "ABX" not in head
    assert line.split() == ["layer", "0", "0.500", "0.250", "-", "1,000"]
