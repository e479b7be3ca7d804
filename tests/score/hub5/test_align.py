"""Hub5 scoring: segment by segment what NIST sclite counts."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ccc_w2v.score.hub5.align import ScoredSegment, score_segments
from ccc_w2v.score.hub5.lattice import total_cost
from ccc_w2v.score.hub5.sclite import command, run_sclite
from ccc_w2v.score.wer import NO_COUNTS, Counts
from tests.score.hub5.pairs import GLM, STORED, draw_pairs, stored_pairs
from tests.score.nist import needs_sclite


def counts_of(scored: list[ScoredSegment]) -> list[Counts]:
    return [segment.counts for segment in scored]


def test_counts_what_sclite_counted() -> None:
    stm, words, counts = stored_pairs()
    assert counts_of(score_segments(stm, words, GLM)) == counts
    # The pairs hold enough of everything to be worth comparing.
    assert len(counts) > 200
    assert (
        min(sum(getattr(segment, kind) for segment in counts) for kind in ("substitutions", "deletions", "insertions"))
        > 50
    )


@needs_sclite
def test_the_stored_counts_are_sclites() -> None:
    stm, words, counts = stored_pairs()
    assert [counted for counted, _ in run_sclite(stm, words, GLM)] == counts


@needs_sclite
def test_hubscr_itself_counts_the_same(tmp_path: Path) -> None:
    for name in ("pairs.stm", "pairs.ctm", "mapping.glm"):
        shutil.copy(STORED / name, tmp_path)
    files = ["-g", "mapping.glm", "-r", "pairs.stm", "pairs.ctm"]
    # -V: its validator wants no words like x-y-z.
    subprocess.run(
        [*command("hubscr.pl"), "-V", "-l", "english", "-h", "hub5", *files],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    total = re.search(r"\| Sum +\|([^|]*)\|([^|]*)\|", (tmp_path / "pairs.ctm.filt.raw").read_text())
    assert total
    (segments, words), (_, *errors, _, _) = (map(int, columns.split()) for columns in total.groups())
    stm, hypothesis, _ = stored_pairs()
    scored = score_segments(stm, hypothesis, GLM)
    assert (len(scored), sum(counts_of(scored), NO_COUNTS)) == (segments, Counts(*errors, words))


def test_case_is_no_difference() -> None:
    stm, words, counts = stored_pairs()
    louder = replace(stm, segments=tuple(replace(segment, text=segment.text.upper()) for segment in stm.segments))
    assert (
        counts_of(score_segments(louder, [replace(word, word=word.word.swapcase()) for word in words], GLM)) == counts
    )


@needs_sclite
@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32))
def test_aligns_as_sclite_aligns(seed: int) -> None:
    stm, words = draw_pairs(random.Random(seed), recordings=3, segments=40)
    ours, theirs = score_segments(stm, words, GLM), run_sclite(stm, words, GLM)
    for segment, (counts, places) in zip(ours, theirs, strict=True):
        assert segment.counts == counts, segment.segment.text
        assert total_cost(segment.places) == total_cost(places)
        assert segment.places == places
