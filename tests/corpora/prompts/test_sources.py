import contextlib
import hashlib
import os
import re
import tarfile

import pytest

from ccc_w2v.corpora import download
from ccc_w2v.corpora.prompts.licence import licence_text
from ccc_w2v.corpora.prompts.sources import find_recordings, locate
from ccc_w2v.errors import InputError
from tests.corpora.archive_server import Upstream
from tests.corpora.prompts.fake_prompts import CREDITS, debian_tree, release_tree

NOWHERE = "http://127.0.0.1:9/"
ARCHIVE = "asterisk-core-sounds-en-wav-1.6.1.tar.gz"


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    root = tmp_path_factory.mktemp("prompts")
    return {"debian": debian_tree(root / "debian"), "release": release_tree(root / "release")}


@pytest.fixture(scope="module")
def archive(trees, tmp_path_factory):
    path = tmp_path_factory.mktemp("upstream") / ARCHIVE
    with tarfile.open(path, "w:gz") as tar:
        tar.add(trees["release"], arcname=".")
    return path.read_bytes()


def programs(folder, monkeypatch, **scripts):
    """Put shell scripts of these names in front of everything else on PATH; alone there if none is given."""
    folder.mkdir()
    for name, body in scripts.items():
        path = folder / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}" if scripts else str(folder))


@pytest.mark.parametrize(
    ("below", "sounds"),
    [
        ("debian", "usr/share/asterisk/sounds/en_US_f_Allison"),
        ("debian/usr/share/asterisk", "sounds/en_US_f_Allison"),
        ("debian/usr/share/asterisk/sounds/en_US_f_Allison", "."),
        ("release", "."),
    ],
)
def test_every_layout_is_found(trees, below, sounds):
    folder = trees["debian"].parent / below
    located = locate(folder, "en", "here")
    assert located.sounds == (folder / sounds).resolve()
    assert located.transcripts.name.startswith("core-sounds-en.txt")
    assert located.origin == "here"
    assert CREDITS in licence_text([located])
    assert "licenses/by-sa/3.0/" in licence_text([located])


def test_languages_are_told_apart(tmp_path):
    debian_tree(tmp_path)
    debian_tree(tmp_path, "fr")
    english, french = (locate(tmp_path, language, "here") for language in ("en", "fr"))
    assert (english.sounds.name, french.sounds.name) == ("en_US_f_Allison", "fr_CA_f_June")
    assert "Une Personne" in licence_text([french])
    assert CREDITS not in licence_text([french])
    (tmp_path / "usr/share/doc/asterisk-core-sounds-fr/copyright").unlink()
    assert "June Wallack" in licence_text([french])


def test_another_english_is_not_the_us_speaker(tmp_path):
    (debian_tree(tmp_path) / "usr/share/asterisk/sounds/en_US_f_Allison").rename(tmp_path / "usr/share/en_AU_f_Other")
    with pytest.raises(InputError, match="no voice prompts of language 'en' below it"):
        locate(tmp_path, "en", "here")


