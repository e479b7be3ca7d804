"""Reading over a network from a server that stalls, breaks off, refuses and lies: bounded, and one sentence."""

import multiprocessing

import pytest

from ccc_w2v.data import remote
from ccc_w2v.data.remote import Patience, RemoteFile, UnreachableError, matches, read_all, read_range, version
from ccc_w2v.errors import InputError
from tests.data.shard_server import ShardServer

CONTENT = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(remote, "PAUSE_SECONDS", 0.01)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.bin").write_bytes(CONTENT)
    return tmp_path


def test_ranges_whole_files_and_versions(folder, monkeypatch):
    monkeypatch.setattr(remote, "BLOCK", 1000)
    with ShardServer(folder) as server:
        url = f"{server.address}/a.bin"
        assert read_range(url, 300, 2500) == CONTENT[300:2800]
        assert [part for _, _, part in server.asked] == [(300, 1300), (1300, 2300), (2300, 2800)]
        assert read_range(url, 300, 0) == b""
        assert read_all(url) == CONTENT
        assert version(url) == {"size": len(CONTENT), "ETag": '"1"'}
        file = RemoteFile(url, len(CONTENT))
        file.seek(-300, 2)
        assert file.read() == CONTENT[-300:]
        assert file.read(5) == b""


@pytest.mark.parametrize("trouble", ["break", 503, 429])
def test_what_passes_is_tried_again_and_a_limit_ends_it(folder, trouble):
    with ShardServer(folder, lambda path, part, number: trouble if number < 3 else None) as server:
        url = f"{server.address}/a.bin"
        assert read_range(url, 10, 100, Patience(5, 3)) == CONTENT[10:110]
        assert len(server.asked) == 3
    with ShardServer(folder, lambda path, part, number: trouble) as server:
        with pytest.raises(UnreachableError, match=r"a\.bin: cannot be read after 3 attempts of up to 5 s"):
            read_range(f"{server.address}/a.bin", 10, 100, Patience(5, 3))
        assert len(server.asked) == 3


def test_a_stall_ends_after_the_time_limit(folder):
    with ShardServer(folder, lambda path, part, number: "stall") as server:
        with pytest.raises(UnreachableError, match=r"after 2 attempts of up to 0\.3 s"):
            read_range(f"{server.address}/a.bin", 0, 100, Patience(0.3, 2))
        assert len(server.asked) == 2


def test_a_server_that_is_not_there_is_unreachable(folder):
    with ShardServer(folder) as server:
        url = f"{server.address}/a.bin"
    with pytest.raises(UnreachableError, match="cannot be read after 2 attempts"):
        read_range(url, 0, 100, Patience(1, 2))


@pytest.mark.parametrize(("trouble", "said"), [(404, "no such file"), (403, "refuses"), (416, "refuses")])
def test_what_no_attempt_changes_is_not_tried_again(folder, trouble, said):
    with ShardServer(folder, lambda path, part, number: trouble) as server:
        with pytest.raises(InputError, match=said) as error:
            read_range(f"{server.address}/a.bin", 0, 100, Patience(5, 3))
        assert not isinstance(error.value, UnreachableError)
        assert len(server.asked) == 1


@pytest.mark.parametrize("ask", [read_all, version])
def test_a_file_that_is_not_there_and_a_server_that_is_not_are_told_apart(folder, ask):
    with ShardServer(folder) as server:
        url = f"{server.address}/a.bin"
        with pytest.raises(InputError, match=r"gone: no such file on its server") as error:
            ask(f"{server.address}/gone", Patience(1, 2))
        assert not isinstance(error.value, UnreachableError)
    with pytest.raises(UnreachableError, match="after 2 attempts"):
        ask(url, Patience(1, 2))


def test_a_server_without_ranges_is_named(folder):
    with ShardServer(folder) as server:
        server.ranges = False
        with pytest.raises(InputError, match="has to answer range requests"):
            read_range(f"{server.address}/a.bin", 10, 100)


def test_bytes_after_the_end_of_a_file_are_missed(folder):
    with (
        ShardServer(folder) as server,
        pytest.raises(UnreachableError, match=f"40 of 100 bytes from {len(CONTENT) - 40}"),
    ):
        read_range(f"{server.address}/a.bin", len(CONTENT) - 40, 100, Patience(5, 2))


def test_a_protocol_that_nobody_knows():
    with pytest.raises(InputError, match="gopher://: not a protocol"):
        read_range("gopher://host/a", 0, 1)


def test_any_file_system_of_fsspec_and_its_patterns():
    import fsspec

    memory = fsspec.filesystem("memory")
    for name in ("b", "a", "c.txt"):
        memory.pipe(f"/remote/{name}", CONTENT)
    assert read_range("memory://remote/a", 5, 6) == CONTENT[5:11]
    assert matches("memory://remote/[ab]") == ["memory:///remote/a", "memory:///remote/b"]
    with pytest.raises(InputError, match="no such file"):
        read_range("memory://remote/gone", 0, 1)


def test_s3_at_an_endpoint_of_its_own(folder, monkeypatch):
    pytest.importorskip("s3fs", reason="extra streams")
    import fsspec

    (folder / "bucket").mkdir()
    (folder / "bucket/a.tar").write_bytes(CONTENT)
    trouble = []
    with ShardServer(folder, lambda path, part, number: trouble[-1] if trouble else None) as server:
        monkeypatch.setitem(fsspec.config.conf, "s3", {"anon": True, "endpoint_url": server.address})
        remote._file_system.cache_clear()
        assert version("s3://bucket/a.tar")["size"] == len(CONTENT)
        assert read_range("s3://bucket/a.tar", 250, 12) == CONTENT[250:262]
        with pytest.raises(InputError, match=r"gone\.tar: no such file on its server"):
            read_range("s3://bucket/gone.tar", 0, 1)
        trouble.append("break")
        with pytest.raises(UnreachableError, match="after 2 attempts"):
            read_range("s3://bucket/a.tar", 250, 12, Patience(30, 2))
    remote._file_system.cache_clear()


def _read_in_a_child(url, answers):
    answers.put(read_range(url, 0, 50) == CONTENT[:50])


def test_a_forked_process_reads_with_connections_of_its_own(folder):
    context = multiprocessing.get_context("fork")
    with ShardServer(folder) as server:
        url = f"{server.address}/a.bin"
        assert read_range(url, 0, 9) == CONTENT[:9]
        answers = context.Queue()
        child = context.Process(target=_read_in_a_child, args=(url, answers))
        child.start()
        assert answers.get(timeout=60)
        child.join()
        assert child.exitcode == 0
        assert read_range(url, 9, 9) == CONTENT[9:18]
