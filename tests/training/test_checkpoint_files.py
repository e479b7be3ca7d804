import os
import resource
import signal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ccc_w2v.errors import InputError
from ccc_w2v.training import checkpoint_files
from ccc_w2v.training.checkpoint_files import copy_whole, restore_last, save_whole, why_damaged


def value(path):
    return int(torch.load(path, weights_only=True)["model"]["weight"][0])


def state(number):
    return {"model": {"weight": torch.full((20_000,), number)}, "cfg": {}}


def limited_to(size, act):
    """Run ``act`` in a child whose files may not grow above a size, killed by the kernel at that byte."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        act()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def whole(tmp_path):
    save_whole(state(1), tmp_path / "checkpoint_last.pt")
    save_whole(state(2), tmp_path / "other.pt")
    return tmp_path / "checkpoint_last.pt"


@pytest.mark.parametrize(
    "act",
    [
        lambda path: save_whole(state(2), path),
        lambda path: copy_whole(path.with_name("other.pt"), path),
    ],
    ids=["save", "copy"],
)
def test_a_kill_at_any_byte_leaves_the_file_before_and_the_next_try_succeeds(whole, act):
    size = whole.stat().st_size
    for byte in (0, 1, size // 3, size // 2, size - 1):
        assert limited_to(byte, lambda: act(whole)) == -signal.SIGXFSZ
        assert value(whole) == 1
        assert why_damaged(whole) is None
    act(whole)
    assert value(whole) == 2
    assert not list(whole.parent.glob("*.tmp"))


@pytest.mark.parametrize("act", [save_whole, lambda state, path: copy_whole(path.with_name("other.pt"), path)])
def test_a_full_disk_is_one_line_and_leaves_the_file_before(whole, act):
    def in_child():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # Python's own choice: the write fails instead
        try:
            act(state(2), whole)
        except InputError as error:
            os._exit(3 if "File too large" in str(error) and "\n" not in str(error) else 4)

    assert limited_to(whole.stat().st_size // 2, in_child) == 3
    assert value(whole) == 1
    assert not list(whole.parent.glob("*.tmp"))


def test_another_failure_is_tried_again_from_the_start_of_the_file(whole, monkeypatch):
    save, tries = torch.save, []

    def fail_twice(state, file):
        tries.append(file.tell())
        if len(tries) < 3:
            file.write(b"half")
            raise OSError(5, "Input/output error")
        save(state, file)

    monkeypatch.setattr(checkpoint_files, "PAUSE_S", 0)
    monkeypatch.setattr(torch, "save", fail_twice)
    save_whole(state(2), whole)
    assert tries == [0, 0, 0]
    assert value(whole) == 2
    tries.clear()
    monkeypatch.setattr(checkpoint_files, "ATTEMPTS", 2)
    with pytest.raises(OSError, match="Input/output error"):
        save_whole(state(3), whole)
    assert value(whole) == 2
    assert not list(whole.parent.glob("*.tmp"))


@given(share=st.floats(0, 1, exclude_max=True))
def test_a_cut_file_is_damaged(tmp_path_factory, share):
    path = tmp_path_factory.mktemp("cut") / "checkpoint_last.pt"
    torch.save(state(1), path)
    assert why_damaged(path) is None
    os.truncate(path, int(share * path.stat().st_size))
    assert why_damaged(path)


def test_a_flipped_byte_is_damage_and_a_missing_file_too(whole):
    data = bytearray(whole.read_bytes())
    data[len(data) // 2] ^= 1
    whole.write_bytes(data)
    assert "checksum" in why_damaged(whole)
    assert why_damaged(whole.with_name("none.pt"))


def saved(folder, name, number, age):
    torch.save(state(number), folder / name)
    os.utime(folder / name, (1e9 - age, 1e9 - age))
    return folder / name


@pytest.mark.parametrize("last", ["damaged", "missing"])
def test_the_newest_whole_checkpoint_takes_the_place_of_the_last(tmp_path, last, caplog):
    saved(tmp_path, "checkpoint_1_20.pt", 20, age=2)
    taken = saved(tmp_path, "checkpoint_2_40.pt", 40, age=1)
    os.truncate(saved(tmp_path, "checkpoint_2_60.pt", 60, age=0), 1000)
    saved(tmp_path, "crash.pt", 61, age=0)
    if last == "damaged":
        os.truncate(saved(tmp_path, "checkpoint_last.pt", 60, age=0), 1000)
    assert restore_last(tmp_path) == taken
    assert value(tmp_path / "checkpoint_last.pt") == value(taken) == 40
    assert f"checkpoint_last.pt is {last}" in caplog.text
    assert "resuming from checkpoint_2_40.pt" in caplog.text
    assert restore_last(tmp_path) is None


def test_a_new_folder_is_left_alone_and_nothing_whole_is_refused(tmp_path):
    assert restore_last(tmp_path) is None
    assert restore_last(tmp_path / "none") is None
    for name in ("checkpoint_1_20.pt", "checkpoint_last.pt"):
        os.truncate(saved(tmp_path, name, 1, age=0), 1000)
    with pytest.raises(InputError, match="there is no whole checkpoint beside it; move the 2 damaged away"):
        restore_last(tmp_path)
