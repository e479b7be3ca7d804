"""Large manifests through an index: what they hold, and what happens when file, folder or time are not as they were."""

import multiprocessing
import os
import pickle

import numpy as np
import pytest

from ccc_w2v.data import manifest as manifests
from ccc_w2v.data import manifest_index as index
from ccc_w2v.data.manifest import manifest_digest, read_manifest, write_manifest
from ccc_w2v.errors import InputError
from ccc_w2v.files import sha256

LINES = [(f"sprecher {number:03}/größe-{'x' * (number % 7)}.flac", 16000 + number) for number in range(300)]


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(manifests, "INDEXED_FROM", 1)
    monkeypatch.setattr(index, "LINES", 64)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "data" / "train.tsv"
    path.parent.mkdir()
    write_manifest(path, "/corpus", LINES)
    return path


def in_memory(path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(manifests, "INDEXED_FROM", 1 << 40)
        return read_manifest(path)


def test_an_indexed_manifest_is_what_the_file_says(path, monkeypatch):
    plain, indexed = in_memory(path, monkeypatch), read_manifest(path)
    assert isinstance(plain.entries, tuple)
    assert isinstance(indexed.entries, index.IndexedEntries)
    assert (plain.root, plain.source, len(plain)) == (indexed.root, indexed.source, len(indexed))
    assert plain.entries == tuple(indexed.entries)
    assert plain.entries == tuple(indexed.entries[position] for position in range(len(plain)))
    assert plain.entries[-1] == indexed.entries[-1]
    assert plain.entries[5:200:7] == indexed.entries[5:200:7]
    assert np.array_equal(plain.samples, indexed.samples)
    assert indexed.samples.dtype == np.int64
    assert indexed.where(indexed.entries[7]) == f"{path}:9"
    assert manifest_digest(path) == indexed.entries.digest == sha256(path)
    with pytest.raises(IndexError):
        indexed.entries[300]
    with pytest.raises(ValueError, match="read-only"):
        indexed.samples[0] = 1


def test_the_index_is_numpys_own_format(path):
    read_manifest(path)
    with open(f"{path}.index", "rb") as file:
        about, samples, starts, paths = (np.load(file) for _ in range(4))
    assert b'"root": "/corpus"' in about.tobytes()
    assert samples[2] == 16002
    assert paths[starts[2] : starts[3]].tobytes().decode() == LINES[2][0]


def test_an_index_is_built_once_and_again_when_the_manifest_changes(path):
    read_manifest(path)
    built = os.stat(f"{path}.index").st_ino
    read_manifest(path)
    assert os.stat(f"{path}.index").st_ino == built
    status = os.stat(path)
    # Of the same size and time, but another manifest.
    write_manifest(path, "/corpus", [*LINES[:-1], (LINES[-1][0], 77777)])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert os.stat(path).st_size == status.st_size
    assert read_manifest(path).samples[-1] == 77777
    write_manifest(path, "/elsewhere", LINES[:10])
    again = read_manifest(path)
    assert (again.root, len(again)) == ("/elsewhere", 10)


@pytest.mark.parametrize("damage", ["cut", "byte", "text", "empty"])
def test_a_damaged_index_is_built_again(path, damage, caplog):
    read_manifest(path)
    place = path.with_name("train.tsv.index")
    data = bytearray(place.read_bytes())
    if damage == "byte":
        data[data.index((16002).to_bytes(8, "little"))] ^= 1
    place.write_bytes({"cut": data[:-9], "byte": data, "text": b"no index at all", "empty": b""}[damage])
    assert read_manifest(path).samples.tolist() == [samples for _, samples in LINES]
    assert "train.tsv.index: not usable" in caplog.text
    caplog.clear()
    read_manifest(path)
    assert not caplog.text


def test_where_the_folder_cannot_be_written_the_index_lies_in_the_cache(path, tmp_path, monkeypatch):
    build = index._build

    def refused(path, place):
        if place.parent == path.parent:
            raise PermissionError(13, "Permission denied")
        build(path, place)

    monkeypatch.setattr(index, "_build", refused)
    assert tuple(read_manifest(path).entries) == tuple(read_manifest(path).entries)
    assert [file.name for file in path.parent.iterdir()] == ["train.tsv"]
    (cached,) = (tmp_path / "cache" / "ccc_w2v" / "manifests").iterdir()
    assert cached.name.startswith("train-")
    built = cached.stat().st_ino
    read_manifest(path)
    assert cached.stat().st_ino == built


def test_where_nothing_can_be_written_the_manifest_is_read_into_memory(path, monkeypatch, caplog):
    def full(path, place):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(index, "_build", full)
    manifest = read_manifest(path)
    assert isinstance(manifest.entries, tuple)
    assert len(manifest) == 300
    assert "its index cannot be written" in caplog.text
    assert "No space left on device" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/corpus\n", "lists no audio"),
        ("a.flac\t100\n", "train.tsv:1: the first line must be"),
        ("/corpus\na.flac\t100\nb.flac\t-3\n", r"train.tsv:3: expected path<TAB>samples"),
        ("/corpus\na.flac\t9999999999999999999999\n", r"train.tsv:2: expected path<TAB>samples"),
    ],
)
def test_a_bad_manifest_names_its_line_and_leaves_no_index(path, text, message):
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_manifest(path)
    assert [file.name for file in path.parent.iterdir()] == ["train.tsv"]


def test_a_manifest_that_changes_meanwhile_is_refused(path, monkeypatch):
    lines = index.manifest_lines

    def slow(path):
        root, entries = lines(path)

        def changing():
            yield from entries
            write_manifest(path, "/corpus", LINES[:5])

        return root, changing()

    monkeypatch.setattr(index, "manifest_lines", slow)
    with pytest.raises(InputError, match=r"train.tsv: changed while its index was built"):
        read_manifest(path)
    assert [file.name for file in path.parent.iterdir()] == ["train.tsv"]


def test_entries_go_to_a_spawned_process_as_a_path(path):
    manifest = read_manifest(path)
    pickled = pickle.dumps(manifest)
    assert len(pickled) < 1000
    assert tuple(pickle.loads(pickled).entries) == tuple(manifest.entries)


def _read(path, queue):
    manifests.INDEXED_FROM = 1
    manifest = read_manifest(path)
    queue.put((type(manifest.entries).__name__, manifest.entries[299].path, os.stat(f"{path}.index").st_ino))


def test_processes_that_start_together_share_one_index(path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_read, args=(path, queue)) for _ in range(6)]
    for process in processes:
        process.start()
    seen = {queue.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert seen == {("IndexedEntries", LINES[299][0], os.stat(f"{path}.index").st_ino)}
    assert sorted(file.name for file in path.parent.iterdir()) == ["train.tsv", "train.tsv.index"]


def test_a_running_process_keeps_the_lines_it_started_with(path):
    manifest = read_manifest(path)
    write_manifest(path, "/corpus", LINES[:3])
    assert len(read_manifest(path)) == 3
    assert manifest.entries[250].path == LINES[250][0]
    assert int(manifest.samples[250]) == 16250
