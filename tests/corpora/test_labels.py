"""Labels and dictionaries, read back by fairseq."""

import pytest
from fairseq.data.data_utils import post_process
from fairseq.data.dictionary import Dictionary
from hypothesis import given
from hypothesis import strategies as st

from ccc_w2v.corpora.labels import letters, ranked_letters, write_dictionary, write_labels

WORDS = st.lists(st.text(alphabet="ABZ'", min_size=1, max_size=6), min_size=1, max_size=6).map(" ".join)


def test_letters_are_fairseqs():
    assert letters("HELLO WORLD") == "H E L L O | W O R L D |"


@given(WORDS)
def test_fairseq_reads_the_words_out_of_the_letters(words):
    assert post_process(letters(words), "letter") == words


def test_labels_and_dictionary_load_in_fairseq(tmp_path):
    train, held_out = ["AB A", "B'B"], ["CAB"]
    write_labels(tmp_path / "train.tsv", train)
    write_dictionary(tmp_path / "dict.ltr.txt", ranked_letters(train, held_out))
    assert (tmp_path / "train.wrd").read_text() == "AB A\nB'B\n"
    assert (tmp_path / "train.ltr").read_text() == "A B | A |\nB ' B |\n"
    assert (tmp_path / "dict.ltr.txt").read_text() == "| 3\nB 3\nA 2\n' 1\nC 0\n"
    dictionary = Dictionary.load(str(tmp_path / "dict.ltr.txt"))
    assert dictionary.symbols[4:] == ["|", "B", "A", "'", "C"]
    assert dictionary.count[4:] == [3, 3, 2, 1, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dict.ltr.txt", "train.ltr", "train.wrd"]


def test_a_disk_that_is_full_leaves_the_old_labels(tmp_path, monkeypatch):
    write_labels(tmp_path / "train.tsv", ["OLD"])
    monkeypatch.setattr("pathlib.Path.write_bytes", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        write_labels(tmp_path / "train.tsv", ["NEW"])
    assert (tmp_path / "train.ltr").read_text() == "O L D |\n"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_token_in_brackets_is_one_letter():
    assert letters("OH [NOISE]") == "O H | [NOISE] |"
