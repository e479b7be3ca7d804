"""A small Switchboard, Hub5'00, RT-03 and Fisher in LDC's exact layout and formats, of synthetic speech and own words.

    python -m tests.corpora.switchboard.fake_switchboard DIR

writes them below DIR and prints what recipes/switchboard/run.sh takes.

Two-channel mu-law SPHERE files, MS-State transcripts with every construct of theirs, .stm, .pem, .glm, disc table.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import soundfile

from tests.fake_corpora import speech_like

RATE = 8_000
# The first fills the dev set; those after sw02150 are in manifests/switchboard_30h.txt.
CALLS = {
    "sw02005": "swb1_d1",
    "sw02006": "swb1_d1",
    "sw02151": "swb1_d2",
    "sw02155": "swb1_d2",
    "sw02180": "swb1_d3",
    "sw02190": "swb1_d3",
    "sw04940": "swb1_d4",
}
DEV = 12
# What each segment of a side holds; the seconds are chosen so that some are too short for pre-training.
TEXTS = {
    "A": [
        ("[silence]", 0.6),
        ("hi um yeah i'd like to talk about [laughter-story] books", 2.6),
        ("[silence]", 0.4),
        ("[noise]", 0.5),
        ("i work for IBM and the B B C's {yuppiedom} them_1 ab[solute]- -[an]y", 3.1),
        ("<b_aside> come in <e_aside> [it'n/isn't] it [vocalized-noise] uh-huh", 2.2),
        ("uh-huh", 0.7),
        ("well AT&T sells TVs I think so do I", 2.4),
    ],
    "B": [
        ("uh-huh", 0.8),
        ("[silence]", 1.7),
        ("so what do you do for the weekend", 2.3),
        ("[laughter]", 0.6),
        ("we went to the lake and it was good", 2.8),
        ("[silence]", 0.5),
        ("a good one [lem[guini]-/linguini] i guess", 2.1),
        ("oh it is a nice thing to have at home", 2.5),
    ],
}
DICTIONARY = """\
# a dictionary of the transcripts' form
a ax
IBM ay b iy eh m
TVs t iy v iy z
TV t iy v iy
us ah s
US y uw eh s
them_1 eh m
[laughter-story] s t ao r iy
uh-huh ah hh ah
"""
STM = """\
;; CATEGORY "0" "" ""
;; LABEL "O" "Overall" "Overall"
;; LABEL "en" "CallHome" "CallHome"
;; LABEL "sw" "Switchboard" "Switchboard"
"""
# Segments of each side of a test call: start, end, text.
REFERENCE = {
    "A": [
        (0.00, 0.80, "IGNORE_TIME_SEGMENT_IN_SCORING"),
        (0.85, 3.10, "(%HESITATION) HE WORKS FOR THE F. B. I."),
        (3.40, 5.20, "<B_ASIDE> JUST (JU-) ALL THINGS <E_ASIDE>"),
        (7.00, 9.00, "I'M {GONNA / GOING TO} ((SEE THEM)"),
    ],
    "B": [(0.50, 1.00, "UH-HUH"), (5.10, 6.90, "(WE-) THEY WENT HOME"), (9.10, 9.90, "YEAH")],
}
GLM = """\
;; a map of NIST's form
* name "fake_hub5.glm"
* copy_no_hit = 'T'
* case_sensitive = 'F'
[UH] => [%HESITATION] / [ ] __ [ ]
[GONNA] => {[GOING TO] / [GONNA]} / [ ] __ [ ]
"""
FISHER = """\
# fe_03_00001.sph
# Transcribed at the LDC

3.76 5.54 A: and i generally prefer

