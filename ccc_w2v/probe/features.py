"""Hidden states and codebook indices of a manifest, written in shards with an index; an interrupted run resumes.

A shard holds its utterances one after another: ``features`` (rows, layers, D), a row being a frame or an utterance's
mean, and where asked for ``codes`` (frames, G). index.tsv says where those of each utterance lie. Layer i is the output
of the i-th Transformer layer, layer 0 what enters the first one. Letters: B utterances, S samples, T frames, L layers,
D width, G codebook groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ccc_w2v.checkpoint import parity
from ccc_w2v.checkpoint.evaluated import parse_conv_layers
from ccc_w2v.checkpoint.plain import load_plain, receptive_field, to_plain
from ccc_w2v.checkpoint.read import load_checkpoint
from ccc_w2v.data.audio import read_audio
from ccc_w2v.data.manifest import Entry, Manifest
from ccc_w2v.data.trn import utterance_ids
from ccc_w2v.decode.batching import equal_length_batches
from ccc_w2v.errors import InputError
from ccc_w2v.files import sha256, whole, write_whole
from ccc_w2v.run_folder import Output, claim, keep_record

INDEX_COLUMNS = ("utterance", "shard", "first_row", "rows", "first_frame", "frames")
SUFFIXES = {"npy": "npy", "hdf5": "h5", "safetensors": "safetensors"}


@dataclass(frozen=True)
class Wanted:
    """What is extracted: layers (none: all), mean or frames, codes, and how it is stored."""

    layers: tuple[int, ...] = ()
    mean: bool = False
    codes: bool = False
    format: str = "safetensors"
    half: bool = False
    shard_utterances: int = 500


@dataclass(frozen=True)
class Encoder:
    """The wav2vec 2.0 network of a checkpoint, in eval mode, and what its audio must look like."""

    network: Any
    layers: int
    sample_rate: int
    normalize: bool
    min_samples: int

    @property
    def has_codes(self) -> bool:
        """Whether the codebook is there: fine-tuning drops it."""
        return getattr(self.network, "quantizer", None) is not None


def load_encoder(checkpoint: str | Path, device: str = "cpu") -> Encoder:
    """Load a pre-trained or fine-tuned checkpoint; raises InputError as the export to plain fairseq does."""
    plain = to_plain(load_checkpoint(checkpoint))
    model, _ = load_plain(plain, checkpoint)
    network = model.w2v_encoder.w2v_model if hasattr(model, "w2v_encoder") else model
    cfg = plain["cfg"]["model"].get("w2v_args") or plain["cfg"]
    min_samples = receptive_field(parse_conv_layers(cfg["model"]["conv_feature_layers"]))
    task = plain["cfg"]["task"]
    layers = len(network.encoder.layers)
    return Encoder(network.to(device), layers, task["sample_rate"], bool(task["normalize"]), min_samples)


@torch.no_grad()
def hidden_states(encoder: Encoder, waves_BS: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return what enters the Transformer and each layer's output, (B, T, 1 + L, D), and the codes (B, T, G) or None."""
    network, entering = encoder.network, []
    handle = network.encoder.layers[0].register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0]))
    try:
        result = network(waves_BS, padding_mask=None, mask=False, features_only=True)
    finally:
        handle.remove()
    # fairseq's Transformer puts time first, and rounds the number of frames up on its way in.
    states = [entering[0][: result["x"].size(1)], *(layer[0] for layer in result["layer_results"])]
    codes = None
    if encoder.has_codes:
        codes = network.quantizer.forward_idx(result["features"])[1].view(*result["features"].shape[:2], -1)
    return torch.stack([state.transpose(0, 1) for state in states], dim=2), codes


def extract(
    encoder: Encoder, manifest: Manifest, out: Path, wanted: Wanted, identity: str, *, overwrite: bool = False
) -> int:
    """Write the shards, then index.tsv, into ``out``; returns how many utterances an earlier run had done.

    ``identity`` names the checkpoint's content: a folder begun with another one, another manifest or other wishes is
    refused, or replaced with ``overwrite``. Raises InputError for that, for a layer that is not there, codes of a
    fine-tuned model and unfit audio.
    """
    layers = _check(encoder, wanted)
    ids = utterance_ids(manifest)
    settings = {"checkpoint": identity, "manifest": sha256(manifest.source), **asdict(wanted), "layers": layers}
    written = [*out.glob("shard-*"), out / "index.tsv"]
    output = Output(out, settings, out / "settings.json", written, [manifest.source])
    if not claim(output, overwrite=overwrite):
        out.mkdir(parents=True, exist_ok=True)
        keep_record(output)
    starts = range(0, len(ids), wanted.shard_utterances)
    done = 0
    with tqdm(total=len(ids), unit="utt", desc="extracting") as bar:
        for number, start in enumerate(starts):
            entries = manifest.entries[start : start + wanted.shard_utterances]
            name = f"shard-{number:05d}"
            # The index of a shard is written after it: where it stands, the shard is whole.
            if not (out / f"{name}.tsv").is_file():
                arrays, frames = _shard(encoder, manifest, entries, layers, wanted, bar)
                _write(out, name, arrays, wanted.format)
                index = _index(ids[start : start + len(entries)], name, frames, wanted.mean)
                write_whole(out / f"{name}.tsv", index)
            else:
                done += len(entries)
                bar.update(len(entries))
    parts = [(out / f"shard-{number:05d}.tsv").read_text(encoding="utf-8") for number in range(len(starts))]
    write_whole(out / "index.tsv", "\t".join(INDEX_COLUMNS) + "\n" + "".join(parts))
    return done


