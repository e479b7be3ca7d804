"""What a running training does about its health: keeps its signals, judges them, and says what it thinks."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ccc_w2v.training.health.history import SIGNALS, VERDICTS, append_row, keep_until
from ccc_w2v.training.health.rules import Rule
from ccc_w2v.training.health.verdict import Verdict, judge

logger = logging.getLogger(__name__)

# Running totals, of which a row holds the last, and rates per second, whose mean is over the seconds.
TOTALS = {"audio_seconds", "bad_audio", "num_updates", "codes_in_use", "codes_in_use_aug", "hours_left", "gpu_peak_gib"}
RATES = {"times_real_time", "audio_hours_per_device_hour", "data_wait_share", "mfu"}


class HealthMonitor:
    """Averages the values of updates to rows of ``every`` updates in ``folder``; after ``update`` updates it begins.

    Rows and verdicts of a run that is resumed are read from its folder; those after ``update`` are made again.
    """

    def __init__(self, folder: Path, rules: Sequence[Rule], every: int, update: int) -> None:
        self.folder, self.rules, self.every = folder, rules, max(every, 1)
        self.rows = keep_until(folder / SIGNALS, update)
        keep_until(folder / VERDICTS, update)
        self.seconds = self.rows[-1].get("train_seconds", 0.0) if self.rows else 0.0
        self._values: dict[str, list[tuple[float, float]]] = {}
        self._said: tuple[str, ...] = ()

    def add(self, update: int, values: Mapping[str, float | None], seconds: float) -> None:
        """Take the values of an update, which took ``seconds``; say when a row changes what holds of the run."""
        self.seconds += seconds
        for name, value in values.items():
            if value is not None:
                weight = seconds if name in RATES else 1.0
                self._values.setdefault(name, []).append((float(value), weight))
        if update % self.every:
            return
        row = {"update": update, "train_seconds": round(self.seconds, 3)}
        row |= {name: _rounded(_over_interval(name, column)) for name, column in self._values.items()}
        self._values = {}
        self.rows.append(row)
        append_row(self.folder / SIGNALS, row)
        verdict = judge(self.rows, self.rules)
        holding = tuple(finding.rule.name for finding in verdict.findings)
        for finding in verdict.findings:
            if finding.rule.name not in self._said:
                logger.warning(f"health after update {update}: {finding.rule.status}: {finding.sentence()}")
        self._said = holding

    def verdict(self) -> Verdict:
        """Judge the rows so far, log the verdict and keep it in verdicts.jsonl."""
        verdict = judge(self.rows, self.rules)
        logger.log(logging.INFO if verdict.status == "ok" else logging.WARNING, verdict.sentence())
        append_row(self.folder / VERDICTS, verdict.record())
        return verdict


def _over_interval(name: str, column: Sequence[tuple[float, float]]) -> float:
    """Return what a row holds of an interval's (value, weight): the last of a total, else the weighted mean."""
    weights = sum(weight for _, weight in column)
    if name in TOTALS or not weights:
        return column[-1][0]
    return sum(value * weight for value, weight in column) / weights


def _rounded(value: float) -> float:
    """Six digits: what a reader of the file can use."""
    return float(f"{value:.6g}") if math.isfinite(value) else value
