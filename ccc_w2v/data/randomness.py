"""One generator for each (seed, purpose, position): crops, masks, negatives, noise, clustering, augmentation.

No draw depends on how many draws came before it, so the number of workers or GPUs, a restart, or another draw that is
added later changes nothing: the same run replays the same numbers.
"""

from __future__ import annotations

import hashlib

import torch


def seed_for(seed: int, purpose: str, *position: int) -> int:
    """Hash a run's seed, a purpose ("crop", "mask", ...) and a position (epoch, utterance, ...) into 63 bits."""
    key = f"{purpose}:{seed}:{':'.join(map(str, position))}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1


def generator_for(seed: int, purpose: str, *position: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a fresh generator for one purpose at one position of the run; see seed_for."""
    return torch.Generator(device=device).manual_seed(seed_for(seed, purpose, *position))
