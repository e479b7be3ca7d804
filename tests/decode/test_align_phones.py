"""`ccc-w2v align --phones`: synthetic phones whose times are known, what is left out, and real speech where it is."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import lfilter

pocketsphinx = pytest.importorskip("pocketsphinx")

from ccc_w2v.data.alignments import read_alignments  # noqa: E402
from ccc_w2v.data.audio import read_audio  # noqa: E402
from ccc_w2v.data.manifest import read_manifest, write_manifest  # noqa: E402
from ccc_w2v.data.trn import utterance_ids  # noqa: E402
from ccc_w2v.decode.align_phones import align_phones  # noqa: E402
from tests.run_tool import one_line_error, run_with  # noqa: E402

SPEECH = Path(__file__).resolve().parents[3] / "shared/corpora/Speaker_partition_module/data/LibriSpeech/dev-clean"


# Formants of two vowels and a nasal [Hz] (Peterson and Barney 1952), the peak of a sibilant's noise.
FORMANTS = {"IY": (280, 2250, 2900), "AA": (710, 1100, 2540), "ER": (500, 1350, 1690), "M": (250, 1000, 2200)}
SIBILANT = 6000
SECONDS = {"SIL": 0.4}  # and every other phone:
PHONE_SECONDS = 0.18


def resonance(wave: np.ndarray, frequency: float, width: float, rate: int) -> np.ndarray:
    radius = np.exp(-np.pi * width / rate)
    return lfilter([1 - radius], [1, -2 * radius * np.cos(2 * np.pi * frequency / rate), radius**2], wave)


def sound(phone: str, rate: int, rng: np.random.Generator) -> np.ndarray:
    noise = rng.normal(size=round(SECONDS.get(phone, PHONE_SECONDS) * rate))
    if phone == "SIL":
        return 1e-4 * noise
    if phone == "S":
        wave = resonance(noise, SIBILANT, 1000, rate)
        return 0.05 * wave / wave.std()
    wave = np.zeros(len(noise))
    wave[:: rate // 120] = 1.0  # the glottis, 120 times a second
    wave = lfilter([1], [1, -0.95], wave)
    for frequency in FORMANTS[phone]:
        wave = resonance(wave, frequency, 80, rate)
    return (0.03 if phone == "M" else 0.15) * wave / wave.std() * np.hanning(len(wave)) ** 0.1 + 1e-4 * noise


@pytest.fixture
def words(tmp_path):
    """Write recordings of synthetic phones between two silences, at two rates, and what is said in them."""

    def write(*said: tuple[str, str]) -> Path:
        rng, entries = np.random.default_rng(0), []
        for index, (phones, _) in enumerate(said):
            rate = 22_050 if index % 2 else 16_000
            wave = np.concatenate([sound(phone, rate, rng) for phone in ["SIL", *phones.split(), "SIL"]])
            soundfile.write(tmp_path / f"u{index}.wav", wave, rate)
            entries.append((f"u{index}.wav", len(wave)))
        write_manifest(tmp_path / "dev.tsv", tmp_path, entries)
        (tmp_path / "dev.wrd").write_text("".join(f"{line}\n" for _, line in said))
        return tmp_path / "dev.tsv"

    return write


SEE_MA, SIR = ("S IY M AA", "SEE MA"), ("S ER", "SIR")


def command(manifest: Path, *options: object) -> int:
    return run_with("align", "--phones", "--manifest", manifest, "--out", manifest.with_name("out.tsv"), *options)


def test_phones_are_where_they_were_put(words, capsys):
    manifest = words(SEE_MA, SEE_MA)
    assert command(manifest) == 0
    assert "of 2 utterances" in capsys.readouterr().out
    aligned = read_alignments(manifest.with_name("out.tsv"))
    for rows in aligned.values():
        said = SEE_MA[0].split()
        # The silence at the end is one row or two: </s> is silent, too.
        first_rows = [next(group) for _, group in itertools.groupby(rows, key=lambda row: row.label)]
        assert [row.label for row in first_rows] == ["SIL", *said, "SIL"]
        starts = [0.0, *(0.4 + PHONE_SECONDS * place for place in range(len(said) + 1))]
        assert [row.start for row in first_rows] == pytest.approx(starts, abs=0.05)
        assert rows[-1].end == pytest.approx(0.8 + PHONE_SECONDS * len(said), abs=0.05)
        for left, right in itertools.pairwise(rows):
            assert left.end_frame == right.first_frame
        for row in rows:
            assert (row.start, row.end) == pytest.approx((0.01 * row.first_frame, 0.01 * row.end_frame))
            assert row.log_prob < 0


def test_words_that_nobody_knows_are_left_out_until_they_are_added(words, capsys, caplog):
    manifest = words(SIR, ("S IY M AA", "SEEMAH"), ("S", ""))
    assert command(manifest) == 0
    assert "2 of 3 utterances are left out: 1 words are not in the dictionary (seemah)" in caplog.text
    more = manifest.with_name("more.txt")
    more.write_text(";;; a name\nSEEMAH S IY1 M AA0\n")
    capsys.readouterr()
    assert command(manifest, "--pronunciations", more) == 2  # other settings than the file that is there
    assert "--overwrite" in one_line_error(capsys)
    assert command(manifest, "--pronunciations", more, "--overwrite") == 0
    aligned = read_alignments(manifest.with_name("out.tsv"))
    assert [row.label for row in aligned["u1"] if row.label != "SIL"] == ["S", "IY", "M", "AA"]


def test_words_that_were_not_said_are_left_out(words, caplog):
    manifest = words(SIR, ("S ER", "ANOTHER LONG SENTENCE OF MANY WORDS"))
    assert command(manifest) == 0
    assert "1 of 2 utterances are left out" in caplog.text


@pytest.mark.parametrize("line", ["QUANTISED QQ", "sir S ER", "QUANTISED"])
def test_pronunciations_that_are_none(words, capsys, line):
    manifest = words(SIR)
    more = manifest.with_name("more.txt")
    more.write_text(f"{line}\n")
    assert command(manifest, "--pronunciations", more) == 2
    assert f"{more}:1: expected a word that is not there yet and its phones" in one_line_error(capsys)
    assert not manifest.with_name("out.tsv").exists()


def test_nothing_to_align(words, capsys):
    manifest = words(("S ER", "XYZZY"))
    assert command(manifest) == 2
    assert "no utterance could be aligned: 1 words are not in the dictionary (xyzzy)" in one_line_error(capsys)
    manifest.with_suffix(".wrd").unlink()
    assert command(manifest) == 2
    assert "no .wrd beside it" in one_line_error(capsys)


@pytest.mark.parametrize(
    "options",
    [["--phones", "--labels", "ltr"], ["--phones", "--device", "cuda"], ["--checkpoint", "x", "--pronunciations", "y"]],
)
def test_options_of_the_other_aligner(tmp_path, options):
    with pytest.raises(SystemExit, match="2"):
        run_with("align", "--manifest", tmp_path / "dev.tsv", "--out", tmp_path / "out.tsv", *options)


@pytest.mark.skipif(not SPEECH.is_dir(), reason="the real speech is not at hand")
def test_in_real_speech_silence_is_silent_and_sibilants_are_high(tmp_path):
    """Measured by no aligner: the energy of frames called SIL, and the spectral centre of those called S."""
    transcripts = {}
    for path in sorted(SPEECH.rglob("*.trans.txt"))[:2]:
        transcripts |= {path.parent / line.split()[0]: line.split(maxsplit=1)[1] for line in path.open()}
    audio = [(path.with_suffix(".wav"), text.strip()) for path, text in transcripts.items()]
    audio = [(path, text) for path, text in audio if path.is_file()][:12]
    entries = [(str(path.relative_to(SPEECH)), soundfile.info(path).frames) for path, _ in audio]
    write_manifest(tmp_path / "dev.tsv", SPEECH, entries)
    (tmp_path / "dev.wrd").write_text("".join(f"{text}\n" for _, text in audio))
    manifest = read_manifest(tmp_path / "dev.tsv")
    aligned = align_phones(manifest)
    assert len(aligned) >= len(entries) / 3
    energy = {True: [], False: []}
    centre = {"S": [], "M": []}
    for name, entry in zip(utterance_ids(manifest), manifest.entries, strict=True):
        wave = read_audio(manifest.audio_path(entry), 16_000, resample=True).numpy()
        for row in aligned.get(name, []):
            part = wave[round(row.start * 16_000) : round(row.end * 16_000)]
            energy[row.label == "SIL"].append(float(np.mean(part**2)))
            if row.label in centre:
                power = np.abs(np.fft.rfft(part)) ** 2
                centre[row.label].append(float((power * np.fft.rfftfreq(len(part), 1 / 16_000)).sum() / power.sum()))
    assert np.median(energy[True]) < 0.1 * np.median(energy[False])
    assert np.median(centre["S"]) > 3 * np.median(centre["M"])