5.60 8.00 B: (( oh )) okay f._b._i. [laughter] the mo- movie
"""


def write_sphere(path: Path, sides: np.ndarray, *, coding: str = "ulaw", samples: int | None = None) -> None:
    """Write the sides of a call (2, S), full scale 1, as LDC does: a header of 1024 bytes, interleaved mu-law."""
    body = io.BytesIO()
    soundfile.write(body, sides.T, RATE, format="RAW", subtype="ULAW")
    count = sides.shape[1] if samples is None else samples
    fields = [
        "database_id -s13 SWITCHBOARD-1",
        "channel_count -i 2",
        f"sample_count -i {count}",
        f"sample_rate -i {RATE}",
        "sample_n_bytes -i 1",
        "sample_byte_format -s1 1",
        "sample_sig_bits -i 8",
        f"sample_coding -s{len(coding)} {coding}",
    ]
    header = "".join(f"{line}\n" for line in ["NIST_1A", "   1024", *fields, "end_head"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header.encode().ljust(1024) + body.getvalue())


def call_audio(seconds: float, seed: int) -> np.ndarray:
    """Return two different sides (2, S) of synthetic speech."""
    samples = round(seconds * RATE)
    return np.stack([3 * speech_like(samples, seed), 3 * speech_like(samples, seed + 1)])


def write_train(root: Path) -> Path:
    """Write LDC97S62 as its DVDs unpack; returns its folder."""
    folder = root / "LDC97S62"
    for seed, (call, disc) in enumerate(CALLS.items()):
        write_sphere(folder / disc / "data" / f"{call}.sph", call_audio(14, 2 * seed))
    (folder / "docs").mkdir()
    table = "".join(f"{disc} {call}.sph\n" for call, disc in CALLS.items())
    (folder / "docs/swb1_all.dvd.tbl").write_text(table)
    return folder


def write_transcripts(root: Path) -> Path:
    """Write the MS-State transcripts as their archive unpacks; returns their folder."""
    folder = root / "swb_ms98_transcriptions"
    for call in CALLS:
        number = call[3:]
        for side, texts in TEXTS.items():
            time, lines = 0.0, []
            for index, (text, seconds) in enumerate(texts, start=1):
                lines.append(f"sw{number}{side}-ms98-a-{index:04} {time:.6f} {time + seconds:.6f} {text}\n")
                time += seconds
            file = folder / number[:2] / number / f"sw{number}{side}-ms98-a-trans.text"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(lines))
            file.with_name(f"sw{number}{side}-ms98-a-word.text").write_text("")
    (folder / "sw-ms98-dict.text").write_text(DICTIONARY)
    return folder


def write_eval2000(root: Path) -> tuple[Path, Path]:
    """Write LDC2002S09 and LDC2002T43; returns their folders."""
    audio, text = root / "LDC2002S09", root / "LDC2002T43"
    english, reference = audio / "hub5e_00/english", text / "2000_hub5_eng_eval_tr/reference"
    reference.mkdir(parents=True)
    stm, pem = [STM], [";; File: hub5e_00.pem\n"]
    for seed, call in enumerate(("en_4156", "sw_4390")):
        write_sphere(english / f"{call}.sph", call_audio(10, 100 + 2 * seed))
        for side, segments in REFERENCE.items():
            for start, end, words in segments:
                labels = f"<O,{call[:2]},F,{call[:2]}-F>"
                stm.append(f"{call} {side} {call}_{side} {start:.2f} {end:.2f} {labels}  {words}\n")
                pem.append(f"{call} {side} unknown_speaker {start:.2f} {end:.2f}\n")
    (english / "hub5e_00.pem").write_text("".join(pem))
    (reference / "hub5e00.english.000405.stm").write_text("".join(stm))
    (reference / "en20000405_hub5.glm").write_text(GLM)
    return audio, text


def write_rt03(root: Path) -> Path:
    """Write LDC2007S10; returns its folder."""
    folder = root / "LDC2007S10"
    references = folder / "data/references/eval03/english/cts"
    references.mkdir(parents=True)
    for seed, call in enumerate(("fsh_60262", "sw_45097")):
        write_sphere(folder / "data/audio/eval03/english/cts" / f"{call}.sph", call_audio(10, 200 + 2 * seed))
        lines = [f"{call} 1 inter_segment_gap 0.00 0.50 <o,f0,unknown>\n"]
        lines += [f"{call} {n} {call}_{n} {1 + n:.3f} {3.5 + n:.3f} <o,f0,male> yeah i know\n" for n in (1, 2)]
        (references / f"{call}.stm").write_text("".join(lines))
    (folder / "data/trans_rules").mkdir()
    (folder / "data/trans_rules/en20030506.glm").write_text(GLM)
    return folder


def write_fisher(root: Path) -> Path:
    """Write a call of LDC2004T19; returns the folder of its part."""
    folder = root / "fe_03_p1_tran"
    (folder / "data/trans/000").mkdir(parents=True)
    (folder / "data/trans/000/fe_03_00001.txt").write_text(FISHER)
    return folder


def main() -> None:
    root = Path(sys.argv[1])
    audio, text = write_eval2000(root)
    print(
        f"--train {write_train(root)} --transcripts {write_transcripts(root)} --eval2000-audio {audio} "
        f"--eval2000-text {text} --rt03 {write_rt03(root)} --fisher {write_fisher(root)} "
        f"--prepare-option --dev --prepare-option {DEV}"
    )


if __name__ == "__main__":
    main()
