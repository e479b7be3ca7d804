"""Switchboard-1 from spoiled folders: each mistake is one line and exit code 2, and nothing is written."""

import re
import shutil

import pytest

from ccc_w2v.corpora.switchboard.source import find_calls
from tests.corpora.switchboard.fake_switchboard import (
    CALLS,
    DEV,
    call_audio,
    write_sphere,
    write_train,
    write_transcripts,
)
from tests.run_tool import run_with


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("ldc")
    return {"train": write_train(root), "transcripts": write_transcripts(root)}


@pytest.fixture
def copy(source, tmp_path):
    """A copy of LDC's folders to spoil."""
    return {key: shutil.copytree(folder, tmp_path / "ldc" / key) for key, folder in source.items()}


def spoil(path, change):
    path.write_bytes(change(path.read_bytes()))


def call(copy, name):
    return next(copy["train"].rglob(f"{name}.sph"))


def transcript(copy, name):
    return next(copy["transcripts"].rglob(name))


SPOILS = {
    "disc by table": (
        lambda c: shutil.rmtree(c["train"] / "swb1_d3"),
        r"2 of 7 .* \(sw02180 to sw02190\); missing disc: swb1_d3",
    ),
    "disc by folder": (
        lambda c: (shutil.rmtree(c["train"] / "swb1_d2"), (c["train"] / "docs/swb1_all.dvd.tbl").unlink()),
        "missing disc: swb1_d2",
    ),
    "no calls": (
        lambda c: [path.rename(path.with_suffix(".x")) for path in c["train"].rglob("*.sph")],
        "holds no .sph file",
    ),
    "another set": (
        lambda c: [p.rename(p.with_name(f"sw_439{n}.sph")) for n, p in enumerate(c["train"].rglob("*.sph"))],
        "holds 7 other .sph files, none of Switchboard-1's",
    ),
    "a call twice": (
        lambda c: shutil.copy(call(c, "sw02005"), c["train"] / "swb1_d4/sw2005.SPH"),
        "call sw02005 is in .* too",
    ),
    "shorten": (
        lambda c: write_sphere(call(c, "sw02006"), call_audio(14, 2), coding="ulaw,embedded-shorten-v2.00"),
        r"compressed with shorten .* sph2pipe -f sph -u sw02006\.sph",
    ),
    "no sphere": (lambda c: spoil(call(c, "sw02006"), lambda b: b"RIFF" + b), "does not begin with NIST_1A"),
    "cut off": (lambda c: spoil(call(c, "sw02006"), lambda b: b[:-40_000]), "truncated, 92000 of 112000 samples"),
    "short audio": (
        lambda c: write_sphere(call(c, "sw02155"), call_audio(12, 2)),
        r"sw2155B-ms98-a-trans\.text:8: the segment ends at 13\.30 s, and .*sw02155\.sph at 12\.00 s",
    ),
    "no transcripts": (
        lambda c: [shutil.rmtree(c["transcripts"] / part) for part in ("20", "21", "49")],
        "holds no transcript sw2001A",
    ),
    "one side": (lambda c: transcript(c, "sw2151B-ms98-a-trans.text").unlink(), "sw02151 has a transcript of one side"),
    "no dictionary": (lambda c: transcript(c, "sw-ms98-dict.text").unlink(), "lacks sw-ms98-dict.text"),
    "Windows": (
        lambda c: spoil(transcript(c, "sw2151A-ms98-a-trans.text"), lambda b: b.replace(b"\n", b"\r\n")),
        r"sw2151A-ms98-a-trans\.text:1: Windows line ends",
    ),
    "another side's line": (
        lambda c: spoil(transcript(c, "sw2151A-ms98-a-trans.text"), lambda b: b.replace(b"sw2151A", b"sw2151B")),
        r":1: expected sw2151A-ms98-a-0001 start end words",
    ),
    "no time": (
        lambda c: spoil(transcript(c, "sw2151A-ms98-a-trans.text"), lambda b: b.replace(b" 0.600000 ", b" soon ")),
        r":1: expected .* with times in seconds",
    ),
    "same times": (
        lambda c: spoil(transcript(c, "sw2151A-ms98-a-trans.text"), lambda b: b + b.splitlines()[-1] + b"\n"),
        r":9: same times as .*:8; remove one",
    ),
}


@pytest.mark.parametrize("name", SPOILS)
def test_bad_input_is_one_line_and_writes_nothing(copy, tmp_path, capsys, name):
    change, message = SPOILS[name]
    change(copy)
    arguments = ["--train", copy["train"], "--transcripts", copy["transcripts"], "--dev", DEV]
    assert run_with("prepare_switchboard", "--out", tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1].rsplit("\r", 1)[-1]
    assert error.startswith("error: ")
    assert re.search(message, error), error
    assert not (tmp_path / "out").exists()


def test_links_in_a_circle_are_walked_once(copy):
    (copy["train"] / "swb1_d1/again").symlink_to(copy["train"])
    assert list(find_calls(copy["train"])) == list(CALLS)


def test_a_wrong_folder_is_told_of_before_anything_is_fetched(copy, tmp_path, capsys):
    arguments = ["--train", copy["transcripts"], "--url", "http://127.0.0.1:9/words.tar.gz"]
    assert run_with("prepare_switchboard", "--out", tmp_path / "out", *arguments) == 2
    assert "holds no .sph file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