def test_a_folder_that_lacks_something_says_what(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        locate(tmp_path / "absent", "en", "here")
    with pytest.raises(InputError, match="install asterisk-core-sounds-en-wav"):
        locate(tmp_path, "en", "here")
    (release_tree(tmp_path / "flat") / "core-sounds-en.txt").unlink()
    with pytest.raises(InputError, match=r"no core-sounds-en\.txt or \.txt\.gz"):
        locate(tmp_path / "flat", "en", "here")


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_goes_on(archive, trees, tmp_path, ranges):
    sha1 = hashlib.sha1(archive).hexdigest()
    with Upstream(archive, sha1, cuts=(1000, len(archive) // 2), ranges=ranges) as upstream:
        located = find_recordings("en", tmp_path, upstream=upstream.address)
    third = f"bytes={1000 + len(archive) // 2}-" if ranges else f"bytes={len(archive) // 2}-"
    assert upstream.asked == [None, "bytes=1000-", third]
    assert (tmp_path / ARCHIVE).read_bytes() == archive
    assert located.transcripts.read_text() == (trees["release"] / "core-sounds-en.txt").read_text()
    # What is unpacked already needs no server.
    assert find_recordings("en", tmp_path, upstream=NOWHERE) == located


def test_a_download_killed_before_goes_on_in_the_next_call(archive, tmp_path):
    (tmp_path / f".{ARCHIVE}.partial").write_bytes(archive[:5000])
    with Upstream(archive) as upstream:
        find_recordings("en", tmp_path, upstream=upstream.address)
    assert upstream.asked == ["bytes=5000-"]
    assert (tmp_path / ARCHIVE).read_bytes() == archive


def test_a_download_killed_just_before_its_end_goes_on(archive, tmp_path):
    (tmp_path / f".{ARCHIVE}.partial").write_bytes(archive)
    with Upstream(archive, hashlib.sha1(archive).hexdigest()) as upstream:
        assert find_recordings("en", tmp_path, upstream=upstream.address).origin == f"upstream release {ARCHIVE}"


@pytest.mark.parametrize("damage", ["checksum", "archive"])
def test_a_damaged_download_is_discarded(archive, tmp_path, monkeypatch, capsys, damage):
    programs(tmp_path / "bin", monkeypatch)
    sent, sha1 = (archive, "0" * 40) if damage == "checksum" else (archive[: len(archive) // 2], None)
    with Upstream(sent, sha1) as upstream, pytest.raises(InputError, match="no source of the voice prompts"):
        find_recordings("en", tmp_path / "download", upstream=upstream.address)
    assert ("SHA-1 is not the published" if damage == "checksum" else "is damaged") in capsys.readouterr().out
    assert not list((tmp_path / "download").rglob("*.tar.gz*"))
    with Upstream(archive, hashlib.sha1(archive).hexdigest()) as upstream:
        assert find_recordings("en", tmp_path / "download", upstream=upstream.address).sounds.is_dir()


def test_debian_is_asked_when_upstream_is_silent(trees, tmp_path, monkeypatch, capsys):
    programs(
        tmp_path / "bin",
        monkeypatch,
        apt_get="for name in $*; do case $name in aster*) touch ${name}_1.6.1-1_all.deb;; esac; done",
        dpkg=f"cp -r {trees['debian']}/usr .",
    )
    located = find_recordings("en", tmp_path / "download", upstream=NOWHERE)
    assert "asterisk-core-sounds-en-wav_1.6.1-1_all" in located.origin
    assert located.sounds.is_dir()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert re.match(rf"\[en\] {NOWHERE}{ARCHIVE} cannot be fetched", lines[0])


def test_nothing_to_be_had_names_the_ways_out_in_one_sentence(tmp_path, monkeypatch):
    programs(tmp_path / "bin", monkeypatch)
    with pytest.raises(InputError) as caught:
        find_recordings("en", tmp_path / "download", upstream=NOWHERE)
    message = str(caught.value)
    for part in ("cannot be fetched", "need apt-get and dpkg", "asterisk-core-sounds-en-wav and", "--from", ARCHIVE):
        assert part in message
    assert "\n" not in message
    assert not list((tmp_path / "download").iterdir())


UNKNOWN = "echo 'E: Unable to locate package asterisk-core-sounds-en-wav' >&2; exit 100"


def test_missing_package_lists_are_fetched_into_the_downloads(trees, tmp_path, monkeypatch, capsys):
    """As in a container, whose lists were removed: only with lists of its own does this apt-get know the packages."""
    lists = tmp_path / "download/apt-lists"
    programs(
        tmp_path / "bin",
        monkeypatch,
        apt_get=f"""
        case "$*" in *" Dir::State::Lists={lists} "*) ;; *) {UNKNOWN};; esac
        case "$*" in *update) touch {lists}/Packages; exit;; esac
        [ -e {lists}/Packages ] || {{ {UNKNOWN}; }}
        for name in $*; do case $name in aster*) touch ${{name}}_1.6.1-1_all.deb;; esac; done""",
        dpkg=f"cp -r {trees['debian']}/usr .",
    )
    assert find_recordings("en", tmp_path / "download", upstream=NOWHERE).sounds.is_dir()
    assert "fetching them" in capsys.readouterr().out


def test_package_lists_serve_all_languages_and_old_ones_are_fetched_again(trees, tmp_path, monkeypatch):
    lists, calls = tmp_path / "download/apt-lists", tmp_path / "calls"
    programs(
        tmp_path / "bin",
        monkeypatch,
        apt_get=f"""
        case "$*" in *" Dir::State::Lists={lists} "*) ;; *) {UNKNOWN};; esac
        case "$*" in *update) echo update >> {calls}; echo new > {lists}/Packages; exit;; esac
        [ -e {lists}/Packages ] || {{ {UNKNOWN}; }}
        grep -q new {lists}/Packages || {{ echo 'E: Failed to fetch the package: 404 Not Found' >&2; exit 100; }}
        for name in $*; do case $name in aster*) touch ${{name}}_1.6.1-1_all.deb;; esac; done""",
        dpkg=f"cp -r {trees['debian']}/usr .",
    )
    with contextlib.suppress(InputError):  # the tree has no Spanish transcripts
        for language in ("en", "es"):
            find_recordings(language, tmp_path / "download", upstream=NOWHERE)
    assert (tmp_path / "download/debian-es").is_dir()
    assert calls.read_text() == "update\n"
    (lists / "Packages").write_text("old")
    with contextlib.suppress(InputError):
        find_recordings("fr", tmp_path / "download", upstream=NOWHERE)
    assert (tmp_path / "download/debian-fr").is_dir()
    assert calls.read_text() == "update\n" * 2


@pytest.mark.parametrize("update", ["exit 0", "echo 'E: Failed to fetch http://deb.debian.org' >&2; exit 100"])
def test_packages_that_nobody_knows_are_said_to_be_unknown(tmp_path, monkeypatch, update):
    programs(
        tmp_path / "bin", monkeypatch, apt_get=f'case "$*" in *update) {update};; *) {UNKNOWN};; esac', dpkg="exit 1"
    )
    expected = "Failed to fetch" if "Failed" in update else "Unable to locate package"
    with pytest.raises(InputError, match=f"apt-get failed .E: {expected}"):
        find_recordings("en", tmp_path / "download", upstream=NOWHERE)


def test_a_download_that_stops_again_and_again_gives_up_and_keeps_its_part(archive, tmp_path, monkeypatch):
    programs(tmp_path / "bin", monkeypatch)
    with Upstream(archive, cuts=(1000,) * download.ATTEMPTS) as upstream, pytest.raises(InputError):
        find_recordings("en", tmp_path / "download", upstream=upstream.address)
    partial = tmp_path / "download" / f".{ARCHIVE}.partial"
    assert partial.read_bytes() == archive[: 1000 * download.ATTEMPTS]
