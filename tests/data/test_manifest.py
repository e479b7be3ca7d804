import pytest

from ccc_w2v.data.manifest import read_manifest, write_manifest
from ccc_w2v.errors import InputError


def test_what_is_written_is_read_and_is_fairseqs_format(tmp_path):
    path = tmp_path / "train.tsv"
    write_manifest(path, "/corpus", [("a/b.flac", 16000), ("pack.zip:44:9000", 4000)])
    assert path.read_text() == "/corpus\na/b.flac\t16000\npack.zip:44:9000\t4000\n"
    manifest = read_manifest(path)
    assert [(entry.path, entry.samples, entry.line) for entry in manifest.entries] == [
        ("a/b.flac", 16000, 2),
        ("pack.zip:44:9000", 4000, 3),
    ]
    assert manifest.audio_path(manifest.entries[0]) == "/corpus/a/b.flac"
    assert manifest.where(manifest.entries[1]) == f"{path}:3"
    assert [file.name for file in tmp_path.iterdir()] == ["train.tsv"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "train.tsv:1: the first line must be"),
        ("/corpus\n", "lists no audio"),
        ("a.flac\t100\n", "train.tsv:1: the first line must be"),
        ("/corpus\na.flac\n", r"train.tsv:2: expected path<TAB>samples"),
        ("/corpus\na.flac\t100\nb.flac\t-3\n", r"train.tsv:3: expected path<TAB>samples"),
        ("/corpus\na.flac\t0\n", r"train.tsv:2: expected"),
        ("/corpus\n\ta.flac\t7\n", r"train.tsv:2: expected"),
    ],
)
def test_a_bad_manifest_names_its_line(tmp_path, text, message):
    path = tmp_path / "train.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_manifest(path)


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(InputError, match="nothing.tsv: no such manifest"):
        read_manifest(tmp_path / "nothing.tsv")
