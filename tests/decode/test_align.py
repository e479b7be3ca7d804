"""`ccc-w2v align`: the best path against brute force over all paths, the file, and what does not fit."""

import itertools
import shutil
from types import SimpleNamespace

import pytest
import torch

from ccc_w2v.data.alignments import COLUMNS, AlignedLabel, label_of_frames, label_spans, read_alignments
from ccc_w2v.decode.align import align
from ccc_w2v.errors import InputError
from tests.run_tool import one_line_error, run_with

HEAD = "\t".join(COLUMNS) + "\n"
MODEL = SimpleNamespace(labels=("<s>", "A", "B", "|"), blank=0, frame_samples=320, sample_rate=16000)


def collapsed(path):
    return [index for index, _ in itertools.groupby(path) if index != 0]


@pytest.mark.parametrize("targets", [[1, 2], [1, 1], [2], [1, 2, 1]])
def test_the_alignment_is_the_best_of_all_paths(targets):
    frames = 6
    log_probs = torch.randn(frames, 4, generator=torch.Generator().manual_seed(len(targets))).log_softmax(dim=-1)
    paths = [path for path in itertools.product(range(4), repeat=frames) if collapsed(path) == targets]
    best = max(paths, key=lambda path: sum(float(log_probs[frame, index]) for frame, index in enumerate(path)))
    rows = align(log_probs, targets, MODEL)
    spans, place = [], 0
    for index, group in itertools.groupby(best):
        length = len(list(group))
        if index:
            spans.append((MODEL.labels[index], place, place + length))
        place += length
    assert [(row.label, row.first_frame, row.end_frame) for row in rows] == spans
    for row in rows:
        assert (row.start, row.end) == pytest.approx((0.02 * row.first_frame, 0.02 * row.end_frame))
        index = MODEL.labels.index(row.label)
        assert row.log_prob == pytest.approx(float(log_probs[row.first_frame : row.end_frame, index].mean()), abs=1e-5)


def test_more_labels_than_frames_have_no_path():
    log_probs = torch.zeros(2, 4).log_softmax(dim=-1)
    assert align(log_probs, [1, 1], MODEL) is None  # a blank must part them
    assert align(log_probs, [], MODEL) is None


def test_frames_go_to_the_nearer_label():
    rows = [AlignedLabel("A", 1, 2, 0.02, 0.04, -1.0), AlignedLabel("B", 5, 6, 0.10, 0.12, -1.0)]
    assert label_of_frames(rows, 8, 0.02) == ["A"] * 3 + ["B"] * 5  # the middle of frame 3 is the border, 0.07 s
    assert label_spans(rows, 8, 0.02) == [("A", 0, 3), ("B", 3, 8)]
    assert label_spans(rows, 2, 0.02) == [("A", 0, 2)]
    assert label_of_frames(rows, 16, 0.01) == ["A"] * 7 + ["B"] * 9


@pytest.fixture
def options(checkpoint, test_set, tmp_path):
    """The command's words, and a copy of the test set to write beside."""
    for file in test_set.parent.glob("*.ltr"):
        shutil.copy(file, tmp_path)
    shutil.copy(test_set, tmp_path)
    return ["--checkpoint", checkpoint, "--manifest", tmp_path / "test.tsv"]


def test_the_command_aligns_every_letter(options, tmp_path, capsys):
    out = ["--out", tmp_path / "test.align.tsv"]
    assert run_with("align", *options, *out) == 0
    assert "labels of 6 utterances" in capsys.readouterr().out
    aligned = read_alignments(tmp_path / "test.align.tsv")
    lines = (tmp_path / "test.ltr").read_text().splitlines()
    assert [" ".join(row.label for row in rows) for rows in aligned.values()] == lines
    for rows in aligned.values():
        assert all(left.end_frame <= right.first_frame for left, right in itertools.pairwise(rows))
    assert run_with("align", *options, *out) == 0
    assert "aligned before" in capsys.readouterr().out


def test_labels_that_are_missing_or_unknown(options, tmp_path, capsys):
    out = ["--out", tmp_path / "none.tsv"]
    assert run_with("align", *options, *out, "--labels", "phn") == 2
    assert "no .phn beside it" in one_line_error(capsys)
    (tmp_path / "test.odd").write_text("E X !\n" * 6)
    assert run_with("align", *options, *out, "--labels", "odd") == 2
    assert "not in the network's dictionary" in one_line_error(capsys)
    assert not (tmp_path / "none.tsv").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the columns"),
        ("\t".join(COLUMNS) + "\n", "holds no label"),
        ("\t".join(COLUMNS) + "\nx\n", ":2:"),
    ],
)
def test_files_that_are_no_alignments(tmp_path, text, message):
    (tmp_path / "a.tsv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_alignments(tmp_path / "a.tsv")
