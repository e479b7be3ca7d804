"""The MS-State transcripts' marks, acronyms and labels; Fisher's lines; the words of Hub5's references."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccc_w2v.corpora.labels import letters
from ccc_w2v.corpora.switchboard.fisher import fisher_text
from ccc_w2v.corpora.switchboard.hub5 import quick_words
from ccc_w2v.corpora.switchboard.text import label_words, read_acronyms, said, unknown_characters, words_of
from ccc_w2v.errors import InputError
from tests.corpora.switchboard.fake_switchboard import DICTIONARY, write_fisher

# What the issue and the comments of Kaldi's recipe say that these become.
SAID = {
    "[LAUGHTER-STORY]": "STORY",
    "[laughter-ab[solute]-]": "ab-",
    "[IT'N/ISN'T]": "IT'N",
    "[LEM[GUINI]-/LINGUINI]": "LEM-",
    "EX[SPECIALLY]-/ESPECIALLY]": "EX-",
    "AB[SOLUTE]-": "AB-",
    "-[AN]Y": "-Y",
    "[AN]Y": "-Y",
    "-[A]B[OUT]-": "-B-",
    "AMMU[N]IT-": "AMMU-IT-",
    "-[40]1K": "-1K",
    "{YUPPIEDOM}": "YUPPIEDOM",
    "THEM_1": "THEM",
    "THEM_1's": "THEM's",
    "[VOCALIZED-NOISE]": "[VOCALIZED-NOISE]",
    "[Laughter]": "[Laughter]",
    "uh-huh": "uh-huh",
}


@pytest.mark.parametrize(("token", "expected"), SAID.items())
def test_what_was_said_of_a_token(token, expected):
    assert said(token) == expected


@given(st.from_regex(r"[a-z']{1,8}(-[a-z]{1,4})?", fullmatch=True))
def test_a_plain_word_stays_and_every_mark_around_it_goes(word):
    assert said(word) == word
    for marked in (f"[laughter-{word}]", f"{{{word}}}", f"[{word}/other]", f"{word}_1"):
        assert said(marked) == word
    assert said(f"{word}[rest]-") == f"{word}-"
    assert said(f"-[rest]{word}") == f"-{word}"


@pytest.fixture(scope="module")
def dictionary(tmp_path_factory):
    path = tmp_path_factory.mktemp("dictionary") / "sw-ms98-dict.text"
    path.write_text(DICTIONARY)
    return path


def test_acronyms_are_what_the_dictionary_says_letter_by_letter(dictionary):
    assert read_acronyms(dictionary, cased=True) == {
        "IBM": "i._b._m.",
        "TVs": "t._v.s",
        "TV": "t._v.",
        "US": "u._s.",
    }
    assert "us" not in read_acronyms(dictionary, cased=False)


@pytest.mark.parametrize(
    ("text", "cased", "words", "label"),
    [
        ("i saw TVs at IBM", True, "i saw t._v.s at i._b._m.", "I SAW T V'S AT I B M"),
        ("[SILENCE] <B_ASIDE> us <e_aside>", True, "us", "US"),
        ("the B B C's a TV", True, "the b. b. c's a t._v.", "THE B B C'S A T V"),
        ("so A or I A", True, "so a. or i. a.", "SO A OR I A"),
        ("well I think", True, "well i think", "WELL I THINK"),
        ("I HAVE A TV FOR US", False, "i have a t._v. for us", "I HAVE A T V FOR US"),
        ("THE C I A", False, "the c. i. a.", "THE C I A"),
        ("at&t [noise] [laughter] r&b&rock", True, "at&t [noise] [laughter] r&b&rock", "A T AND T R AND B AND ROCK"),
        ("[silence]", True, "", ""),
    ],
)
def test_words_and_labels(dictionary, text, cased, words, label):
    spoken = words_of(text, read_acronyms(dictionary, cased=cased), cased=cased)
    assert (spoken, label_words(spoken, keep_noises=False)) == (words, label)


def test_noises_are_kept_as_one_symbol_each():
    label = label_words("oh [noise] yeah [vocalized-noise]", keep_noises=True)
    assert label == "OH [NOISE] YEAH [VOCALIZED-NOISE]"
    assert not unknown_characters(label.split())
    assert letters(label) == "O H | [NOISE] | Y E A H | [VOCALIZED-NOISE] |"


def test_digits_and_foreign_letters_are_found():
    assert unknown_characters(["OH", "-1K"]) == "1"
    assert unknown_characters(["CAFÉ"]) == "É"
    assert not unknown_characters(["UH-HUH", "IT'N", "AB-"])


def test_fisher_gives_words_as_the_labels_have_them(tmp_path):
    folder = write_fisher(tmp_path)
    assert list(fisher_text(folder)) == ["AND I GENERALLY PREFER", "OH OKAY F B I THE MO- MOVIE"]
    (folder / "data/trans/000/fe_03_00001.txt").write_text("3.76 C: who\n")
    with pytest.raises(InputError, match=r"fe_03_00001\.txt:1: expected 'start end A: words'"):
        list(fisher_text(folder))
    with pytest.raises(InputError, match="expected fe_03_p1_tran"):
        list(fisher_text(tmp_path / "elsewhere"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(%HESITATION) HE WORKS FOR THE F. B. I.", "HE WORKS FOR THE F B I"),
        ("JUST (JU-) THAT", "JUST JU- THAT"),
        ("I'M {GONNA / GOING TO} GO", "I'M GONNA GO"),
        ("<B_ASIDE> U._S.'S", "U S'S"),
    ],
)
def test_words_of_a_reference_for_a_quick_look(text, expected):
    assert quick_words(text) == expected
