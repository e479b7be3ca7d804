"""Hub5'00 and RT-03 prepared from small copies in LDC's layout: segments, padding, halves, references, bad input."""

import re
import shutil
import subprocess

import numpy as np
import pytest
import scipy.signal

from ccc_w2v.corpora.switchboard.hub5 import padded
from ccc_w2v.corpora.switchboard.prepare import Options, prepare
from ccc_w2v.data.audio import read_audio
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.data.stm import Segment, read_stm
from ccc_w2v.data.trn import utterance_ids
from tests.corpora.switchboard.fake_switchboard import GLM, call_audio, write_eval2000, write_rt03, write_sphere
from tests.run_tool import run_with

SIDE = [
    "A_000085-000310",
    "A_000340-000520",
    "A_000700-000900",
    "B_000050-000100",
    "B_000510-000690",
    "B_000910-000990",
]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("ldc")
    audio, text = write_eval2000(root)
    return {"eval2000_audio": audio, "eval2000_text": text, "rt03": write_rt03(root)}


@pytest.fixture(scope="module")
def prepared(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("hub5")
    return out, prepare(out, Options(**{key: str(folder) for key, folder in source.items()}))


@pytest.fixture
def ldc(source, tmp_path):
    """A copy of LDC's folders to spoil."""
    return {key: shutil.copytree(source[key], tmp_path / "ldc" / key) for key in ("eval2000_audio", "eval2000_text")}


def lines(path):
    return path.read_text().splitlines()


def test_scored_segments_are_listed_in_halves_under_kaldis_names(prepared):
    out, done = prepared
    ids = [f"{call}-{name}" for call in ("en_4156", "sw_4390") for name in SIDE]
    manifest = read_manifest(out / "eval2000.tsv")
    assert utterance_ids(manifest) == ids
    assert utterance_ids(read_manifest(out / "eval2000_swbd.tsv")) == ids[6:]
    assert utterance_ids(read_manifest(out / "eval2000_callhome.tsv")) == ids[:6]
    assert [line.split()[0] for line in lines(out / "eval2000.segments")] == ids
    assert lines(out / "eval2000.speakers")[:2] == [f"{ids[0]} en_4156-A", f"{ids[1]} en_4156-A"]
    counts = done["eval2000"]["counts"]
    assert [counts[name]["segments"] for name in ("eval2000", "eval2000_swbd", "eval2000_callhome")] == [12, 6, 6]
    # %HESITATION is a word of the reference, GOING TO an alternative that is not.
    assert counts["eval2000_swbd"]["words"] == 8 + 4 + 4 + 1 + 4 + 1
    assert lines(out / "eval2000_swbd.wrd")[0] == "HE WORKS FOR THE F B I"
    assert any("eval2000: 12 segments, published: 4,459" in line for line in done["eval2000"]["differences"])


def test_rt03_has_its_channels_as_sides_and_no_gaps(prepared):
    out, done = prepared
    assert utterance_ids(read_manifest(out / "rt03.tsv"))[0] == "fsh_60262-A_000200-000450"
    segments = read_stm(out / "rt03.stm").segments
    assert [segment.channel for segment in segments] == ["A", "B", "A", "B"]
    assert {"rt03", "rt03_swbd", "rt03_fisher"} == set(done["rt03"]["counts"])


def test_the_reference_is_mended_and_the_rules_are_copied(prepared):
    out, _ = prepared
    texts = [segment.text for segment in read_stm(out / "eval2000.stm").segments]
    assert "JUST (JU-) ALL THINGS" in texts
    assert "I'M {GONNA / GOING TO} (SEE THEM)" in texts
    assert texts.count("IGNORE_TIME_SEGMENT_IN_SCORING") == 2
    assert (out / "eval2000.glm").read_text() == GLM


def test_sclite_accepts_the_reference(prepared, tmp_path):
    if shutil.which("sctk") is None:
        pytest.skip("NIST's sctk is not installed")
    out, _ = prepared
    words = ["en_4156 A 1.0 0.2 he", "en_4156 B 0.6 0.2 uh-huh", "sw_4390 A 1.0 0.2 he", "sw_4390 B 0.6 0.2 uh-huh"]
    (tmp_path / "hyp.ctm").write_text("".join(f"{word}\n" for word in words))
    command = ["sctk", "sclite", "-r", out / "eval2000.stm", "stm", "-h", tmp_path / "hyp.ctm", "ctm", "-o", "sum"]
    printed = subprocess.run([*command, "stdout"], capture_output=True, text=True, check=True).stdout
    assert re.search(r"Sum/Avg\s*\|\s*12\s", printed), printed


def test_audio_is_the_segment_with_its_padding(prepared):
    out, _ = prepared
    manifest = read_manifest(out / "eval2000.tsv")
    entry = manifest.entries[5]
    wave = read_audio(manifest.audio_path(entry), 16_000, declared_samples=entry.samples).numpy()
    expected = scipy.signal.resample_poly(call_audio(10, 100)[1], 2, 1)[round(9.01 * 16_000) - 160 :]
    # 9.10 to 9.90 s, on both sides 0.1 s more, which ends with the audio.
    assert len(wave) == 16_000
    assert np.abs(wave - expected).mean() < 0.03 * np.abs(expected).mean()


def test_padding_halves_short_gaps_and_leaves_overlaps_alone():
    times = {"A": [(0.05, 1.0), (1.1, 2.0), (1.9, 3.0), (3.5, 4.0)], "B": [(1.0, 2.0)]}
    segments = [Segment("x", side, "s", *at, (), "word") for side, several in times.items() for at in several]
    cuts = [(round(excerpt.start, 3), round(excerpt.end, 3)) for _, excerpt in padded(segments)]
    assert cuts == [(0, 1.05), (1.05, 2.0), (1.9, 3.1), (3.4, 4.1), (0.9, 2.1)]


def reference(ldc):
    return next(ldc["eval2000_text"].rglob("*.stm"))


def spoil(path, old, new):
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))


