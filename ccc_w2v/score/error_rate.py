"""An error rate with its counts and interval, and as a row of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ccc_w2v.data.randomness import generator_for
from ccc_w2v.score.bootstrap import bootstrap_interval, wilson_interval
from ccc_w2v.score.wer import Counts, Score

LEVEL = 0.95
RESAMPLES = 10_000
WILSON = "Wilson"
ERROR_KINDS = ("substitutions", "deletions", "insertions")


@dataclass(frozen=True)
class ErrorRate:
    """Errors over ``units`` words or characters of the references; ``rate`` 1.0 is 100 %.

    ``interval`` is the bootstrap's, None where there is too little data. Where all groups err alike, mostly not at all,
    that has no width: Wilson's stands there, and ``interval_rule`` says so.
    """

    counts: Counts
    rate: float
    interval: tuple[float, float] | None = None
    interval_rule: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as it stands in a JSON report."""
        rule = {"interval_rule": self.interval_rule} if self.interval_rule else {}
        return {**counts_dict(self.counts), "rate": self.rate, "interval": self.interval, **rule}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> ErrorRate:
        """Read what as_dict() wrote; raises KeyError and TypeError for anything else."""
        counts = Counts(row["substitutions"], row["deletions"], row["insertions"], row["units"])
        interval = row["interval"] and (row["interval"][0], row["interval"][1])
        return cls(counts, row["rate"], interval, row.get("interval_rule"))


def counts_dict(counts: Counts) -> dict[str, int]:
    """Return counts as they stand in a JSON report; ``units`` is the references' number of words or characters."""
    return {"units": counts.words, **{kind: getattr(counts, kind) for kind in ERROR_KINDS}}


def error_rate(scored: Score, groups: Sequence[str], seed: int) -> ErrorRate:
    """Return a Score's error rate; ``groups`` names what each utterance is resampled with."""
    errors, units = zip(*((counts.errors, counts.words) for counts in scored.utterances.values()), strict=True)
    generator = generator_for(seed, f"bootstrap {scored.unit}")
    interval = bootstrap_interval(errors, units, groups, generator=generator, resamples=RESAMPLES, level=LEVEL)
    if interval and interval[0] == interval[1]:
        wilson = wilson_interval(scored.total.errors, scored.total.words, LEVEL)
        return ErrorRate(scored.total, scored.error_rate, wilson, WILSON)
    return ErrorRate(scored.total, scored.error_rate, interval)


def interval_text(interval: Sequence[float] | None) -> str:
    """Lay an interval of rates out for people."""
    return " to ".join(f"{bound:.2%}" for bound in interval or ()) or "none: too little data"


def heading(width: int = 24) -> str:
    """Name the columns of row_text()."""
    columns = "".join(f"{title:>8}" for title in ("N", "S", "D", "I"))
    return f"{'':<{width}}{columns}{'rate':>10}   {LEVEL:.0%} interval"


def row_text(name: str, row: ErrorRate, width: int = 24) -> str:
    """Lay an error rate out under heading()."""
    rule = f" ({row.interval_rule}: all err alike)" if row.interval_rule else ""
    return f"{name:<{width}}{counts_text(row)}   {interval_text(row.interval)}{rule}"


def counts_text(row: ErrorRate) -> str:
    """Lay counts and rate out, without the interval."""
    counts = "".join(f"{count:>8}" for count in counts_dict(row.counts).values())
    return f"{counts}{row.rate:>10.2%}"