def _check(encoder: Encoder, wanted: Wanted) -> list[int]:
    layers = list(wanted.layers) or list(range(encoder.layers + 1))
    for layer in layers:
        if not 0 <= layer <= encoder.layers:
            raise InputError(f"--layers {layer}: the model has layers 0 (what enters the first) to {encoder.layers}")
    if wanted.codes and not encoder.has_codes:
        raise InputError("--codes: a fine-tuned model has no codebook; take the pre-trained checkpoint")
    if wanted.format == "hdf5":
        _h5py()
    return layers


def _shard(
    encoder: Encoder, manifest: Manifest, entries: Sequence[Entry], layers: list[int], wanted: Wanted, bar: Any
) -> tuple[dict[str, np.ndarray], list[int]]:
    """Return the arrays of one shard and each utterance's number of frames."""
    device = next(encoder.network.parameters()).device
    states_of: dict[int, tuple[torch.Tensor, torch.Tensor | None, int]] = {}
    for batch in equal_length_batches([entry.samples for entry in entries]):
        waves = [read_wave(encoder, manifest, entries[position]) for position in batch]
        states_BTLD, codes_BTG = hidden_states(encoder, torch.stack(waves).to(device))
        states_BTLD, frames = states_BTLD[:, :, layers], states_BTLD.size(1)
        if wanted.mean:
            states_BTLD = states_BTLD.mean(dim=1, keepdim=True)
        for row, position in enumerate(batch):
            codes = codes_BTG[row].cpu() if wanted.codes and codes_BTG is not None else None
            states_of[position] = states_BTLD[row].cpu(), codes, frames
        bar.update(len(batch))
    in_order = [states_of[position] for position in range(len(entries))]
    features = torch.cat([states for states, _, _ in in_order]).numpy()
    arrays = {"features": features.astype(np.float16 if wanted.half else np.float32)}
    if wanted.codes:
        arrays["codes"] = torch.cat([codes for _, codes, _ in in_order if codes is not None]).numpy().astype(np.int32)
    return arrays, [frames for _, _, frames in in_order]


def read_wave(encoder: Encoder, manifest: Manifest, entry: Entry) -> torch.Tensor:
    """Return a recording (S,) as the network expects it; raises InputError as read_audio does."""
    wave_S = read_audio(
        manifest.audio_path(entry),
        encoder.sample_rate,
        where=manifest.where(entry),
        declared_samples=entry.samples,
        min_samples=encoder.min_samples,
    )
    return parity.normalized(wave_S, encoder.normalize)


def stride_of(encoder: Encoder) -> int:
    """Return how many samples lie between the starts of two frames."""
    return math.prod(block[0].stride[0] for block in encoder.network.feature_extractor.conv_layers)


def _index(ids: Sequence[str], shard: str, frames: Sequence[int], mean: bool) -> str:
    lines, first_frame = [], 0
    for position, (utterance, count) in enumerate(zip(ids, frames, strict=True)):
        rows = (position, 1) if mean else (first_frame, count)
        lines.append("\t".join(map(str, (utterance, shard, *rows, first_frame, count))) + "\n")
        first_frame += count
    return "".join(lines)


def _write(out: Path, name: str, arrays: dict[str, np.ndarray], kind: str) -> None:
    writers: dict[str, Callable[[Path, dict[str, np.ndarray]], None]] = {
        "hdf5": _write_hdf5,
        "safetensors": _write_safetensors,
    }
    if kind == "npy":
        for key, array in arrays.items():
            with whole(out / f"{name}.{key}.npy", overwrite=True) as partial, open(partial, "wb") as file:
                np.save(file, array)
        return
    with whole(out / f"{name}.{SUFFIXES[kind]}", overwrite=True) as partial:
        writers[kind](partial, arrays)


def read_shard(out: Path, name: str, kind: str) -> dict[str, np.ndarray]:
    """Return the arrays of a shard that extract has written in a format; see Wanted.format."""
    if kind == "npy":
        return {path.name.split(".")[1]: np.load(path) for path in sorted(out.glob(f"{name}.*.npy"))}
    path = out / f"{name}.{SUFFIXES[kind]}"
    if kind == "hdf5":
        with _h5py().File(path) as file:
            return {key: file[key][()] for key in file}
    from safetensors.numpy import load_file

    return load_file(path)


def _write_hdf5(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with _h5py().File(path, "w") as file:
        for key, array in arrays.items():
            file[key] = array


def _write_safetensors(path: Path, arrays: dict[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    save_file(arrays, path)


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise InputError(f"h5py cannot be imported ({error}); pip install 'ccc-w2v[hdf5]'") from error
    return h5py
