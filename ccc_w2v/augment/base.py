"""What every transform of the second view is: draw the parameters first, then apply them to a batch.

Shapes: B utterances, R of them that are changed, S samples. Waves are float32 in [-1, 1] at the transform's rate.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from ccc_w2v.errors import InputError

Parameters = dict[str, Any]  # plain numbers: they can be shown as JSON, stored and replayed
MATERIAL = "material"  # the key under which load() adds a tensor to them


@dataclass(frozen=True)
class Range:
    """A closed interval to draw from uniformly; ``[low, high]`` in a pipeline's YAML.

    Raises InputError for an interval that is upside down or not finite.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise InputError(f"expected a range [low, high] of finite numbers, found [{self.low:g}, {self.high:g}]")

    def draw(self, generator: torch.Generator) -> float:
        share = torch.rand((), generator=generator, dtype=torch.float64).item()
        return self.low + share * (self.high - self.low)


def setting(
    help: str,
    *,
    default: Any = None,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    choices: tuple[str, ...] = (),
    override: str | None = None,
) -> Any:
    """Declare one YAML key of a transform: its help line with the unit, its default, the bounds of its numbers.

    A setting that is a word takes one of ``choices``. A setting without a default is required. ``override`` names the
    argument of load_pipeline (and the key under ``task.`` in a run's configuration) that replaces what the YAML says.
    """
    metadata = {"help": help, "minimum": minimum, "maximum": maximum, "choices": choices, "override": override}
    return field(metadata=metadata) if default is None else field(default=default, metadata=metadata)


@dataclass
class Transform(ABC):
    """One kind of change; a subclass is a dataclass whose settings are the keys of its YAML entry."""

    name: ClassVar[str]
    """The name in a pipeline's YAML."""
    keeps_time: ClassVar[bool]
    """Whether sample s of the output is about the same speech as sample s of the input."""

    sample_rate: int

    @abstractmethod
    def draw(self, generator: torch.Generator, samples: int) -> Parameters:
        """Draw the parameters for one wave of ``samples`` samples, from nothing but the generator."""

    @abstractmethod
    def change(self, waves_RS: Tensor, parameters: list[Parameters]) -> Tensor:
        """Return the changed waves (R, S) as a new tensor on their device, one set of parameters for each."""

    def material(self, drawn: Parameters, samples: int) -> Tensor | None:
        """Return what the change of one wave needs beside its numbers (a recording, noise), on the CPU.

        It is separate from ``change`` so that data workers read and draw, and a GPU only computes.
        """
        return None

    def load(self, drawn: Parameters, samples: int) -> Parameters:
        """Return the parameters with their material, where the transform has any."""
        material = self.material(drawn, samples)
        return drawn if material is None else {**drawn, MATERIAL: material}

    def materials(self, waves_RS: Tensor, parameters: list[Parameters]) -> list[Tensor]:
        """Return each wave's material on the waves' device, made here where ``load`` has not made it before."""
        loaded = [drawn if MATERIAL in drawn else self.load(drawn, waves_RS.shape[1]) for drawn in parameters]
        return [drawn[MATERIAL].to(waves_RS) for drawn in loaded]

    def apply(self, waves_BS: Tensor, parameters: list[Parameters | None]) -> Tensor:
        """Return a new batch (B, S) in which the waves with parameters are changed and the others are bit-equal."""
        assert len(parameters) == len(waves_BS), "one set of parameters, or None, for each wave"
        drawn = [row for row in parameters if row is not None]
        if len(drawn) == len(parameters):
            return self.change(waves_BS, drawn)
        changed_BS = waves_BS.clone()
        if drawn:
            # Counted here: nonzero() would wait for a GPU.
            rows = [number for number, row in enumerate(parameters) if row is not None]
            rows_R = torch.tensor(rows).to(waves_BS.device)
            changed_BS[rows_R] = self.change(waves_BS[rows_R], drawn)
        return changed_BS

    def prepare(self) -> None:  # noqa: B027 (most transforms have nothing to prepare)
        """Do the slow work that all draws share, so that worker processes forked later inherit its result."""


def draw_integer(generator: torch.Generator, end: int) -> int:
    """Draw a whole number from 0 to end - 1, uniformly."""
    return int(torch.randint(end, (), generator=generator).item())


def power(waves_BS: Tensor) -> Tensor:
    """Return the mean square of each wave, (B, 1)."""
    return waves_BS.square().mean(dim=1, keepdim=True)


def scale_to_power(waves_BS: Tensor, power_B1: Tensor) -> Tensor:
    """Scale each wave to a mean square; a wave of zeros stays one."""
    own_B1 = power(waves_BS)
    # A silent wave is divided by 1 in place of 0.
    return waves_BS * (power_B1 / own_B1.masked_fill(own_B1 == 0, 1.0)).sqrt()


def match_level(waves_BS: Tensor, reference_BS: Tensor) -> Tensor:
    """Scale each wave to the RMS of its reference; a wave of zeros stays one."""
    return scale_to_power(waves_BS, power(reference_BS))
