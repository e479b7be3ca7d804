"""What a full disk leaves behind: nothing. The system's limit on a file's size stands for it."""

from __future__ import annotations

import errno
import resource
from contextlib import contextmanager

import pytest

from ccc_w2v.checkpoint.import_any import import_any
from ccc_w2v.checkpoint.plain import export_plain
from ccc_w2v.errors import InputError, exit_on_input_error
from ccc_w2v.export.huggingface import export_huggingface
from ccc_w2v.export.onnx_wer import export_measured
from ccc_w2v.files import whole
from tests.export.conftest import finetuned_state


@contextmanager
def file_size_limit(size: int):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


WRITERS = {
    "fairseq": lambda source, out, audio: export_plain(source, out, overwrite=True),
    "huggingface": lambda source, out, audio: export_huggingface(source, out, audio, overwrite=True),
    "onnx": lambda source, out, audio: export_measured(source, out, audio, overwrite=True),
    "import": lambda source, out, audio: import_any(source, out, overwrite=True),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_full_disk_is_one_line_and_leaves_what_was_there(writer, save, recordings, tmp_path):
    source, folder = save(finetuned_state()), tmp_path / "new"
    out = folder / "target"
    folder.mkdir()
    out.write_text("precious")
    with file_size_limit(100_000), pytest.raises(InputError, match=f"{out}: cannot be written .*File too large"):
        WRITERS[writer](source, out, recordings[:1])
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"target": "precious"}


def test_folder_takes_the_place_of_a_file_and_of_a_folder(tmp_path):
    out = tmp_path / "out"
    out.write_text("a file")
    for content in ("first", "second"):
        with whole(out, overwrite=True) as partial:
            partial.mkdir()
            (partial / content).touch()
        assert [path.name for path in out.iterdir()] == [content]
    assert list(tmp_path.iterdir()) == [out]
    with pytest.raises(InputError, match="exists already"), whole(out):
        pass


def test_full_disk_elsewhere_ends_a_tool_with_one_line_and_code_2(capsys):
    @exit_on_input_error
    def main():
        raise OSError(errno.ENOSPC, "No space left on device", "index.tsv")

    assert main() == 2
    assert capsys.readouterr().err == "error: index.tsv: cannot be written (No space left on device); free some space\n"


def test_files_have_the_rights_of_the_umask(save, recordings, tmp_path):
    export_huggingface(save(finetuned_state()), tmp_path / "out", recordings[:1])
    (tmp_path / "ordinary").touch()
    rights = (tmp_path / "ordinary").stat().st_mode
    assert {path.stat().st_mode for path in (tmp_path / "out").iterdir()} == {rights}


def test_error_of_our_own_keeps_its_traceback(tmp_path):
    with pytest.raises(ZeroDivisionError), whole(tmp_path / "out") as partial:
        partial.write_text(str(1 / 0))
    assert list(tmp_path.iterdir()) == []
