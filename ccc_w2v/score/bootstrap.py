"""How far an error rate, or the difference of two, would move with other test utterances or speakers: the bootstrap."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ccc_w2v.errors import InputError
from ccc_w2v.text_files import read_lines

# 32 MB of drawn indices at a time.
_DRAWS_AT_ONCE = 4_000_000


def bootstrap_interval(
    errors: Sequence[int],
    words: Sequence[int],
    groups: Sequence[str] | None = None,
    *,
    generator: torch.Generator,
    resamples: int = 10_000,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """Return the percentile bootstrap interval (low, high) of sum(errors) / sum(words); 1.0 is 100 %.

    ``errors`` and ``words`` hold one number per utterance. Resampled are utterances or, where ``groups`` names each
    utterance's group, whole groups: utterances of one speaker err together, and resampling them singly makes the
    interval too narrow (Bisani and Ney, ICASSP 2004). Resamples without a word are left out.

    None where there are fewer than two groups or utterances with words, which say nothing about spread.
    """
    sums_G2 = _group_sums([errors, words], groups)
    _check(level, resamples)
    if int((sums_G2[:, 1] > 0).sum()) < 2:
        return None
    errors_R, words_R = _resampled_totals(sums_G2, resamples, generator)
    return _central(errors_R[words_R > 0] / words_R[words_R > 0], level)


def wilson_interval(errors: int, words: int, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval (low, high) of the share errors / words; at no error its end is z^2 / (n + z^2).

    It takes words for independent, which the bootstrap does not, but is never of zero width: for an error rate at which
    all utterances or speakers are equal (no error at all), where resampling says nothing about spread. With more errors
    than words the share is taken as 1. E. B. Wilson, JASA 22 (1927); near "the rule of three" (3 / n) at no error.
    """
    z = statistics.NormalDist().inv_cdf(0.5 + level / 2)
    share = min(1.0, errors / words)
    centre = (share + z * z / (2 * words)) / (1 + z * z / words)
    half = z / (1 + z * z / words) * math.sqrt(share * (1 - share) / words + z * z / (4 * words * words))
    return max(0.0, centre - half), centre + half if errors <= words else errors / words


@dataclass(frozen=True)
class Difference:
    """Error rate of A minus that of B: as measured, its bootstrap interval, and the two-sided p of no difference."""

    value: float
    interval: tuple[float, float]
    p: float


def paired_bootstrap(
    errors_a: Sequence[int],
    errors_b: Sequence[int],
    words: Sequence[int],
    groups: Sequence[str] | None = None,
    *,
    generator: torch.Generator,
    resamples: int = 10_000,
    level: float = 0.95,
) -> Difference | None:
    """Compare two systems on the same utterances (Bisani and Ney, ICASSP 2004); groups as in bootstrap_interval.

    p is twice the share of resamples in which the difference is zero or has the other sign, counted with one resample
    more, so that it is never zero, and at most 1. Where all groups differ alike, the interval is widened by Wilson's
    bound of what no word shows. None where bootstrap_interval would give None.
    """
    sums_G3 = _group_sums([errors_a, errors_b, words], groups)
    _check(level, resamples)
    if int((sums_G3[:, 2] > 0).sum()) < 2:
        return None
    a_R, b_R, words_R = _resampled_totals(sums_G3, resamples, generator)
    differences_R = ((a_R - b_R) / words_R)[words_R > 0]
    shares = [(int(tail_R.sum()) + 1) / (len(differences_R) + 1) for tail_R in (differences_R <= 0, differences_R >= 0)]
    value = (sum(errors_a) - sum(errors_b)) / sum(words)
    low, high = _central(differences_R, level)
    if low == high:
        # All groups differ alike, mostly not at all: what no word of so many shows may still be so common.
        unseen = wilson_interval(0, sum(words), level)[1]
        low, high = value - unseen, value + unseen
    return Difference(value, (low, high), min(1.0, 2 * min(shares)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm, Scandinavian Journal of Statistics 1979), in their order."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def _group_sums(columns: Sequence[Sequence[int]], groups: Sequence[str] | None) -> torch.Tensor:
    """Sum each column (errors ..., words last) over each group, an utterance each where there are no groups."""
    *errors, words = columns
    if any(len(column) != len(words) for column in errors) or (groups is not None and len(groups) != len(words)):
        counts = " and ".join(str(len(column)) for column in errors)
        raise ValueError(f"{counts} errors, {len(words)} words and {len(groups or words)} groups do not match")
    names: Sequence[object] = range(len(words)) if groups is None else groups
    position = {name: index for index, name in enumerate(dict.fromkeys(names))}
    group_U = torch.tensor([position[name] for name in names], dtype=torch.long)
    sums = torch.zeros(len(position), len(columns), dtype=torch.float64)
    return sums.index_add_(0, group_U, torch.tensor([list(column) for column in columns], dtype=torch.float64).T)


def _check(level: float, resamples: int) -> None:
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(f"expected 0 < level < 1 and resamples >= 1, got {level} and {resamples}")


def _central(values_R: torch.Tensor, level: float) -> tuple[float, float]:
    tail = (1 - level) / 2
    low, high = torch.quantile(values_R, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


def _resampled_totals(sums: torch.Tensor, resamples: int, generator: torch.Generator) -> torch.Tensor:
    """Draw groups with replacement; returns the total of each column of each resample, columns first."""
    groups = len(sums)
    at_once = max(1, _DRAWS_AT_ONCE // groups)
    totals = []
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn_RG = torch.randint(groups, (rows, groups), generator=generator)
        totals.append(torch.stack([column_G[drawn_RG].sum(dim=1) for column_G in sums.T]))
    return torch.cat(totals, dim=1)


def read_groups(path: str | Path, utterances: Sequence[str], kind: str = "speaker") -> list[str]:
    """Read each utterance's group from lines of "utterance-id group" (Kaldi's utt2spk), in the utterances' order.

    ``kind`` says in messages what the groups are. Raises InputError for a file that is missing or no UTF-8 text, a line
    of another form, an id that comes twice, and an utterance that has no line.
    """
    lines = read_lines(path, f"{kind} map", f"lines of utterance-id {kind}")
    group_of: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if len(fields) != 2:
            raise InputError(f"{path}:{number}: expected utterance-id {kind}, found {line!r}; write the map again")
        if fields[0] in group_of:
            raise InputError(f"{path}:{number}: utterance {fields[0]!r} has a line already; remove one")
        group_of[fields[0]] = fields[1]
    missing = [utterance for utterance in utterances if utterance not in group_of]
    if missing:
        raise InputError(f"{path}: {len(missing)} utterances have no {kind}: {', '.join(missing[:3])}; add them")
    return [group_of[utterance] for utterance in utterances]
