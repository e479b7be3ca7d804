"""References and hypotheses with every construct that Hub5 scoring knows, and what NIST sclite counts in them.

    python -m tests.score.hub5.pairs

writes the pairs and sclite's counts (Debian package sctk) into tests/data/hub5, for machines without sclite.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from ccc_w2v.data.stm import IGNORED, Definition, Segment, Stm, TimedWord, read_ctm, read_stm, write_ctm, write_stm
from ccc_w2v.score.hub5.align import check_sides
from ccc_w2v.score.hub5.sclite import run_sclite
from ccc_w2v.score.wer import Counts

STORED = Path(__file__).parents[2] / "data" / "hub5"
GLM = STORED / "mapping.glm"
# Few words, so that alignments tie.
PLAIN = ["i", "a", "would", "had", "no", "ok", "was", "color", "is", "that"]
MAPPED = ["Gonna", "going", "to", "okay", "grey", "gray", "colourful", "i'd", "can't", "sorta", "sort", "of", "that's"]
SPELT = ["'cause", "u._s.", "u.", "s.", "tv", "t.", "v.", "uh-huh", "well-known", "well", "known", "x-y-z", "nope"]
FILLERS = ["uh", "UM", "hmm", "%hesitation", "mhm", "yep", "yeah", "[noise]", "[Laughter]"]
BROKEN = ["w-", "wa-", "-or", "-ad", "n-", "-"]
DEFINITIONS = (
    Definition("CATEGORY", "0", "", ""),
    Definition("LABEL", "O", "Overall", "both corpora"),
    Definition("CATEGORY", "1", "Corpus", ""),
    Definition("LABEL", "SW", "Switchboard", ""),
    Definition("LABEL", "EN", "CallHome", ""),
)
HEARD = [*PLAIN, *MAPPED, *SPELT, *FILLERS, *BROKEN]


def _phrase(draw: random.Random, depth: int = 0) -> str:
    kinds = ["plain"] * 4 + ["mapped", "spelt", "filler", "broken", "optional", "two words"] + ["alternatives"] * 2
    words = []
    for _ in range(draw.randint(1, 3)):
        kind = draw.choice(kinds)
        if kind == "optional":
            optional = [*PLAIN, "uh", "%hesitation", "wa-", "-or", "well-known", "gonna"]
            words.append(f"({' '.join(draw.choices(optional, k=draw.randint(1, 2)))})")
        elif kind == "alternatives" and depth < 2:
            # Noises go, and braces around nothing are refused: each alternative holds a word.
            inner = (
                draw.choice(["@", draw.choice(PLAIN), f"a {_phrase(draw, depth + 1)}"])
                for _ in range(draw.randint(1, 3))
            )
            words.append("{ " + " / ".join(inner) + " }")
        elif kind == "two words":
            words.append("all right")
        else:
            words.append(
                draw.choice({"mapped": MAPPED, "spelt": SPELT, "filler": FILLERS, "broken": BROKEN}.get(kind, PLAIN))
            )
    return " ".join(words)


def _hypothesis(draw: random.Random, reference: str) -> list[str]:
    """Return the reference's words without markup and with errors, or words that have nothing to do with it."""
    if draw.random() < 0.3:
        return draw.choices(HEARD, k=draw.randint(0, 6))
    said = (word.strip("(){}/@") for word in reference.split())
    words = [word for word in said if word and draw.random() > 0.15]
    return [draw.choice(HEARD) if draw.random() < 0.15 else word for word in words]


def draw_pairs(draw: random.Random, recordings: int, segments: int) -> tuple[Stm, list[TimedWord]]:
    """Draw recordings of two channels with so many segments each, with gaps, and a hypothesis for them."""
    reference: list[Segment] = []
    words: list[TimedWord] = []
    for name, channel in (
        (f"{'sw' if number % 2 else 'en'}_{number}", side) for number in range(recordings) for side in "AB"
    ):
        start = 0
        for _ in range(segments):
            length = draw.choice([50, 100, 137])  # hundredths of a second: words end where segments end
            text = " ".join(_phrase(draw) for _ in range(draw.randint(0, 3)))
            heard = _hypothesis(draw, text)
            text = IGNORED if draw.random() < 0.05 else text
            labels = ("O", name[:2].upper())
            times = (start / 100, (start + length) / 100)
            reference.append(Segment(name, channel, f"{name}_{channel}", *times, labels, text, len(reference) + 1))
            for place, word in enumerate(heard):
                at = round(start + length * place / len(heard)) / 100
                words.append(TimedWord(name, channel, at, round(length / len(heard)) / 100, word, 0.5, len(words) + 1))
            start += length + draw.choice([0, 0, 30])
    stm = Stm("pairs.stm", DEFINITIONS, tuple(reference))
    decoded_sides = {(segment.recording, segment.channel.lower()) for segment in reference}
    return stm, check_sides(stm, words, decoded_sides)


def stored_pairs() -> tuple[Stm, list[TimedWord], list[Counts]]:
    """Return the stored pairs with sclite's counts."""
    lines = (STORED / "sclite.tsv").read_text().splitlines()
    counts = [Counts(*map(int, line.split("\t"))) for line in lines if not line.startswith("#")]
    return read_stm(STORED / "pairs.stm"), read_ctm(STORED / "pairs.ctm"), counts


def main() -> None:
    stm, words = draw_pairs(random.Random(0), recordings=4, segments=30)
    write_stm(STORED / "pairs.stm", stm.segments, stm.definitions)
    # Without confidences, so that hubscr itself can score them (see sclite.run_sclite).
    write_ctm(STORED / "pairs.ctm", (replace(word, confidence=None) for word in words))
    counts = [counts for counts, _ in run_sclite(read_stm(STORED / "pairs.stm"), read_ctm(STORED / "pairs.ctm"), GLM)]
    rows = (
        f"{segment.substitutions}\t{segment.deletions}\t{segment.insertions}\t{segment.words}\n" for segment in counts
    )
    head = "# S, D, I and words of each segment that counts; written by python -m tests.score.hub5.pairs\n"
    (STORED / "sclite.tsv").write_text(head + "".join(rows))


if __name__ == "__main__":
    main()