SPOILS = {
    "no audio": (
        lambda c: shutil.rmtree(c["eval2000_audio"] / "hub5e_00"),
        r"holds no english/\*\.sph; expected LDC2002S09",
    ),
    "a call missing": (lambda c: next(c["eval2000_audio"].rglob("sw_4390.sph")).unlink(), r"1 calls .*\(sw_4390\)"),
    "no stm": (lambda c: reference(c).unlink(), "incomplete; expected LDC2002T43 .*000405.stm"),
    "no glm": (lambda c: next(c["eval2000_text"].rglob("*.glm")).unlink(), "incomplete; expected LDC2002T43 .*glm"),
    "empty stm": (lambda c: reference(c).write_text(""), "holds no segment"),
    "Windows": (lambda c: reference(c).write_bytes(reference(c).read_bytes().replace(b"\n", b"\r\n")), "Windows line"),
    "past the audio": (
        lambda c: write_sphere(next(c["eval2000_audio"].rglob("en_4156.sph")), call_audio(9, 1)),
        r"en_4156-B_000910-000990: the segment ends at 10\.00 s, and .*en_4156\.sph at 9\.00 s",
    ),
    "a channel": (
        lambda c: spoil(reference(c), "sw_4390 A sw_4390_A 7", "sw_4390 C sw_4390_A 7"),
        "channel 'C', expected",
    ),
    "twice": (lambda c: spoil(reference(c), "7.00 9.00", "3.40 5.20"), r"en_4156-A_000340-000520 was there already"),
    "pem": (lambda c: spoil(next(c["eval2000_audio"].rglob("*.pem")), "0.85 3.10", "soon"), r"\.pem:3: expected call"),
}


@pytest.mark.parametrize("name", SPOILS)
def test_bad_input_is_one_line_and_writes_nothing(ldc, tmp_path, capsys, name):
    change, message = SPOILS[name]
    change(ldc)
    folders = ["--eval2000-audio", ldc["eval2000_audio"], "--eval2000-text", ldc["eval2000_text"]]
    assert run_with("prepare_switchboard", "--out", tmp_path / "out", *folders) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1].rsplit("\r", 1)[-1]
    assert error.startswith("error: "), error
    assert re.search(message, error), error
    assert not (tmp_path / "out/eval2000.tsv").exists()
    assert not (tmp_path / "out/audio").exists()


def test_segments_that_stm_and_pem_do_not_share_are_named(ldc, tmp_path, capsys):
    spoil(next(ldc["eval2000_audio"].rglob("*.pem")), "sw_4390 B unknown_speaker 9.10 9.90\n", "")
    folders = ["--eval2000-audio", ldc["eval2000_audio"], "--eval2000-text", ldc["eval2000_text"]]
    assert run_with("prepare_switchboard", "--out", tmp_path / "out", *folders) == 0
    assert "differs: 1 segments in the .stm only: sw_4390-B_000910-000990" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing to prepare"),
        (["--eval2000-audio", "x"], "Hub5'00 takes both"),
        (["--rt03", "/nowhere"], "/nowhere: no such folder"),
    ],
)
def test_mistakes_on_the_command_line(tmp_path, capsys, options, message):
    assert run_with("prepare_switchboard", "--out", tmp_path / "out", *options) == 2
    assert message in capsys.readouterr().err
