"""Switchboard-1 prepared from a small copy in LDC's layout: what is cut, listed, labelled, resumed and refused."""

import hashlib
import shutil
import subprocess
import tarfile
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.signal
import soundfile
from fairseq.data import Dictionary

from ccc_w2v.cli.main import main
from ccc_w2v.corpora.switchboard import audio as switchboard_audio
from ccc_w2v.corpora.switchboard import source as switchboard_source
from ccc_w2v.corpora.switchboard.audio import Excerpt
from ccc_w2v.corpora.switchboard.figures import differences
from ccc_w2v.corpora.switchboard.lists import without_excess
from ccc_w2v.corpora.switchboard.prepare import Options, prepare
from ccc_w2v.corpora.switchboard.source import Utterance, calls_of_30h, known_calls
from ccc_w2v.corpora.switchboard.sphere import open_call, read_sides
from ccc_w2v.corpora.switchboard.train import MIN_PRETRAIN_SECONDS
from ccc_w2v.data.audio import read_audio
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.errors import InputError
from tests.corpora.archive_server import Upstream
from tests.corpora.killed import killed_after
from tests.corpora.switchboard.fake_switchboard import (
    CALLS,
    DEV,
    RATE,
    call_audio,
    write_fisher,
    write_sphere,
    write_train,
    write_transcripts,
)

LISTS = ("dev", "train_nodup", "train_100k_nodup", "train_30h")


@pytest.fixture(scope="module")
def ldc(tmp_path_factory):
    root = tmp_path_factory.mktemp("ldc")
    return {"train": str(write_train(root)), "transcripts": str(write_transcripts(root)), "dev": DEV}


@pytest.fixture(scope="module")
def prepared(ldc, tmp_path_factory):
    out = tmp_path_factory.mktemp("switchboard")
    fisher = write_fisher(tmp_path_factory.mktemp("fisher"))
    return out, prepare(out, Options(**ldc, fisher=(str(fisher),)))["train"]


@pytest.fixture
def copy(ldc, tmp_path):
    """A copy of LDC's folders to spoil."""
    return {key: shutil.copytree(ldc[key], tmp_path / "ldc" / key) for key in ("train", "transcripts")}


def lines(path):
    return path.read_text().splitlines()


def rows(out):
    return {row[0]: row[1:] for row in (line.split("\t") for line in lines(out / "utterances.tsv"))}


