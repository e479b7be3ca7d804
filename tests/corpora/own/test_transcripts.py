import pytest

from ccc_w2v.corpora.own.transcripts import TranscribedSegment, beside, normalized, read_table
from ccc_w2v.errors import InputError


def test_tsv_with_every_column(tmp_path):
    table = tmp_path / "t.tsv"
    table.write_text(
        "\ufefffile\tsentence\tclient_id\tsubset\tstart\tend\n"
        'a.wav\tsay "hello"\tanna\tvalidation\t0.5\t2\n'
        "\n"
        "b.wav\tb\t\t\t\t\n",
        encoding="utf-8",
    )
    assert read_table(table) == [
        TranscribedSegment("a.wav", 'say "hello"', f"{table}:2", "anna", "dev", 0.5, 2.0),
        TranscribedSegment("b.wav", "b", f"{table}:4"),
    ]


def test_csv_with_quotes_and_windows_line_ends(tmp_path):
    table = tmp_path / "t.csv"
    table.write_bytes(b'text,path\r\n"one, two",a.wav\r\n')
    assert read_table(table) == [TranscribedSegment("a.wav", "one, two", f"{table}:2")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", r"t\.tsv:1: no column for the path, found an empty line"),
        ("path\twhat\n", r"t\.tsv:1: no column for the text, found 'path', 'what'; name it one of text, transcript"),
        ("path\tfile\ttext\n", r"t\.tsv:1: two columns for the path: 'path' and 'file'"),
        ("path\ttext\na.wav\n", r"t\.tsv:2: 1 fields, the first line names 2"),
        ("path\ttext\n\thello\n", r"t\.tsv:2: the path is empty"),
        ("path\ttext\tsplit\na\tb\teval\n", r"t\.tsv:2: unknown split 'eval'; available: train, dev"),
        ("path\ttext\tstart\tend\na\tb\t1\t\n", r"t\.tsv:2: start and end must be seconds"),
        ("path\ttext\tstart\tend\na\tb\t2\t1\n", r"t\.tsv:2: start and end must be seconds, the start before the end"),
        ("path\ttext\tstart\tend\na\tb\tone\t2\n", r"t\.tsv:2: 'one' is no number of seconds"),
    ],
)
def test_bad_table(content, expected, tmp_path):
    (tmp_path / "t.tsv").write_text(content)
    with pytest.raises(InputError, match=expected):
        read_table(tmp_path / "t.tsv")


def test_files_beside_the_audio(tmp_path):
    (tmp_path / "anna").mkdir()
    (tmp_path / "anna" / "a.txt").write_text("hello\nyou\n")
    recordings = [tmp_path / "anna" / "a.wav", tmp_path / "b.wav"]
    assert beside(recordings, tmp_path) == [
        TranscribedSegment("anna/a.wav", "hello you", str(tmp_path / "anna" / "a.txt"))
    ]


@pytest.mark.parametrize(
    ("text", "simple"),
    [
        ("Hello, world!", "HELLO WORLD"),
        ("it\u2019s 'quoted' o'clock", "IT'S QUOTED O'CLOCK"),
        ("well-known  e\u0301t\u00e9", "WELL KNOWN \u00c9T\u00c9"),
        ("\u0939\u093f\u0928\u094d\u0926\u0940 \u0964", "\u0939\u093f\u0928\u094d\u0926\u0940"),
        ("...", ""),
    ],
)
def test_simple_rules_keep_words_of_any_script(text, simple):
    assert normalized(text, "simple") == simple
    assert normalized(simple, "simple") == simple


def test_as_is_keeps_all_but_spaces():
    assert normalized(" Hello,  World! ", "as-is") == "Hello, World!"
