"""LibriSpeech from archives: servers that break off, ignore ranges or send a wrong byte, full and read-only disks."""

import hashlib
import shutil
import subprocess
import tarfile

import pytest

from ccc_w2v.corpora import download
from ccc_w2v.corpora.librispeech import librilight
from ccc_w2v.corpora.librispeech import prepare as librispeech
from ccc_w2v.errors import InputError
from tests.corpora.archive_server import Upstream
from tests.corpora.librispeech.fake_librispeech import write_archives, write_librispeech, write_limited
from tests.run_tool import run_with

PART = "dev-clean"
ARCHIVE = f"{PART}.tar.gz"
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trees")
    return write_librispeech(folder, (PART,)), write_limited(folder, seconds=(1.0, 1.2))


@pytest.fixture(scope="module")
def archives(trees, tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    return {path.name: path.read_bytes() for tree in trees for path in write_archives(tree, folder)}


@pytest.fixture
def archive(archives, monkeypatch):
    """The archive's bytes, pinned in place of the real one's; no waiting between connections."""
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0)
    pin(monkeypatch, archives)
    return archives[ARCHIVE]


def pin(monkeypatch, archives):
    table = librispeech.published()
    for name, content in archives.items():
        part = name.split(".")[0]
        if part in table:
            table[part] = librispeech.Published(len(content), *list(vars(table[part]).values())[1:])
    digests = {name: hashlib.md5(content).hexdigest() for name, content in archives.items()}
    monkeypatch.setattr(librispeech, "published", lambda: table)
    monkeypatch.setattr(librispeech, "published_md5", lambda: digests)