def tree(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_lists_are_kaldis_and_labels_fit(prepared):
    out, done = prepared
    utterances = rows(out)
    assert list(utterances) == sorted(utterances)
    assert len(utterances) == 12 * len(CALLS)
    for name in LISTS:
        words = lines(out / f"{name}.wrd")
        assert len(words) == len(read_manifest(out / f"{name}.tsv")) == done["counts"][name]["utterances"]
        assert all(words)
        assert not any("[" in line for line in words)
        spelled = [" ".join(line.replace(" ", "|") + "|") for line in words]
        assert lines(out / f"{name}.ltr") == spelled
    # Two of the first twelve are noise alone: they have no label, and are no one else's either.
    assert done["counts"]["dev"] == {
        "calls": 1,
        "utterances": 10,
        "hours": pytest.approx(0.0060, abs=1e-4),
        "words": 78,
    }
    calls = {entry.path.split(".")[0] for entry in read_manifest(out / "train_30h.tsv").entries}
    assert calls == set(CALLS) & calls_of_30h()
    assert len(calls) == 5
    assert "I WORK FOR I B M AND THE B B C'S YUPPIEDOM THEM AB- -Y" in lines(out / "train_30h.wrd")
    assert utterances["sw02151-A_000410-000720"] == [
        *("sw02151-A", "4.100", "7.200"),
        "i work for i._b._m. and the b. b. c's yuppiedom them ab- -y",
    ]


def test_a_side_in_capitals_has_the_same_labels(copy, prepared, tmp_path):
    file = next(copy["transcripts"].rglob("sw2151B-ms98-a-trans.text"))
    file.write_text(file.read_text().upper().replace("SW2151", "sw2151"))
    prepare(tmp_path / "out", Options(**{key: str(folder) for key, folder in copy.items()}, dev=DEV))
    assert lines(tmp_path / "out/train_30h.wrd") == lines(prepared[0] / "train_30h.wrd")


def test_transcripts_are_fetched_and_compared_with_what_was_published(copy, tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "words.tar.gz", "w:gz") as tar:
        tar.add(copy["transcripts"], "swb_ms98_transcriptions")
    archive = (tmp_path / "words.tar.gz").read_bytes()
    asked = Options(train=str(copy["train"]), dev=DEV)
    with Upstream(archive, cuts=(len(archive) // 2,)) as server:
        url = f"{server.address}words.tar.gz"
        with pytest.raises(InputError, match="not what was published .14 transcripts"):
            prepare(tmp_path / "out", asked, url=url)
        assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
        digest = hashlib.sha256((copy["transcripts"] / "sw-ms98-dict.text").read_bytes()).hexdigest()
        monkeypatch.setattr(switchboard_source, "DICTIONARY_SHA256", digest)
        monkeypatch.setattr(switchboard_source, "TRANSCRIPT_FILES", 2 * len(CALLS))
        prepare(tmp_path / "out", asked, url=url)
    # The first answer broke off in the middle and was gone on with.
    assert server.asked[1] == f"bytes={len(archive) // 2}-"
    assert (tmp_path / "out/download/swb_ms98/swb_ms98_transcriptions/20/2005").is_dir()
    (copy["transcripts"]).rename(copy["train"] / "swb_ms98_transcriptions")
    prepare(tmp_path / "beside", asked, url="http://127.0.0.1:9/nothing.tar.gz")


def test_pretraining_leaves_out_dev_and_what_is_too_short(prepared):
    out, _ = prepared
    heard, held_out = (read_manifest(out / f"{name}.tsv").entries for name in ("pretrain", "pretrain_valid"))
    assert min(entry.samples for entry in (*heard, *held_out)) >= 16_000 * MIN_PRETRAIN_SECONDS
    assert {entry.path.split(".")[0] for entry in held_out} == {"sw02005"}
    assert {entry.path.split(".")[0] for entry in heard} == set(CALLS) - {"sw02005"}


def test_the_dictionary_loads_in_fairseq_and_has_apostrophe_and_hyphen(prepared):
    out, _ = prepared
    dictionary = Dictionary.load(str(out / "dict.ltr.txt"))
    assert dictionary[dictionary.nspecial] == "|"
    assert {"'", "-"} <= set(dictionary.symbols)
    assert not [symbol for symbol in dictionary.symbols[dictionary.nspecial :] if len(symbol) != 1]
    for name in LISTS:
        for line in lines(out / f"{name}.ltr"):
            assert dictionary.unk() not in dictionary.encode_line(line, add_if_not_exist=False, append_eos=False)


def test_language_model_text_is_everything_but_dev_and_fisher(prepared):
    out, _ = prepared
    text = lines(out / "lm.txt")
    assert text[-2:] == ["AND I GENERALLY PREFER", "OH OKAY F B I THE MO- MOVIE"]
    assert len(text) == 10 * (len(CALLS) - 1) + 2


@pytest.mark.parametrize(("line", "side", "start", "end"), [(0, 0, 0.6, 3.2), (-1, 1, 10.8, 13.3)])
def test_segments_are_their_sides_audio_at_their_times(prepared, line, side, start, end):
    out, _ = prepared
    manifest = read_manifest(out / "dev.tsv")
    entry = manifest.entries[line]
    wave = read_audio(manifest.audio_path(entry), 16_000, declared_samples=entry.samples).numpy()
    expected = scipy.signal.resample_poly(call_audio(14, 0)[side], 2, 1)[round(start * 16_000) : round(end * 16_000)]
    # What differs is mu-law's steps, 2 % of the level.
    assert len(wave) == len(expected)
    assert np.abs(wave - expected).mean() < 0.03 * np.abs(expected).mean()


def test_a_zip_and_a_folder_hold_the_same(prepared, ldc, tmp_path):
    out, _ = prepared
    prepare(tmp_path, Options(**ldc, zipped=False))
    packed, plain = read_manifest(out / "train_30h.tsv"), read_manifest(tmp_path / "train_30h.tsv")
    assert plain.entries[0].path == "sw02151/A_000060-000320.flac"
    for entry, other in zip(packed.entries, plain.entries, strict=True):
        assert entry.samples == other.samples
        assert (read_audio(packed.audio_path(entry), 16_000) == read_audio(plain.audio_path(other), 16_000)).all()


def test_a_second_call_does_nothing_and_other_options_or_a_lost_file_do_it_again(ldc, tmp_path, capsys):
    prepare(tmp_path, Options(**ldc))
    first = tree(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    capsys.readouterr()
    prepare(tmp_path, Options(**ldc))
    assert capsys.readouterr().out == f"{tmp_path}: train prepared already; nothing to do\n"
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    (tmp_path / "audio/sw02151.zip").unlink()
    prepare(tmp_path, Options(**ldc))
    assert tree(tmp_path) == first
    prepare(tmp_path, Options(**ldc, keep_noises=True))
    assert any("[NOISE]" in line for line in lines(tmp_path / "train_nodup.ltr"))


@pytest.mark.parametrize("writes", [0, 3, 9, 20])
def test_a_killed_preparation_goes_on_and_gives_the_same(prepared, ldc, tmp_path, writes):
    with killed_after(writes):
        prepare(tmp_path / "killed", Options(**ldc), workers=1)
    assert not (tmp_path / "killed/done.json").exists()
    prepare(tmp_path / "killed", Options(**ldc))
    out, _ = prepared
    names = ("dev.tsv", "train_30h.wrd", "dict.ltr.txt", "audio/sw02180.zip")
    for name in names:
        actual, expected = (tree(folder)[name].split(b"\n", 1)[-1] for folder in (tmp_path / "killed", out))
        assert actual == expected


def test_a_call_that_cannot_be_decoded_ends_the_work_at_once(ldc, tmp_path, monkeypatch):
    asked, cancelled = [], threading.Event()
    shutdown = ThreadPoolExecutor.shutdown

    def damaged(call):
        asked.append(call)
        # The first fails; a call after it is only begun before the rest are cancelled, however slow this machine is.
        assert len(asked) == 1 or cancelled.wait(3600)
        raise InputError(f"{call.path}: cannot be decoded")

    def noted_shutdown(self, *args, **kwargs):
        shutdown(self, *args, **kwargs)
        if kwargs.get("cancel_futures"):
            cancelled.set()

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", noted_shutdown)
    monkeypatch.setattr(switchboard_audio, "read_sides", damaged)
    with pytest.raises(InputError, match="sw02005.sph: cannot be decoded"):
        prepare(tmp_path, Options(**ldc), workers=1)
    assert len(asked) <= 2 < len(CALLS)
    assert not list((tmp_path / "audio").iterdir())


def test_excess_is_thinned_out_evenly_and_nothing_else():
    texts = ["uh-huh"] * 1000 + ["yeah"] * 299 + ["oh"] * 300 + ["once"]
    utterances = [Utterance("sw02001", Excerpt(f"A_{n}", "A", n, n + 1, ""), text) for n, text in enumerate(texts)]
    kept = without_excess(utterances, 300)
    counts = Counter(utterance.text for utterance in kept)
    assert counts["yeah"] == 299
    assert counts["oh"] == 300
    assert counts["once"] == 1
    assert counts["uh-huh"] == pytest.approx(300, abs=3)
    halves = [
        sum(utterance.excerpt.start < 500 for utterance in kept if utterance.text == "uh-huh"),
        counts["uh-huh"] / 2,
    ]
    assert halves[0] == pytest.approx(halves[1], abs=10)


def test_pinned_lists_are_what_they_say():
    known, subset = known_calls(), calls_of_30h()
    assert len(known) == 2438
    assert min(known) == "sw02001"
    assert max(known) == "sw04940"

    def place(call):
        return hashlib.blake2b(f"switchboard 30 h:{call}".encode(), digest_size=8).hexdigest()

    assert subset == set(sorted((call for call in known if call >= "sw02151"), key=place)[:252])


def test_differences_from_what_is_published_are_named(prepared):
    _, done = prepared
    assert f"14 transcripts, published are {2 * 2438}" in done["differences"]
    assert any(line.startswith("all: 7 calls, published: 2,438 or 2,435") for line in done["differences"])
    assert not differences({"all": {"calls": 2435}, "train_nodup": {"hours": 285.9}, "eval2000": {"segments": 4459}})
    differing = differences({"eval2000_swbd": {"segments": 1830, "words": 21390}})
    assert [line.split(", ")[0] for line in differing] == ["eval2000_swbd: 1,830 segments"]


def test_sphere_is_decoded_as_sox_does(tmp_path):
    if shutil.which("sox") is None:
        pytest.skip("sox is not installed")
    write_sphere(tmp_path / "call.sph", call_audio(1, 5))
    sides = read_sides(open_call(tmp_path / "call.sph"))
    subprocess.run(["sox", tmp_path / "call.sph", "-e", "signed", "-b", "16", tmp_path / "call.wav"], check=True)
    expected, rate = soundfile.read(tmp_path / "call.wav", dtype="float32")
    assert rate == RATE
    assert sides.shape == expected.T.shape == (2, RATE)
    assert np.array_equal(sides, expected.T)


def test_the_first_releases_count_of_both_channels_is_no_truncation(tmp_path):
    write_sphere(tmp_path / "old.sph", call_audio(1, 5), samples=2 * RATE)
    assert open_call(tmp_path / "old.sph").samples == RATE


def test_shards_of_the_calls_merge_to_the_whole(ldc, prepared, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["prepare", "switchboard", "--out", str(out), "--train", ldc["train"], "--dev", str(DEV)]
    assert main([*words, "--shard", "1/2"]) == 2
    assert "give --train and --transcripts" in capsys.readouterr().err
    words += ["--transcripts", ldc["transcripts"]]
    calls = []
    for number in (1, 2):
        assert main([*words, "--shard", f"{number}/2"]) == 0
        calls.append(len(list((out / "audio").glob("*.zip"))))
    assert 0 < calls[0] < calls[1] == len(CALLS)
    assert not (out / "done.json").exists()
    stamps = {path: path.stat().st_mtime_ns for path in (out / "audio").glob("*.zip")}
    assert main(["merge", str(out)]) == 0
    assert stamps == {path: path.stat().st_mtime_ns for path in (out / "audio").glob("*.zip")}
    expected, merged = tree(prepared[0]), tree(out)
    for name in (name for name in expected if name.endswith((".zip", ".wrd", ".ltr"))):
        assert merged[name] == expected[name], name
