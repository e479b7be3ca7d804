"""From a YAML file to a pipeline: transforms in order, an independent coin flip for each, replayable draws.

    transforms:
      - {name: gaussian_noise, p: 0.6, std_ratio: [0.001, 0.7]}
      - {name: background_noise, p: 0.8, snr_db: [0, 15], manifest: noise.tsv}

A relative path in the file is relative to the file's folder.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import Tensor

from ccc_w2v.augment.base import Parameters, Range, Transform
from ccc_w2v.augment.dropout import TimeDropout
from ccc_w2v.augment.filtering import BandLimit
from ccc_w2v.augment.freeverb import Freeverb
from ccc_w2v.augment.gain import Clipping, Gain, Polarity
from ccc_w2v.augment.noise import Babble, BackgroundNoise, GaussianNoise, Music
from ccc_w2v.augment.pitch import PitchShift
from ccc_w2v.augment.recorded_reverb import RecordedReverb
from ccc_w2v.augment.reverb import Reverb
from ccc_w2v.augment.telephone import Telephone
from ccc_w2v.errors import InputError
from ccc_w2v.shared_files import shared_folder
from ccc_w2v.text_files import read_yaml

_NOISES: tuple[type[Transform], ...] = (GaussianNoise, BackgroundNoise, Music, Babble)
_REVERBS: tuple[type[Transform], ...] = (Reverb, RecordedReverb, Freeverb)
_CHANNELS: tuple[type[Transform], ...] = (BandLimit, Telephone, Clipping, Gain, Polarity)
_EFFECTS: tuple[type[Transform], ...] = (PitchShift, TimeDropout)
TRANSFORMS: dict[str, type[Transform]] = {
    transform.name: transform for transform in (*_NOISES, *_REVERBS, *_CHANNELS, *_EFFECTS)
}

Drawn = list[Parameters | None]  # one entry for each transform of the pipeline; None where the coin said no


@dataclass(frozen=True)
class RandomTransform:
    """A transform and the probability that an utterance goes through it."""

    p: float
    transform: Transform


class Pipeline:
    """Transforms of the second view in order; called with waves (B, S) and one generator for each.

    Rows must hold no padding: noise and echoes would fill it, and levels would be measured over it.
    Raises InputError for a transform that moves frames, since both views must share their time base.
    """

    def __init__(self, transforms: Sequence[RandomTransform]) -> None:
        for part in transforms:
            if not part.transform.keeps_time:
                raise InputError(
                    f"{part.transform.name} moves frames, but frame t of both views must be about the same speech; "
                    "remove it from the pipeline"
                )
        self.transforms = tuple(transforms)

    def __call__(self, waves_BS: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw for each utterance from its own generator and return the changed batch (B, S), a new tensor."""
        return self.apply(waves_BS, [self.draw(generator, waves_BS.shape[1]) for generator in generators])

    def draw(self, generator: torch.Generator, samples: int) -> Drawn:
        """Draw the coins and parameters of one utterance of ``samples`` samples."""
        drawn: Drawn = []
        for part in self.transforms:
            # A generator for each transform, and a draw whatever the coin says: another p or another setting of one
            # leaves what the others draw as it was.
            seed = int(torch.randint(2**62, (), generator=generator).item())
            own = torch.Generator().manual_seed(seed)
            heads = torch.rand((), generator=own, dtype=torch.float64).item() < part.p
            parameters = part.transform.draw(own, samples)
            drawn.append(parameters if heads else None)
        return drawn

    def load(self, drawn: Drawn, samples: int) -> Drawn:
        """Return the draws of one utterance with the recordings and noise that they need, on the CPU."""
        return [
            None if parameters is None else part.transform.load(parameters, samples)
            for part, parameters in zip(self.transforms, drawn, strict=True)
        ]

    def apply(self, waves_BS: Tensor, drawn: Sequence[Drawn]) -> Tensor:
        """Apply what was drawn for each utterance, loaded or not; the same draws give the same waves (B, S)."""
        out_BS = waves_BS
        for position, part in enumerate(self.transforms):
            parameters = [utterance[position] for utterance in drawn]
            if any(row is not None for row in parameters):
                out_BS = part.transform.apply(out_BS, parameters)
        return waves_BS.clone() if out_BS is waves_BS else out_BS

    def prepare(self) -> None:
        """Do the slow work that all draws share; call it once before worker processes start."""
        for part in self.transforms:
            part.transform.prepare()

    @property
    def untouched(self) -> float:
        """The probability that an utterance comes out as it went in."""
        return math.prod(1 - part.p for part in self.transforms)

    def __str__(self) -> str:
        names = ", ".join(f"{part.transform.name} p {part.p:g}" for part in self.transforms)
        return f"{names or 'no augmentation'} ({self.untouched:.1%} of utterances untouched)"


def manifest_settings() -> tuple[str, ...]:
    """Return the overrides that load_pipeline knows: settings of a run, each a manifest of recordings."""
    overrides = {setting.metadata["override"] for kind in TRANSFORMS.values() for setting in _settings(kind)}
    return tuple(sorted(overrides - {None}))