def prepare(out, *servers, **options):
    addresses = [getattr(server, "address", server) for server in servers]
    return librispeech.prepare(out, [PART], mirrors=addresses, **options)


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def assert_whole(out, trees):
    for path in (trees[0] / PART).rglob("*"):
        if path.is_file():
            assert (out / "LibriSpeech" / path.relative_to(trees[0])).read_bytes() == path.read_bytes()
    assert (out / "LibriSpeech/SPEAKERS.TXT").is_file()
    assert names(out / "download") == []
    assert (out / "manifests/dev_clean.tsv").read_text().splitlines()[0] == str(out / "LibriSpeech")
    assert not [path for path in out.rglob("*") if "partial" in path.name]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_breaks_off_goes_on(archive, trees, tmp_path, ranges):
    with Upstream(archive, cuts=(1000, len(archive) // 2), ranges=ranges) as server:
        done = prepare(tmp_path, server)
    assert server.asked[:2] == [None, "bytes=1000-"]
    assert len(server.asked) == 3
    assert done["splits"]["dev_clean"]["utterances"] == 12
    assert_whole(tmp_path, trees)
    # A second call asks nobody.
    assert prepare(tmp_path, NOWHERE) == done


def test_another_mirror_goes_on_from_what_the_first_one_brought(archive, trees, tmp_path, capsys):
    broken, good = Upstream(archive, cuts=(5000,) + (0,) * download.ATTEMPTS), Upstream(archive)
    with broken, good:
        prepare(tmp_path, NOWHERE, broken, good)
    assert good.asked == ["bytes=5000-"]
    assert len(broken.asked) == 1 + download.ATTEMPTS
    assert capsys.readouterr().out.count("asking the next mirror") == 2
    assert_whole(tmp_path, trees)


def test_a_wrong_byte_is_found_and_another_mirror_asked_from_the_start(archive, trees, tmp_path, capsys):
    wrong = bytearray(archive)
    wrong[len(wrong) // 2] ^= 1
    with Upstream(bytes(wrong)) as bad, Upstream(archive) as good:
        prepare(tmp_path, bad, good)
    assert good.asked == [None]
    assert "its MD5 is not the published" in capsys.readouterr().out
    assert_whole(tmp_path, trees)
    with Upstream(bytes(wrong)) as bad, pytest.raises(InputError, match="its MD5 is not .*; call again, or put"):
        prepare(tmp_path / "other", bad, bad)
    assert names(tmp_path / "other") == ["download"]
    assert names(tmp_path / "other/download") == []


def test_a_page_in_the_archives_place_does_not_cost_what_has_arrived(archive, trees, tmp_path):
    (tmp_path / "download").mkdir()
    (tmp_path / f"download/.{ARCHIVE}.partial").write_bytes(archive[:7000])
    with Upstream(b"<html>sorry</html>", ranges=False) as sorry, Upstream(archive) as good:
        with pytest.raises(InputError, match=rf"offers 18 bytes, the archive has {len(archive)}"):
            prepare(tmp_path, sorry)
        prepare(tmp_path, sorry, good)
    assert good.asked == ["bytes=7000-"]
    assert_whole(tmp_path, trees)


def test_no_mirror_is_one_line_that_names_each(archive, tmp_path, capsys):
    arguments = ("--out", tmp_path, "--parts", PART, "--mirrors", f"{NOWHERE}/a,{NOWHERE}/b/")
    assert run_with("prepare_librispeech", *arguments) == 2
    assert run_with("prepare_librispeech", *arguments[:-1], "nowhere") == 2
    error, no_address, _ = capsys.readouterr().err.split("\n")
    assert f"nowhere/{ARCHIVE}: is no address" in no_address
    assert f"{NOWHERE}/a/{ARCHIVE} cannot be" in error
    assert f"{NOWHERE}/b/{ARCHIVE} cannot be" in error


def test_an_archive_that_was_fetched_by_hand_is_taken_if_it_is_the_right_one(archive, trees, tmp_path):
    path = tmp_path / "download" / ARCHIVE
    path.parent.mkdir()
    path.write_bytes(archive[:-1])
    with pytest.raises(InputError, match=rf"{ARCHIVE}: its MD5 is not the published .*; delete it"):
        prepare(tmp_path, NOWHERE)
    path.write_bytes(archive)
    prepare(tmp_path, NOWHERE, keep_archives=True)
    assert names(path.parent) == [ARCHIVE]
    prepare(tmp_path, NOWHERE)
    assert_whole(tmp_path, trees)


def test_a_kill_between_unpacking_and_listing_costs_neither_again(archive, trees, tmp_path, monkeypatch):
    with Upstream(archive) as server, monkeypatch.context() as patch:
        patch.setattr(librispeech, "write_whole", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare(tmp_path, server)
    assert not (tmp_path / "LibriSpeech" / PART).exists()
    prepare(tmp_path, NOWHERE)
    assert_whole(tmp_path, trees)


def test_a_folder_that_was_put_there_is_read_to_its_end(archive, trees, tmp_path):
    shutil.copytree(trees[0], tmp_path / "LibriSpeech")
    broken = next((tmp_path / "LibriSpeech").rglob("*.flac"))
    broken.write_bytes(broken.read_bytes()[:-5000])
    with pytest.raises(InputError, match="1 of its utterances cannot be used"):
        prepare(tmp_path, NOWHERE)


def test_an_archive_of_something_else_is_named(tmp_path, monkeypatch):
    (tmp_path / "x").write_text("x")
    with tarfile.open(tmp_path / ARCHIVE, "w:gz") as tar:
        tar.add(tmp_path / "x", arcname="x")
    content = (tmp_path / ARCHIVE).read_bytes()
    pin(monkeypatch, {ARCHIVE: content})
    with Upstream(content) as server, pytest.raises(InputError, match=rf"holds no folder LibriSpeech/{PART}"):
        prepare(tmp_path / "out", server)


def test_the_limited_sets_come_from_their_archive(archives, archive, tmp_path):
    name = f"{librilight.NAME}.tgz"
    with Upstream(archives[name], cuts=(3000,)) as server:
        done = librilight.prepare(tmp_path, url=f"{server.address}{name}")
    assert {split: size["utterances"] for split, size in done["splits"].items()} == {
        "train_10m": 4,
        "train_1h": 24,
        "train_10h": 28,
    }
    assert (tmp_path / "librispeech_finetuning/phones").is_dir()
    assert names(tmp_path / "download") == []
    assert librilight.prepare(tmp_path, url=NOWHERE) == done


def mounted(folder, options):
    """Mount a small disk of its own at ``folder``; skip where that is not permitted."""
    folder.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")


@pytest.fixture
def disk(tmp_path):
    """A disk of a few kB; called with a number of kB, it makes it so large."""
    folder = tmp_path / "disk"
    mounted(folder, "size=64k")

    def resize(kilobytes):
        subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", folder], check=True)
        return folder

    yield resize
    subprocess.run(["umount", "-l", folder], check=True)


def call(out, *servers):
    """Run the tool on one part and return its exit code."""
    addresses = ",".join(getattr(server, "address", server) for server in servers)
    return run_with("prepare_librispeech", "--out", out, "--parts", PART, "--mirrors", addresses)


def test_a_disk_that_fills_up_costs_nothing_that_had_arrived(archive, trees, disk, monkeypatch, capsys):
    out = disk(len(archive) // 1024 // 2)
    with Upstream(archive) as server:
        assert call(out, server) == 2
        assert "GB free, dev-clean.tar.gz takes about" in capsys.readouterr().err
        assert server.asked == []
        # Others fill the disk while the download runs.
        monkeypatch.setattr(librispeech, "require_space", lambda *_: None)
        assert call(out, server) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert "cannot be written (No space left on device); free some space" in error
        assert len(server.asked) == 1
        arrived = (out / f"download/.{ARCHIVE}.partial").stat().st_size
        assert 0 < arrived < len(archive)
        # Now the archive fits, and what is in it does not.
        disk(int(len(archive) * 1.5) // 1024)
        assert call(out, server) == 2
        assert "cannot be written (No space left on device)" in capsys.readouterr().err.splitlines()[-1]
        assert server.asked[1:] == [f"bytes={arrived}-"]
        assert names(out / "download") == [ARCHIVE]
        assert (out / "download" / ARCHIVE).read_bytes() == archive
    assert call(disk(8192), NOWHERE) == 0
    assert_whole(out, trees)


def test_a_disk_too_small_for_the_manifests_leaves_no_half_of_one(trees, disk, tmp_path, capsys):
    out = disk(64)
    arguments = ("prepare_librispeech", "--out", out, "--from", trees[0], "--parts", PART)
    for filler in (60, 52, 44, 40):
        (out / "filler").write_bytes(bytes(filler * 1024))
        code = run_with(*arguments)
        assert not [path for path in out.rglob("*") if "partial" in path.name]
        if code:
            assert "No space left on device); free some space" in capsys.readouterr().err.splitlines()[-1]
            assert not (out / "librispeech.json").exists()
    (out / "filler").unlink()
    assert run_with(*arguments) == 0
    librispeech.prepare(tmp_path / "roomy", [PART], source=trees[0])
    for path in (tmp_path / "roomy/manifests").iterdir():
        assert (out / "manifests" / path.name).read_bytes() == path.read_bytes()


def test_a_read_only_disk_is_one_line(archive, trees, tmp_path, capsys):
    out = tmp_path / "disk"
    mounted(out, "size=64k,ro")
    try:
        arguments = ("prepare_librispeech", "--out", out, "--parts", PART)
        with Upstream(archive) as server:
            assert run_with(*arguments, "--mirrors", server.address) == 2
            assert run_with(*arguments, "--from", trees[0]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 2
        assert all("Read-only file system); name a folder that can be" in line for line in lines)
        assert server.asked == []
    finally:
        subprocess.run(["umount", out], check=True)


def test_a_folder_without_permission_is_one_line(trees, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"

    def refused(self, *_, **__):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.mkdir", refused)
    assert run_with("prepare_librispeech", "--out", out, "--from", trees[0], "--parts", PART) == 2
    assert capsys.readouterr().err == f"error: {out}/parts: Permission denied\n"
