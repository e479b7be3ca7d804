"""Sentencepiece labels: fairseq trains on them and reads the words back, the same text gives the same bytes."""

import pytest
import sentencepiece
from fairseq.data.data_utils import post_process
from fairseq.data.dictionary import Dictionary

from ccc_w2v.corpora.subwords import label, train
from ccc_w2v.errors import InputError
from tests.run_tool import run_with

SENTENCES = [
    "THE CAT SAT ON THE MAT",
    "A DOG'S LIFE IS NOT A CAT'S LIFE",
    "HELLO WORLD AND ALL WHO LIVE THERE",
    "WHERE THE RIVER MEETS THE SEA",
    "SHE SELLS SEA SHELLS BY THE SEA SHORE",
] * 3


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train.wrd").write_text("".join(f"{line}\n" for line in SENTENCES))
    # An empty line keeps its place; the last one need not end.
    (tmp_path / "dev.wrd").write_text("THE SEA SAT\n\nHELLO MAT'S LIFE")
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("kind", "name"), [("unigram", "spm28"), ("bpe", "bpe28")])
def test_fairseq_trains_on_the_labels_and_reads_the_words_back(folder, kind, name):
    assert run_with("train_sentencepiece", folder / "train.wrd", "--size", 28, "--type", kind, "--out", folder) == 0
    expected = [f"dev.{name}", "dev.wrd", f"dict.{name}.txt", f"{name}.model", f"{name}.vocab", f"train.{name}"]
    assert names(folder) == sorted([*expected, "train.wrd", f"{name}.model.settings.json"])
    dictionary = Dictionary.load(str(folder / f"dict.{name}.txt"))
    assert len(dictionary) - dictionary.nspecial == 28 - 3
    for split in ("train", "dev"):
        lines = (folder / f"{split}.{name}").read_text().splitlines()
        for line, words in zip(lines, (folder / f"{split}.wrd").read_text().splitlines(), strict=True):
            ids = dictionary.encode_line(line, append_eos=False, add_if_not_exist=False)
            assert dictionary.unk() not in ids.tolist()
            assert post_process(dictionary.string(ids), "sentencepiece") == words
    used = "".join(f"{line} " for line in (folder / f"train.{name}").read_text().splitlines()).split()
    assert dictionary.count[dictionary.nspecial :] == [used.count(piece) for piece in dictionary.symbols[4:]]


def test_the_vocabulary_is_as_sentencepiece_writes_it(folder, tmp_path):
    train([folder / "train.wrd"], tmp_path / "ours", name="pieces", size=28)
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "train.wrd"),
        model_prefix=str(tmp_path / "theirs"),
        vocab_size=28,
        character_coverage=1.0,
        num_threads=8,
        minloglevel=2,
    )
    assert (tmp_path / "ours/pieces.vocab").read_text() == (tmp_path / "theirs.vocab").read_text()


def test_the_same_text_gives_the_same_bytes(folder, tmp_path):
    for place in ("a", "b"):
        train([folder / "train.wrd"], tmp_path / place, name=place, size=28)
    for suffix in ("model", "vocab"):
        assert (tmp_path / f"a/a.{suffix}").read_bytes() == (tmp_path / f"b/b.{suffix}").read_bytes()
    assert (tmp_path / "a/dict.a.txt").read_bytes() == (tmp_path / "b/dict.b.txt").read_bytes()


@pytest.mark.parametrize(
    ("size", "kind", "message"),
    [
        (4000, "unigram", r"train.wrd: too little text for 4000 pieces; give more, or at most \d+$"),
        (4000, "bpe", r"train.wrd: too little text for 4000 pieces; give more, or at most \d+$"),
        (5, "unigram", r"train.wrd: its characters alone need \d+ pieces, asked for 5"),
        (-5, "unigram", "cannot train -5 pieces|need"),
        (28, "word", "unknown kind of pieces 'word'; known: unigram, bpe"),
    ],
)
def test_a_size_that_the_text_does_not_allow_is_refused(folder, size, kind, message):
    with pytest.raises(InputError, match=message):
        train([folder / "train.wrd"], folder, name="pieces", size=size, kind=kind)
    assert names(folder) == ["dev.wrd", "train.wrd"]


def test_the_size_that_the_message_names_works(folder):
    with pytest.raises(InputError) as error:
        train([folder / "train.wrd"], folder, name="pieces", size=4000)
    largest = int(str(error.value).rsplit(" ", 1)[1])
    train([folder / "train.wrd"], folder, name="pieces", size=largest)
    assert len((folder / "dict.pieces.txt").read_text().splitlines()) == largest - 3


