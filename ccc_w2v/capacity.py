"""What a model and a machine can take: the shortest audio that can be masked, the least memory of the longest batch.

Letters: S samples, T frames, C channels of a convolution, D width of the Transformer.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch

from ccc_w2v.errors import InputError

logger = logging.getLogger(__name__)

# A mask leaves at least one frame of each utterance unmasked.
FRAMES_TO_MASK = 2
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def gpu_here() -> bool:
    """Tell whether torch can use a GPU."""
    return torch.cuda.is_available()


def refuse_missing_gpu(device: str) -> None:
    """Raise InputError where --device asks for a GPU that torch does not find."""
    if device == "cuda" and not gpu_here():
        raise InputError("--device cuda: torch finds no GPU; use --device cpu")


def convolutions(model: Any) -> list[Any]:
    """Return the convolutions of a wav2vec 2.0 model's feature encoder, the first one first."""
    return [block[0] for block in model.feature_extractor.conv_layers]


def samples_of(model: Any, frames: int) -> int:
    """Return the fewest samples of audio from which a wav2vec 2.0 model makes so many frames."""
    samples = frames
    for layer in reversed(convolutions(model)):
        samples = (samples - 1) * layer.stride[0] + layer.kernel_size[0]
    return samples


def least_memory(model: Any, samples: int, *, training: bool, value_bytes: int = 4, on_cpu: bool | None = None) -> int:
    """Return bytes that one view of one crop of ``samples`` takes at the very least: its activations, none twice.

    In training what the backward pass needs of each layer is kept: a convolution's output and what follows its GELU,
    and in the Transformer seven tensors of width D and two of the feed-forward width; dropped layers are left out by
    their share. Fused attention keeps no T x T matrix, but torch has none with dropout on a CPU (``on_cpu``; None: what
    this machine computes on). Evaluation needs the two widest neighbours together.
    """
    cfg, frames, widths = model.cfg, samples, []
    for layer in convolutions(model):
        frames = max(0, (frames - layer.kernel_size[0]) // layer.stride[0] + 1)
        widths.append(frames * layer.out_channels)
    if not training:
        return value_bytes * max(samples + widths[0], *map(sum, zip(widths, widths[1:], strict=False)))
    encoder = 2 * sum(widths) if cfg.feature_grad_mult > 0 else widths[-1]
    width, inner = cfg.encoder_embed_dim, cfg.encoder_ffn_embed_dim
    layer_values = frames * width if cfg.checkpoint_activations else frames * (7 * width + 2 * inner)
    if on_cpu is None:
        on_cpu = next(model.parameters()).device.type == "cpu" and not torch.cuda.is_available()
    if on_cpu and cfg.attention_dropout > 0 and not cfg.checkpoint_activations:
        layer_values += cfg.encoder_attention_heads * frames**2
    transformer = int(cfg.encoder_layers * (1 - cfg.encoder_layerdrop) * layer_values)
    return value_bytes * (encoder + transformer)


def memory_here() -> int:
    """Return the bytes of memory that a training can have at most: the GPU's, else this machine's or container's."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in map(Path, _CGROUP_LIMITS):
        if file.is_file() and (text := file.read_text().strip()).isdecimal():
            limits.append(int(text))
    return min(limits)


def check_lengths(dataset: Any, model: Any, cfg: Any, *, training: bool) -> None:
    """Raise InputError where the shortest crop of a dataset cannot be masked or the longest cannot fit into memory.

    ``cfg`` is the task's.
    """
    source, smallest, shortest = dataset.source, samples_of(model, FRAMES_TO_MASK), dataset.shortest_crop()
    if shortest < smallest:
        raise InputError(
            f"{source}: the shortest crop has {shortest} samples, too few to mask; set task.min_sample_size (now "
            f"{cfg.min_sample_size}) and task.max_sample_size (now {cfg.max_sample_size}) to at least {smallest}"
        )
    longest = dataset.longest_crop(cfg.max_tokens, cfg.batch_size)
    check_memory(
        source,
        model,
        longest,
        sample_rate=cfg.sample_rate,
        half=cfg.fp16 or cfg.bf16 or str(getattr(model.cfg, "autocast", "none")) != "none",
        training=training,
        remedy=f"set task.max_sample_size (now {cfg.max_sample_size}), say to {20 * cfg.sample_rate} (20 s): longer "
        "recordings are cropped anew in each epoch",
    )


def check_memory(
    source: str, model: Any, longest: int, *, sample_rate: int, half: bool, training: bool, remedy: str
) -> None:
    """Raise InputError, ending in ``remedy``, where one crop of ``longest`` samples cannot fit into memory.

    The log says what it takes at least: a lower bound, that of one view.
    """
    needed = least_memory(model, longest, training=training, value_bytes=2 if half else 4)
    seconds, available = longest / sample_rate, memory_here()
    logger.info(f"plan: {source}: crops of up to {seconds:.1f} s, each view of one at least {needed / 2**30:.2g} GiB")
    if needed > available:
        raise InputError(
            f"{source}: a crop of {seconds:.0f} s ({longest} samples) needs at least {needed / 2**30:.0f} GiB, "
            f"{available / 2**30:.0f} GiB are available; {remedy}"
        )
