"""Files and folders that are whole or not there, whatever ends their writing."""

import errno
import os
import re
import stat
from pathlib import Path

import pytest

import ccc_w2v
from ccc_w2v.corpora.long.prepare import read_heard
from ccc_w2v.data.check_shares import read_looks
from ccc_w2v.decode.journal import open_journal
from ccc_w2v.errors import InputError
from ccc_w2v.files import appearing, complete_lines, full_disk, sha256, write_whole


def write_file(partial, content="new"):
    partial.write_text(content)


def write_folder(partial):
    (partial / "inner").mkdir(parents=True)
    (partial / "inner" / "a").write_text("new")


def tree(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("write", [write_file, write_folder])
@pytest.mark.parametrize("before", [None, write_file, write_folder])
@pytest.mark.parametrize("durable", [True, False])
def test_takes_the_place_of_what_was_there(write, before, durable, tmp_path):
    path = tmp_path / "made" / "out"
    if before:
        path.parent.mkdir()
        before(path)
    with appearing(path, durable=durable) as partial:
        write(partial)
        assert partial.parent == path.parent
    assert tree(tmp_path) == ({"made/out": "new"} if write is write_file else {"made/out/inner/a": "new"})
    assert os.listdir(path.parent) == ["out"]


@pytest.mark.parametrize("write", [write_file, write_folder])
@pytest.mark.parametrize(
    "error", [KeyError("x"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")]
)
def test_an_error_leaves_what_was_there(write, error, tmp_path):
    def broken() -> None:
        with appearing(tmp_path / "out") as partial:
            write(partial)
            raise error

    write_file(tmp_path / "out", "old")
    with pytest.raises(type(error)):
        broken()
    assert tree(tmp_path) == {"out": "old"}


def test_a_failed_write_names_the_file(tmp_path):
    with pytest.raises(OSError, match="No space") as caught, appearing(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path / "out")


def test_the_data_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append((tmp_path / "out").exists()))
    write_whole(tmp_path / "out", "text")
    assert seen == [False]
    assert (tmp_path / "out").read_text() == "text"
    with appearing(tmp_path / "other", durable=False) as partial:
        write_folder(partial)
    assert seen == [False]


@pytest.mark.parametrize(("content", "kept"), [("same", True), ("other", False)])
def test_an_equal_file_is_left_as_it_is(content, kept, tmp_path):
    path = tmp_path / "file"
    path.write_text("same")
    before = path.stat()
    with appearing(path, keep_equal=True) as partial:
        partial.write_text(content)
    assert path.read_text() == content
    assert (path.stat().st_ino == before.st_ino) == kept
    assert list(tmp_path.iterdir()) == [path]


def test_a_mistyped_folder_is_not_made(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_whole(tmp_path / "no" / "out", "text")
    assert caught.value.filename == str(tmp_path / "no" / "out")
    assert not (tmp_path / "no").exists()


def test_rights_are_those_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with appearing(tmp_path / "out") as partial:
            write_folder(partial)
            (partial / "inner" / "a").chmod(0o600)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out" / "inner" / "a").stat().st_mode) == 0o640
    assert os.access(tmp_path / "out" / "inner", os.X_OK)


def test_full_disk_is_found_below_other_errors():
    cause = OSError(errno.EDQUOT, "Disk quota exceeded")
    error = RuntimeError("unexpected pos 64 vs 0")
    error.__cause__ = cause
    assert full_disk(error) is cause
    assert full_disk(PermissionError(errno.EACCES, "Permission denied")) is None


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    # NIST's FIPS 180-2, appendix B.1.
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("content", [b"", b"whole\n", b"whole\nhal", b"hal"])
def test_a_journal_ends_with_its_last_whole_line(content: bytes, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    assert complete_lines(journal) == b""
    journal.write_bytes(content)
    assert complete_lines(journal) == (b"whole\n" if b"\n" in content else b"")
    assert journal.read_bytes() == content


@pytest.mark.parametrize(
    "read", [read_heard, read_looks, lambda path: open_journal(path, {})], ids=["heard", "looks", "decoded"]
)
def test_what_is_no_journal_is_refused_and_stays_as_it_is(read, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.write_bytes(b"my own notes\nwithout an end")
    with pytest.raises(InputError, match="not "):
        read(notes)
    assert notes.read_bytes() == b"my own notes\nwithout an end"


def test_nothing_else_renames_into_place_or_names_a_partial_file() -> None:
    """One answer to "write it whole"; a folder that was extracted and an archive of a share are moved, not written."""
    package = Path(ccc_w2v.__file__).parent
    moved = {package / "files.py", package / "corpora/librispeech/prepare.py", package / "data/merge_packed.py"}
    modules = [path for path in package.rglob("*.py") if path not in moved]
    assert len(modules) > 200
    assert [path.name for path in modules if re.search(r"os\.(replace|rename)\(", path.read_text())] == []
