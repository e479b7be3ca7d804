"""Which utterances of Switchboard-1 are trained on: the lists of Kaldi's recipe (egs/swbd/s5c), and a subset of 30 h.

dev                 the first 4,000 utterances by id (5 h); later lists leave them out
train_nodup         of the others, at most about 300 of each text: uh-huh and yeah are 10 % of all (286 h)
train_100k_nodup    of the first 100,000 of the others, at most about 200 of each text (110 h)
train_30h           of train_nodup, the calls of manifests/switchboard_30h.txt
pretrain            all but dev, without a transcript; pretrain_valid is dev
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ccc_w2v.corpora.switchboard.source import Utterance, calls_of_30h
from ccc_w2v.errors import InputError

DEV = 4_000
FIRST = 100_000
MAX_SAME, MAX_SAME_OF_FIRST = 300, 200
LABELLED = ("dev", "train_nodup", "train_100k_nodup", "train_30h")
# The sequence that Kaldi's remove_dup_utts.sh walks, so that the same utterances stay.
_STEP, _MODULUS = 103_349, 71_147


def lists_of(utterances: Sequence[Utterance], *, dev: int = DEV, first: int = FIRST) -> dict[str, list[Utterance]]:
    """Return the utterances of each list, from all in the order of their ids.

    Raises InputError where a list would be empty.
    """
    others = list(utterances[dev:])
    subset = calls_of_30h()
    nodup = without_excess(others, MAX_SAME)
    lists = {
        "dev": list(utterances[:dev]),
        "train_nodup": nodup,
        "train_100k_nodup": without_excess(others[:first], MAX_SAME_OF_FIRST),
        "train_30h": [utterance for utterance in nodup if utterance.call in subset],
        "pretrain": others,
        "pretrain_valid": list(utterances[:dev]),
    }
    if empty := [name for name, utterances in lists.items() if not utterances]:
        raise InputError(
            f"{len(utterances)} utterances leave the list '{empty[0]}' empty (the first {dev} are for development); "
            "use the whole corpus"
        )
    return lists


def without_excess(utterances: Sequence[Utterance], most: int) -> list[Utterance]:
    """Thin out every text that occurs ``most`` times or more to about that many utterances, spread evenly."""
    counts = Counter(utterance.text for utterance in utterances)
    kept, place = [], 0
    for utterance in utterances:
        count = counts[utterance.text]
        if count >= most:
            place = (place + _STEP) % _MODULUS
        if count < most or place / _MODULUS < most / count:
            kept.append(utterance)
    return kept
