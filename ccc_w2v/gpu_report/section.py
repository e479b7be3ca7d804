"""What a section of the report is told and what it returns."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

Row = dict[str, Any]


@dataclass(frozen=True)
class ReportSettings:
    """What is measured, on what."""

    device: str  # "cuda" or "cpu"
    size: str  # of benchmark.step.SIZES
    samples: int  # of audio in a batch, at 16 kHz
    utterances: int  # in a batch
    rounds: int  # measured calls of each

    @property
    def torch_device(self) -> torch.device:
        """The device as torch has it."""
        return torch.device(self.device)

    @property
    def seconds(self) -> float:
        """Of each utterance of a batch."""
        return self.samples / self.utterances / 16_000

    def step(self, **changed: Any) -> argparse.Namespace:
        """Return the options of `ccc-w2v benchmark step` for such a batch."""
        options = {"size": self.size, "device": self.device, "utterances": self.utterances, "seconds": self.seconds}
        off = dict.fromkeys(("checkpoint_activations", "checkpoint_features", "compile"), False)
        return argparse.Namespace(**{**options, "precision": "fp32", "negatives": 100, **off, **changed})


@dataclass(frozen=True)
class ReportSection:
    """A section's result, all of it plain data: rows of a table, and sentences."""

    rows: list[Row] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    failed: bool = False  # it shows that something is wrong
    details: list[str] = field(default_factory=list)  # the last lines of what went wrong, for the JSON alone


Measure = Callable[[ReportSettings], ReportSection]
