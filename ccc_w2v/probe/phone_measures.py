"""How well discrete units of frames (codes, clusters) match their phones: purity and mutual information.

Source: Hsu et al., "HuBERT" (arXiv 2106.07447, section V-A). Letters: P phones, U units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class PhoneMeasures:
    """Shares between 0 and 1, and how many frames, phones and units in use they are over.

    ``phone_purity``: how often the unit's commonest phone is right; ``unit_purity``: how often the phone's commonest
    unit is; ``pnmi``: mutual information of phones and units in terms of the phones' entropy.
    """

    phone_purity: float
    unit_purity: float
    pnmi: float
    frames: int
    phones: int
    units: int


def counts_of(phones: Sequence[str], units: Sequence[int]) -> torch.Tensor:
    """Count the frames of each phone and unit, (P, U), float64; rows are the phones in alphabetical order."""
    phone_of = {phone: row for row, phone in enumerate(sorted(set(phones)))}
    rows = torch.tensor([phone_of[phone] for phone in phones])
    columns = torch.unique(torch.as_tensor(units), return_inverse=True)[1]
    counts_PU = torch.zeros(len(phone_of), int(columns.max()) + 1, dtype=torch.float64)
    return counts_PU.index_put_((rows, columns), torch.ones(len(rows), dtype=torch.float64), accumulate=True)


def phone_measures(phones: Sequence[str], units: Sequence[int]) -> PhoneMeasures:
    """Measure units against the phones of the same frames; more units raise all but ``unit_purity``.

    With a single phone there is nothing to tell, and ``pnmi`` is not a number.
    """
    counts_PU = counts_of(phones, units)
    joint_PU = counts_PU / counts_PU.sum()
    phone_entropy = float(torch.special.entr(joint_PU.sum(dim=1)).sum())
    unit_entropy = float(torch.special.entr(joint_PU.sum(dim=0)).sum())
    information = phone_entropy + unit_entropy - float(torch.special.entr(joint_PU).sum())
    return PhoneMeasures(
        phone_purity=float(joint_PU.amax(dim=0).sum()),
        unit_purity=float(joint_PU.amax(dim=1).sum()),
        pnmi=information / phone_entropy if phone_entropy > 0 else math.nan,
        frames=len(phones),
        phones=counts_PU.size(0),
        units=counts_PU.size(1),
    )
