"""How far an error rate would move with other test utterances or speakers: percentile bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ccc_w2v.errors import InputError

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
    if len(errors) != len(words) or (groups is not None and len(groups) != len(words)):
        raise ValueError(f"{len(errors)} errors, {len(words)} words and {len(groups or words)} groups do not match")
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(f"expected 0 < level < 1 and resamples >= 1, got {level} and {resamples}")
    names: Sequence[object] = range(len(words)) if groups is None else groups
    position = {name: index for index, name in enumerate(dict.fromkeys(names))}
    group_U = torch.tensor([position[name] for name in names], dtype=torch.long)
    sums_G2 = torch.zeros(len(position), 2, dtype=torch.float64)
    sums_G2.index_add_(0, group_U, torch.tensor([list(errors), list(words)], dtype=torch.float64).T)
    if int((sums_G2[:, 1] > 0).sum()) < 2:
        return None
    ratios_R = _resampled_ratios(sums_G2, resamples, generator)
    tail = (1 - level) / 2
    low, high = torch.quantile(ratios_R, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


def _resampled_ratios(sums_G2: torch.Tensor, resamples: int, generator: torch.Generator) -> torch.Tensor:
    groups = len(sums_G2)
    at_once = max(1, _DRAWS_AT_ONCE // groups)
    totals = []
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn_RG = torch.randint(groups, (rows, groups), generator=generator)
        totals.append(torch.stack([column_G[drawn_RG].sum(dim=1) for column_G in sums_G2.T]))
    errors_R, words_R = torch.cat(totals, dim=1)
    return errors_R[words_R > 0] / words_R[words_R > 0]


def read_groups(path: str | Path, utterances: Sequence[str]) -> list[str]:
    """Read each utterance's group from lines of "utterance-id group" (Kaldi's utt2spk), in the utterances' order.

    Raises InputError for a file that is missing, a line of another form, an id that comes twice, and an utterance that
    has no line.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such speaker map; expected lines of utterance-id speaker")
    group_of: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        fields = line.split()
        if len(fields) != 2:
            raise InputError(f"{path}:{number}: expected utterance-id speaker, found {line!r}; write the map again")
        if fields[0] in group_of:
            raise InputError(f"{path}:{number}: utterance {fields[0]!r} has a line already; remove one")
        group_of[fields[0]] = fields[1]
    return _groups_in_order(path, utterances, group_of)


def _groups_in_order(path: Path, utterances: Sequence[str], group_of: Mapping[str, str]) -> list[str]:
    missing = [utterance for utterance in utterances if utterance not in group_of]
    if missing:
        raise InputError(f"{path}: {len(missing)} utterances have no speaker: {', '.join(missing[:3])}; add them")
    return [group_of[utterance] for utterance in utterances]
