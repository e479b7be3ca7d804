"""From the history of a run's signals to a verdict: ok, watch or collapsed, with signal, cause and remedy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ccc_w2v.training.health.rules import STATUSES, Condition, Rule

# A row of the history: the values of an interval of updates, by name, under "update" the last of them.
Row = Mapping[str, float]
# A single odd interval is no verdict.
ROWS_IN_AGREEMENT = 2


@dataclass(frozen=True)
class Finding:
    """A rule that holds, and the value of the signal that says so."""

    rule: Rule
    value: float
    peak: float

    def sentence(self) -> str:
        """Say signal, value, bound, likely cause and the setting to change."""
        signal = self.rule.conditions[0]
        lasting = f" for {self.rule.for_updates} updates" if self.rule.for_updates else ""
        return (
            f"{signal.signal} is {self.value:.3g} ({signal.bounds(self.peak)}{lasting}): {self.rule.cause}; "
            f"{self.rule.remedy}"
        )


@dataclass(frozen=True)
class Verdict:
    """The status of a run after an update, with the findings that say so, the worst first."""

    update: int
    status: str
    findings: tuple[Finding, ...]

    def sentence(self) -> str:
        """Say the status and its first finding in one line."""
        head = f"health after update {self.update}: {self.status}"
        return f"{head}: {self.findings[0].sentence()}" if self.findings else head

    def record(self) -> dict[str, object]:
        """Return what is kept of it in verdicts.jsonl."""
        findings = [
            {"rule": finding.rule.name, "status": finding.rule.status, "sentence": finding.sentence()}
            | {"signal": finding.rule.conditions[0].signal, "value": finding.value}
            for finding in self.findings
        ]
        return {"update": self.update, "status": self.status, "findings": findings}


def judge(rows: Sequence[Row], rules: Sequence[Rule]) -> Verdict:
    """Judge a run by its history, oldest row first; without any row it is ok after update 0."""
    if not rows:
        return Verdict(0, "ok", ())
    holding = [finding for rule in rules if (finding := _finding(rows, rule))]
    holding.sort(key=lambda finding: -STATUSES.index(finding.rule.status))
    status = holding[0].rule.status if holding else "ok"
    return Verdict(int(rows[-1]["update"]), status, tuple(holding))


def _finding(rows: Sequence[Row], rule: Rule) -> Finding | None:
    latest = rows[-1]["update"]
    if latest < rule.from_update or not all(_holds(rows, rule, condition) for condition in rule.conditions):
        return None
    signal = rule.conditions[0].signal
    values = _values(rows, signal)
    return Finding(rule, values[-1][1], max(value for _, value in values))


def _holds(rows: Sequence[Row], rule: Rule, condition: Condition) -> bool:
    """Tell whether a condition holds in the rows of the rule's span, at least in the last two that have the signal."""
    values = _values(rows, condition.signal)
    if len(values) < ROWS_IN_AGREEMENT:
        return False
    begin = rows[-1]["update"] - rule.for_updates
    if rule.for_updates and values[0][0] > begin:
        return False
    peak = max(value for _, value in values)
    within = [value for update, value in values if update > begin]
    recent = [value for _, value in values[-ROWS_IN_AGREEMENT:]]
    return all(condition.holds(value, peak) for value in (*within, *recent))


def _values(rows: Sequence[Row], signal: str) -> list[tuple[float, float]]:
    return [(row["update"], row[signal]) for row in rows if math.isfinite(row.get(signal, math.nan))]


def verdicts(rows: Sequence[Row], rules: Sequence[Rule]) -> list[Verdict]:
    """Return the first verdict and every later one whose findings differ from those before it."""
    changes: list[Verdict] = []
    for count in range(1, len(rows) + 1):
        verdict = judge(rows[:count], rules)
        if not changes or _rules(verdict) != _rules(changes[-1]):
            changes.append(verdict)
    return changes


def _rules(verdict: Verdict) -> list[str]:
    return [finding.rule.name for finding in verdict.findings]