def load_pipeline(
    path_or_name: str | Path,
    sample_rate: int,
    *,
    fallbacks: Mapping[str, str | Path] | None = None,
    **overrides: str | Path | None,
) -> Pipeline:
    """Build the pipeline of a preset (its name) or of a YAML file (its path) for waves at ``sample_rate`` Hz.

    ``overrides`` replace the settings that declare one, whatever the file says: ``noise_manifest`` is the manifest of
    background_noise, and so on (see manifest_settings). None or "" leaves the file's value; one that this pipeline has
    no use for is ignored. ``fallbacks`` are for settings that neither they nor the file give a value.

    Raises InputError that names file, transform and key for whatever is unknown, missing, of a wrong type or out of
    range, and for a noise manifest that cannot be used.
    """
    unknown = set(overrides) - set(manifest_settings())
    assert not unknown, f"no transform declares the override {unknown}"
    path = find_pipeline(path_or_name)
    content = read_yaml(path, "pipeline", "a list of transforms")
    if not isinstance(content, dict) or set(content) != {"transforms"} or not isinstance(content["transforms"], list):
        raise InputError(f"{path}: expected one key, transforms, with a list of transforms; an empty list is []")
    return Pipeline(
        [
            _build_transform(path, f"{path}: transform {number}", entry, sample_rate, overrides, fallbacks or {})
            for number, entry in enumerate(content["transforms"], start=1)
        ]
    )


def presets_folder() -> Path:
    """Return the folder of the preset YAML files."""
    return shared_folder("recipes/augment")


def find_pipeline(path_or_name: str | Path) -> Path:
    """Return the YAML file of a preset's name or the path itself; raises InputError where there is neither."""
    presets = {path.stem: path for path in sorted(presets_folder().glob("*.yaml"))}
    path = presets.get(str(path_or_name), Path(path_or_name))
    if not path.is_file():
        raise InputError(
            f"{path_or_name}: neither an augmentation preset nor a YAML file; presets: {', '.join(presets)}"
        )
    return path


def _settings(transform: type[Transform]) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(transform) if field.metadata]


def _build_transform(
    path: Path,
    where: str,
    entry: Any,
    sample_rate: int,
    overrides: Mapping[str, Any],
    fallbacks: Mapping[str, Any],
) -> RandomTransform:
    if not isinstance(entry, dict):
        raise InputError(f"{where}: expected {{name: ..., p: ...}}, found {entry!r}")
    name = entry.get("name")
    if not isinstance(name, str) or name not in TRANSFORMS:
        raise InputError(f"{where}: unknown transform {name!r}; known: {', '.join(TRANSFORMS)}")
    where = f"{where} ({name})"
    settings = {field.name: field for field in _settings(TRANSFORMS[name])}
    for key in entry:
        if key not in {"name", "p", *settings}:
            raise InputError(f"{where}: unknown key {key!r}; known: p, {', '.join(settings)}")
    kinds = get_type_hints(TRANSFORMS[name])
    values = {}
    for key, field in settings.items():
        override = overrides.get(field.metadata["override"])
        if override:
            values[key] = Path(override)
        elif key in entry:
            values[key] = _read_setting(path, f"{where}: {key}", entry[key], kinds[key], field.metadata)
        elif field.metadata["override"] in fallbacks:
            values[key] = Path(fallbacks[field.metadata["override"]])
        elif field.default is dataclasses.MISSING:
            raise InputError(
                f"{where}: needs a {key}; set task.{field.metadata['override']}, or {key} in a YAML file of your own"
            )
    p = _read_number(f"{where}: p", entry.get("p", 1.0), float, 0.0, 1.0)
    try:
        return RandomTransform(p, TRANSFORMS[name](sample_rate, **values))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _read_setting(path: Path, where: str, value: Any, kind: type, metadata: Any) -> Any:
    minimum, maximum = metadata["minimum"], metadata["maximum"]
    if kind is Path:
        if not isinstance(value, str) or not value:
            raise InputError(f"{where}: expected a path, found {value!r}")
        return path.parent / value
    if kind is str:
        if value not in metadata["choices"]:
            raise InputError(f"{where}: expected one of {', '.join(metadata['choices'])}, found {value!r}")
        return value
    if kind is Range:
        if not isinstance(value, list) or len(value) != 2:
            raise InputError(f"{where}: expected a range [low, high], found {value!r}")
        low, high = (_read_number(where, bound, float, minimum, maximum) for bound in value)
        if low > high:
            raise InputError(f"{where}: the range {value!r} is upside down; write [low, high]")
        return Range(low, high)
    return _read_number(where, value, kind, minimum, maximum)


def _read_number(where: str, value: Any, kind: type, minimum: float, maximum: float) -> Any:
    expected = "a whole number" if kind is int else "a number"
    # bool is an int in Python; "1e-3" without a dot is text in YAML 1.1.
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        raise InputError(f"{where}: expected {expected}, found {value!r} (write 0.001 or 1.0e-3, not 1e-3)")
    if not (math.isfinite(value) and minimum <= value <= maximum):
        raise InputError(f"{where}: expected {expected} from {minimum:g} to {maximum:g}, found {value!r}")
    return kind(value)