def test_a_character_without_a_piece_is_named_with_its_line(folder):
    train([folder / "train.wrd"], folder, name="pieces", size=28)
    (folder / "dev.wrd").write_text("THE SEA\nCAFÉ\n")
    with pytest.raises(InputError, match=r"dev.wrd:2: 'É' is in no piece of .*pieces.model"):
        label(folder / "dev.wrd", folder / "pieces.model")
    assert not (folder / "dev.pieces").exists()


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_letter_that_only_held_out_text_has_gets_a_piece_too(folder, kind):
    (folder / "dev.wrd").write_text("A QUICK ZEBRA\n")
    assert run_with("train_sentencepiece", folder / "train.wrd", "--size", 32, "--type", kind, "--out", folder) == 0
    name = {"unigram": "spm32", "bpe": "bpe32"}[kind]
    counts = dict(line.split() for line in (folder / f"dict.{name}.txt").read_text().splitlines())
    assert counts["Q"] == counts["Z"] == "0"
    assert len(counts) == 32 - 3
    assert post_process((folder / f"dev.{name}").read_text().strip(), "sentencepiece") == "A QUICK ZEBRA"


def test_splits_that_came_later_are_labelled_by_the_model_that_is_there(folder, capsys):
    train([folder / "train.wrd"], folder, name="pieces", size=28)
    before = (folder / "pieces.model").read_bytes()
    assert run_with("train_sentencepiece", "--out", folder, "--name", "pieces", "--splits", "dev") == 0
    assert (folder / "dev.pieces").is_file()
    assert not (folder / "train.pieces").exists()
    assert run_with("train_sentencepiece", folder / "dev.wrd", "--size", 9, "--out", folder, "--name", "pieces") == 2
    said = capsys.readouterr().err
    assert "pieces.model: exists already, made with other settings (text, pieces" in said
    assert "to label with it, give its --name and no text" in said
    assert (folder / "pieces.model").read_bytes() == before


def test_the_same_command_again_finds_its_model_and_labels_what_is_new(folder, capsys):
    command = ["train_sentencepiece", folder / "train.wrd", "--size", 28, "--out", folder]
    assert run_with(*command) == 0
    written = (folder / "spm28.model").stat().st_mtime_ns
    (folder / "test.wrd").write_text("THE DOG\n")
    capsys.readouterr()
    assert run_with(*command) == 0
    assert "spm28.model: is there, from the same text" in capsys.readouterr().out
    assert (folder / "spm28.model").stat().st_mtime_ns == written
    assert (folder / "test.spm28").is_file()
    # A run killed before its model was written trains it.
    (folder / "spm28.model").unlink()
    assert run_with(*command) == 0
    assert "28 pieces from 15 sentences" in capsys.readouterr().out


def test_other_text_or_settings_replace_a_model_only_when_told(folder, capsys):
    command = ["train_sentencepiece", folder / "train.wrd", "--name", "pieces", "--out", folder, "--size"]
    assert run_with(*command, 28) == 0
    assert run_with(*command, 30) == 2
    assert "made with other settings (pieces)" in capsys.readouterr().err
    assert run_with(*command, 30, "--overwrite") == 0
    assert len((folder / "dict.pieces.txt").read_text().splitlines()) == 30 - 3
    (folder / "train.wrd").write_text((folder / "train.wrd").read_text() + "THE CAT\n")
    assert run_with(*command, 30) == 2
    assert "made with other settings (text)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.txt", "--size", "9"], "none.txt: no such text"),
        (["empty.txt", "--size", "9"], "empty.txt: no sentence in it"),
        (["latin.txt", "--size", "9"], "latin.txt: not UTF-8 text"),
        (["train.wrd"], "--size is missing"),
        ([], "give a text to train on"),
        (["--name", "spm9"], "spm9.model: no such sentencepiece model"),
        (["--name", "broken"], "broken.model: is no sentencepiece model"),
    ],
)
def test_mistakes_are_one_line(folder, monkeypatch, capsys, arguments, message):
    (folder / "empty.txt").write_text("\n\n")
    (folder / "latin.txt").write_bytes("CAFÉ\n".encode("latin1"))
    (folder / "broken.model").write_bytes(b"broken")
    monkeypatch.chdir(folder)
    before = names(folder)
    assert run_with("train_sentencepiece", *arguments, "--out", ".") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert names(folder) == before


def test_a_text_of_one_word_lines_is_enough(tmp_path):
    (tmp_path / "words.txt").write_text("YES\nNO\nONE\nTWO\n" * 20)
    assert train([tmp_path / "words.txt"], tmp_path, name="small", size=12) == 80
    assert (tmp_path / "small.model").is_file()
