"""The rules of manifests/health_bands.yaml: which values of which signals mean what, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccc_w2v.errors import InputError
from ccc_w2v.shared_files import shared_folder
from ccc_w2v.text_files import read_yaml

STATUSES = ("ok", "watch", "collapsed")
BANDS = "health_bands.yaml"


@dataclass(frozen=True)
class Condition:
    """What a signal's value must be for a rule to hold; ``below_peak`` is a share of the highest value before."""

    signal: str
    below: float | None = None
    above: float | None = None
    below_peak: float | None = None

    def holds(self, value: float, peak: float) -> bool:
        """Tell whether a value meets all bounds; ``peak`` is the highest value of the run so far."""
        return (
            (self.below is None or value < self.below)
            and (self.above is None or value > self.above)
            and (self.below_peak is None or value < self.below_peak * peak)
        )

    def bounds(self, peak: float) -> str:
        """Say the bounds in words: "below 0.25 and under 0.5 of its highest, 0.78"."""
        words = []
        if self.below is not None:
            words.append(f"below {self.below:g}")
        if self.above is not None:
            words.append(f"above {self.above:g}")
        if self.below_peak is not None:
            words.append(f"under {self.below_peak:g} of its highest, {peak:.3g}")
        return " and ".join(words)


@dataclass(frozen=True)
class Rule:
    """If all conditions hold, for ``for_updates`` updates and from ``from_update`` on, the run has this status."""

    name: str
    status: str
    conditions: tuple[Condition, ...]
    cause: str
    remedy: str
    source: str
    from_update: int = 0
    for_updates: int = 0


def load_rules(path: str | Path | None = None) -> list[Rule]:
    """Read the rules of a YAML file; default: the shipped bands. Raises InputError for a file that holds no rules."""
    path = shared_folder("manifests") / BANDS if path is None else Path(path)
    content = read_yaml(path, "file of health bands", f"a list 'rules' as in manifests/{BANDS}")
    entries = content.get("rules") if isinstance(content, Mapping) else None
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: expected a list 'rules' as in manifests/{BANDS}")
    return [_rule(path, number, entry) for number, entry in enumerate(entries, start=1)]


def _rule(path: Path, number: int, entry: Any) -> Rule:
    try:
        settings = dict(entry)
        bounds = settings.pop("when")
        conditions = tuple(Condition(signal, **values) for signal, values in bounds.items())
        rule = Rule(conditions=conditions, **settings)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: rule {number} is not as in manifests/{BANDS} ({error})") from error
    if rule.status not in STATUSES[1:] or not conditions:
        raise InputError(f"{path}: rule {number} ({rule.name}) needs the status watch or collapsed and a condition")
    return rule
