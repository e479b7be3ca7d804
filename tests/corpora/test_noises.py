"""MUSAN and OpenSLR 28: fetched from a bad server or taken from a folder, checked, listed, filtered by licence."""

import hashlib
import tarfile
import zipfile
from dataclasses import replace

import pytest
import soundfile

from ccc_w2v.augment.noise import BackgroundNoise
from ccc_w2v.augment.recorded_reverb import RecordedReverb
from ccc_w2v.corpora import download, musan, rirs
from ccc_w2v.corpora.download import pinned_archive
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.errors import InputError
from tests.corpora.archive_server import Upstream
from tests.corpora.fake_noises import RATE, musan_tree, rirs_tree
from tests.run_tool import run_tool


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    root = tmp_path_factory.mktemp("noises")
    return {"musan": musan_tree(root / "a"), "rirs_noises": rirs_tree(root / "b")}


@pytest.fixture(scope="module")
def archives(trees, tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    with tarfile.open(folder / "musan.tar.gz", "w:gz") as tar:
        tar.add(trees["musan"] / "musan", arcname="musan")
    with zipfile.ZipFile(folder / "rirs_noises.zip", "w") as file:
        for path in sorted(trees["rirs_noises"].rglob("*")):
            file.write(path, path.relative_to(trees["rirs_noises"]))
    return {name: (folder / file).read_bytes() for name, file in FILES.items()}


FILES = {"musan": "musan.tar.gz", "rirs_noises": "rirs_noises.zip"}


@pytest.fixture
def pinned(archives, monkeypatch):
    """Pin the small archives' checksums in place of the real ones'."""

    def archive(name):
        content = archives[name]
        return replace(pinned_archive(name), size=len(content), md5=hashlib.md5(content).hexdigest())

    for module in (musan, rirs):
        monkeypatch.setattr(module, "pinned_archive", archive)


def names(manifest):
    return [entry.path for entry in read_manifest(manifest).entries]


def test_musan_from_a_folder(trees, tmp_path, capsys):
    hours = musan.prepare(tmp_path, source=trees["musan"])
    assert list(hours) == ["noise", "free_sound", "music", "speech"]
    assert names(tmp_path / "free_sound.tsv") == [f"noise/free-sound/noise-free-sound-000{n}.wav" for n in (0, 1)]
    assert hours["free_sound"] == pytest.approx((1600 + 1700) / RATE / 3600)
    assert len(names(tmp_path / "noise.tsv")) == 4
    assert len(names(tmp_path / "speech.tsv")) == 3
    left_out = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left out: ")]
    assert len(left_out) == 1
    assert "noise-free-sound-0002.wav" in left_out[0]
    rows = [line.split("\t") for line in (tmp_path / "licences.tsv").read_text().splitlines()]
    terms = {path.rsplit("/", 1)[1]: licence for path, licence, _ in rows}
    assert len(terms) == 12
    assert terms["noise-free-sound-0001.wav"] == "public-domain"
    assert [terms[f"noise-sound-bible-000{n}.wav"] for n in (0, 1)] == ["unknown", "cc-by"]
    assert [terms[f"music-fma-000{n}.wav"] for n in range(5)] == [
        *("cc-by", "cc-by-nc-sa", "cc-by-nc-sa", "public-domain", "unknown")
    ]
    BackgroundNoise(RATE, tmp_path / "noise.tsv")


def test_a_licence_filter_leaves_out_what_it_does_not_name(trees, tmp_path):
    musan.prepare(tmp_path, source=trees["musan"] / "musan", licences=["public-domain", "cc-by"])
    assert [name[-8:] for name in names(tmp_path / "music.tsv")] == ["0000.wav", "0003.wav"]
    assert "unknown" not in (tmp_path / "licences.tsv").read_text()
    with pytest.raises(InputError, match="unknown licence 'gpl'; known: public-domain, cc0"):
        musan.prepare(tmp_path, source=trees["musan"], licences=["gpl"])
    with pytest.raises(InputError, match=r"no file for noise.tsv under cc-by-nc-sa"):
        musan.prepare(tmp_path / "none", source=trees["musan"], licences=["cc-by-nc-sa"])


@pytest.mark.parametrize(
    ("words", "licence"),
    [
        ("CC0 1.0 Universal", "cc0"),
        ("http://creativecommons.org/licenses/by-nc-nd/3.0/us/", "cc-by-nc-nd"),
        ("Attribution-No Derivative Works 3.0", "cc-by-nd"),
        ("Attribution-Noncommercial 3.0 United States", "cc-by-nc"),
        ("Creative Commons Attribution-Share Alike 3.0", "cc-by-sa"),
        ("All rights reserved", "unknown"),
    ],
)
def test_licences_are_read_from_prose(words, licence):
    assert musan.licence_of(words) == licence


def test_rirs_from_a_folder(trees, tmp_path, capsys):
    assert rirs.prepare(tmp_path, source=trees["rirs_noises"] / "RIRS_NOISES") == {
        "real": 2,
        "isotropic_noise": 1,
        "simulated": 4,
        "pointsource_noise": 1,
    }
    printed = capsys.readouterr().out
    assert "air_type1_air_binaural_zeros" in printed
    assert "imp020.wav: not audio that libsndfile reads" in printed
    manifest = read_manifest(tmp_path / "real.tsv")
    first, _ = soundfile.read(manifest.audio_path(manifest.entries[0]))
    every, _ = soundfile.read(
        trees["rirs_noises"] / "RIRS_NOISES/real_rirs_isotropic_noises/RVB2014_type1_rir_largeroom1_far_angla.wav"
    )
    assert (first == every[:, 0]).all()
    RecordedReverb(RATE, tmp_path / "real.tsv")


def test_a_folder_that_is_something_else_is_named(tmp_path):
    with pytest.raises(InputError, match="does not hold MUSAN"):
        musan.prepare(tmp_path / "out", source=tmp_path)
    with pytest.raises(InputError, match="holds no impulse responses"):
        rirs.prepare(tmp_path / "out", source=tmp_path)
    assert run_tool("prepare_musan", out=tmp_path / "out", source=tmp_path) == 2
    assert run_tool("prepare_rirs", out=tmp_path / "out", source=tmp_path) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_breaks_off_goes_on(archives, pinned, tmp_path, name, ranges):
    content = archives[name]
    with Upstream(content, cuts=(1000, len(content) // 2), ranges=ranges) as server:
        prepared = {"musan": musan, "rirs_noises": rirs}[name].prepare(tmp_path, url=server.address + FILES[name])
    assert len(server.asked) == 3
    assert server.asked[1] == "bytes=1000-"
    assert len(prepared) == 4
    # What is there is not asked for again.
    {"musan": musan, "rirs_noises": rirs}[name].prepare(tmp_path, url="http://127.0.0.1:9/x")


@pytest.mark.parametrize("name", FILES)
def test_a_wrong_byte_is_found_and_nothing_is_kept(archives, pinned, tmp_path, name):
    content = bytearray(archives[name])
    content[len(content) // 2] ^= 1
    module = {"musan": musan, "rirs_noises": rirs}[name]
    with Upstream(bytes(content)) as server, pytest.raises(InputError, match="its MD5 is not the published"):
        module.prepare(tmp_path, url=server.address + FILES[name])
    assert list((tmp_path / "download").iterdir()) == []
    with Upstream(archives[name]) as server:
        assert len(module.prepare(tmp_path, url=server.address + FILES[name])) == 4


def test_a_server_that_is_not_there_is_one_sentence(pinned, tmp_path):
    with pytest.raises(InputError, match=r"cannot be fetched .* pass its folder as --from"):
        musan.prepare(tmp_path, url="http://127.0.0.1:9/musan.tar.gz")


def test_a_full_disk_is_said_before_the_download(tmp_path, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 5e9}))
    with pytest.raises(InputError, match=r"5.0 GB free, musan takes about 22.2 GB"):
        musan.prepare(tmp_path, url="http://127.0.0.1:9/musan.tar.gz")


def test_the_pinned_archives_are_openslrs():
    for name, number in (("musan", 17), ("rirs_noises", 28)):
        archive = pinned_archive(name)
        assert archive.url.startswith(f"https://www.openslr.org/resources/{number}/")
        assert len(bytes.fromhex(archive.md5)) == 16
        assert archive.size > 1e9


def test_an_archive_cannot_write_outside_its_folder(tmp_path):
    (tmp_path / "evil").write_text("x")
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "evil", arcname="../outside")
    with pytest.raises(download.DownloadError, match="is damaged"):
        download.unpack(tmp_path / "evil.tar.gz", tmp_path / "folder")
    assert not (tmp_path / "outside").exists()
    assert not (tmp_path / "folder").exists()
