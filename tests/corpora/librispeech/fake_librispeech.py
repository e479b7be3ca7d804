"""A small LibriSpeech and Libri-light limited set: real FLAC files in the real layout, a few speakers in each part.

    python -m tests.corpora.librispeech.fake_librispeech OUT

writes two trees, OUT/LibriSpeech and OUT/librispeech_finetuning;

    python -m tests.corpora.librispeech.fake_librispeech OUT --archives

and beside them the archives that they would come in.

ccc-w2v prepare librispeech --from OUT/LibriSpeech --limited-from OUT/librispeech_finetuning --out DATA then prepares
them as it does the real ones. The words are drawn from a small vocabulary and have nothing to do with the sound.
"""

from __future__ import annotations

import argparse
import tarfile
from pathlib import Path

import numpy as np
import soundfile

from tests.fake_corpora import RATE, speech_like

PARTS = (
    *("train-clean-100", "train-clean-360", "train-other-500"),
    *("dev-clean", "dev-other", "test-clean", "test-other"),
)
LIMITED = (*(f"1h/{fold}/{kind}" for fold in range(6) for kind in ("clean", "other")), "9h/clean", "9h/other")
VOCABULARY = """
THE OF AND TO IN IS YOU THAT IT HE WAS FOR ON ARE AS WITH HIS THEY AT BE THIS FROM HAVE OR BY ONE HAD NOT BUT
WHAT ALL WERE WHEN WE THERE CAN AN YOUR WHICH THEIR SAID IF WILL EACH ABOUT HOW UP OUT THEM THEN SHE MANY SOME SO THESE
WOULD INTO HAS MORE TWO LIKE HIM SEE TIME COULD NO MAKE THAN FIRST BEEN ITS WHO NOW PEOPLE MY MADE OVER DID DOWN ONLY
WAY FIND USE WATER LONG LITTLE VERY AFTER WORDS CALLED JUST WHERE MOST KNOW DON'T QUICK JUMPED LAZY BOX ZEBRA"""


def write_librispeech(
    root: Path,
    parts: tuple[str, ...] = PARTS,
    *,
    speakers: int = 2,
    utterances: int = 3,
    seconds: tuple[float, float] = (2.0, 4.0),
) -> Path:
    """Write LibriSpeech/<part>/<speaker>/<chapter>/ below ``root``; returns the folder LibriSpeech.

    Each of the ``speakers`` of a part reads two chapters of ``utterances``, each of a length drawn between ``seconds``.
    """
    tree = root / "LibriSpeech"
    lines = [";ID  |SEX| SUBSET           |MINUTES| NAME\n"]
    for part in parts:
        for index in range(speakers):
            speaker = 100 * (PARTS.index(part) + 1) + 7 * index
            for chapter in (speaker * 10 + 1, speaker * 10 + 2):
                write_chapter(tree / part, speaker, chapter, utterances, seconds)
            lines.append(f"{speaker:<5}| {'FM'[index % 2]} | {part:<17}| 0.2   | A Reader {speaker}\n")
    (tree / "SPEAKERS.TXT").write_text("".join(lines))
    (tree / "README.TXT").write_text("A made-up corpus in LibriSpeech's layout.\n")
    return tree


def write_limited(root: Path, *, utterances: int = 1, seconds: tuple[float, float] = (2.0, 4.0)) -> Path:
    """Write librispeech_finetuning/{1h/{0..5},9h}/{clean,other}/ below ``root``; returns that folder."""
    tree = root / "librispeech_finetuning"
    for index, part in enumerate(LIMITED):
        for speaker in (2000 + 2 * index, 2001 + 2 * index):
            write_chapter(tree / part, speaker, 10 * speaker, utterances, seconds)
    (tree / "phones").mkdir()
    (tree / "phones/10h_phones.txt").write_text("")
    return tree


def write_chapter(folder: Path, speaker: int, chapter: int, utterances: int, seconds: tuple[float, float]) -> None:
    """Write <speaker>/<chapter>/*.flac below ``folder``, and their transcripts."""
    draw = np.random.default_rng([speaker, chapter])
    place = folder / str(speaker) / str(chapter)
    place.mkdir(parents=True)
    lines = []
    for number in range(utterances):
        length = draw.uniform(*seconds)
        # About the rate at which people speak.
        words = " ".join(draw.choice(VOCABULARY.split(), size=max(1, round(2.5 * length))))
        name = f"{speaker}-{chapter}-{number:04}"
        wave_S = speech_like(round(RATE * length), chapter * 100 + number)
        soundfile.write(place / f"{name}.flac", wave_S, RATE, subtype="PCM_16")
        lines.append(f"{name} {words}\n")
    (place / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))


def write_archives(tree: Path, out: Path) -> list[Path]:
    """Pack a tree as it is published: LibriSpeech by part, with the texts in each, the limited set whole."""
    out.mkdir(parents=True, exist_ok=True)
    if tree.name != "LibriSpeech":
        with tarfile.open(out / f"{tree.name}.tgz", "w:gz") as tar:
            tar.add(tree, arcname=tree.name)
        return [out / f"{tree.name}.tgz"]
    archives = []
    for part in sorted(path for path in tree.iterdir() if path.is_dir()):
        archives.append(out / f"{part.name}.tar.gz")
        with tarfile.open(archives[-1], "w:gz") as tar:
            for member in (*sorted(tree.glob("*.TXT")), part):
                tar.add(member, arcname=f"LibriSpeech/{member.name}")
    return archives


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write the trees into")
    parser.add_argument("--speakers", type=int, default=2, help="speakers in each part (default: %(default)s)")
    parser.add_argument("--utterances", type=int, default=3, help="utterances in each chapter (default: %(default)s)")
    parser.add_argument("--archives", action="store_true", help="write train-clean-100.tar.gz and so on too")
    options = parser.parse_args()
    trees = (
        write_librispeech(options.out, speakers=options.speakers, utterances=options.utterances),
        write_limited(options.out),
    )
    for tree in trees:
        print(tree)
        for archive in write_archives(tree, options.out) if options.archives else ():
            print(archive)


if __name__ == "__main__":
    main()
