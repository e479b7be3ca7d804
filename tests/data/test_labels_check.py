"""Labels that fairseq would train on without a word: unknown symbols, empty lines, too long for CTC, listed twice."""

import json

import pytest

from ccc_w2v.data.labels_check import check_labels, frames_needed, read_dictionary
from ccc_w2v.data.manifest import read_manifest, write_manifest
from ccc_w2v.errors import InputError
from tests.fake_corpora import write_corpus, write_labels
from tests.run_tool import one_line_error, run_with


@pytest.fixture
def corpus(tmp_path):
    path = write_corpus(tmp_path, [16000] * 8)
    write_labels(path, ["THE CAT SAT ON THE MAT"] * 8)
    return path


def rewrite(path, **lines):
    text = path.with_suffix(".ltr").read_text().splitlines()
    for number, line in lines.items():
        text[int(number[1:]) - 1] = line
    path.with_suffix(".ltr").write_text("".join(f"{line}\n" for line in text))


def test_good_labels_say_nothing(corpus):
    report = check_labels(read_manifest(corpus), "ltr")
    assert report.warnings() == []
    assert report.symbols == 8 * 23
    assert check_labels(read_manifest(corpus), "spm1000") is None


def test_lower_case_labels_are_refused_with_the_remedy(corpus):
    corpus.with_suffix(".ltr").write_text(corpus.with_suffix(".ltr").read_text().lower())
    with pytest.raises(
        InputError, match=r"73\.9% of the symbols are not in .*dict\.ltr\.txt: 't' \(40\), .*first on line 1"
    ):
        check_labels(read_manifest(corpus), "ltr")
    with pytest.raises(InputError, match="the dictionary knows them in upper case: change the labels' case"):
        check_labels(read_manifest(corpus), "ltr")
    corpus.with_suffix(".ltr").write_text("É Ü |\n" * 8)
    with pytest.raises(
        InputError, match="at most 1% may be unknown; write the dictionary from these labels, or normal"
    ):
        check_labels(read_manifest(corpus), "ltr")


def test_a_few_unknown_symbols_empty_long_and_repeated_lines_are_warnings(corpus):
    rewrite(corpus, n2="T H E | É |", n4="", n5="", n7="T " * 40)
    listed = read_manifest(corpus)
    entries = [(entry.path, entry.samples) for entry in listed.entries]
    write_manifest(corpus, listed.root, [*entries[:7], entries[0]])
    unknown, empty, long, twice = check_labels(read_manifest(corpus), "ltr").warnings()
    assert "0.7% of the symbols are not in" in unknown
    assert "'É' (1), first on line 2; fairseq reads them as" in unknown
    assert "2 of 8 lines are empty" in empty
    assert "(lines 4, 5)" in empty
    assert "1 of 8 lines hold more symbols than their audio has frames" in long
    assert "(lines 7)" in long
    assert "1 of 8 lines belong to a recording that the manifest lists already (lines 8)" in twice


def test_frames_needed_are_those_of_ctc():
    """torch's CTC loss is finite with so many frames, and infinite with one less."""
    import torch

    for symbols in ([1, 2, 3], [1, 1], [1, 1, 1, 2], [2]):
        needed = frames_needed(list(map(str, symbols)))
        for frames, finite in ((needed, True), (needed - 1, False)):
            log_probs = torch.zeros(frames, 1, 4).log_softmax(-1)
            if frames:
                loss = torch.nn.functional.ctc_loss(
                    log_probs, torch.tensor([symbols]), torch.tensor([frames]), torch.tensor([len(symbols)])
                )
                assert bool(loss.isfinite()) is finite


def test_damaged_dictionaries_are_refused_by_line(tmp_path):
    path = tmp_path / "dict.ltr.txt"
    for content, message in (
        ("A 1\nB\n", "dict.ltr.txt:2: expected symbol, space, count, found 'B'"),
        ("A 1\nB 2\nA 3\n", "dict.ltr.txt:3: 'A' was on line 1 already"),
        ("", "holds no symbol"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            read_dictionary(path)
    path.write_text("A 1\n| 5\nA 3 #fairseq:overwrite\n")
    assert read_dictionary(path) == ["A", "|"]


def test_check_manifest_says_what_is_wrong_with_labels(corpus, tmp_path, capsys):
    rewrite(corpus, n3="")
    assert run_with("check_manifest", corpus, "--report", tmp_path / "report.json") == 0
    assert "warning: " in (said := capsys.readouterr().err)
    assert "1 of 8 lines are empty" in said
    assert "1 of 8 lines are empty" in json.loads((tmp_path / "report.json").read_text())["labels"][0]
    corpus.with_suffix(".ltr").write_text(corpus.with_suffix(".ltr").read_text().lower())
    assert run_with("check_manifest", corpus) == 2
    assert "are not in" in one_line_error(capsys)
