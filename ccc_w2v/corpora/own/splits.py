"""Which speakers train, and which are held out: drawn by speaker, so that nobody is on both sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ccc_w2v.data.randomness import generator_for
from ccc_w2v.errors import InputError

HELD_OUT = ("dev", "test")


@dataclass(frozen=True)
class PreparedLists:
    """The lists with their numbers, and what a user should know of the rest."""

    lists: dict[str, dict[str, float]]
    notes: list[str]


def split_by_speaker(
    seconds_of: Mapping[str, float], shares: Mapping[str, float], seed: int, fixed: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the split (train, dev or test) of each speaker.

    ``seconds_of`` is the audio of each speaker, ``shares`` how much of all audio dev and test are to hold; speakers are
    taken in an order drawn from ``seed`` until a share is reached, and every split with a share gets one at least.
    ``fixed`` are speakers whose split is known. Raises InputError for fewer speakers than splits.
    """
    split_of = dict(fixed or {})
    wanted = [split for split in HELD_OUT if shares.get(split, 0) > 0 and split not in split_of.values()]
    free = sorted(set(seconds_of) - set(split_of))
    if not free:
        return split_of
    if len(free) < len(wanted) + ("train" not in split_of.values()):
        raise InputError(
            f"{len(free)} speakers for train, {', '.join(wanted)}: each needs one of its own; name the speakers with "
            "--speakers or a column speaker, let recordings be split with --speakers recording, or set --dev 0 --test 0"
        )
    drawn = torch.randperm(len(free), generator=generator_for(seed, "split by speaker"))
    order = [free[index] for index in drawn.tolist()]
    total = sum(seconds_of.values())
    for split in wanted:
        seconds, needed = 0.0, shares[split] * total
        others = len(wanted) - wanted.index(split) - 1 + ("train" not in split_of.values())
        while seconds < needed and len(order) > others:
            fitting = [name for name in order if seconds + seconds_of[name] <= 1.5 * needed]
            if seconds and not fitting:
                break
            # A speaker larger than a whole split goes there only where all are.
            name = fitting[0] if fitting else min(order, key=lambda name: seconds_of[name])
            order.remove(name)
            split_of[name] = split
            seconds += seconds_of[name]
    return {**split_of, **dict.fromkeys(order, "train")}
