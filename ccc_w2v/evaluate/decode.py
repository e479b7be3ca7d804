"""From a fine-tuned checkpoint (fairseq's wav2vec_ctc) and a manifest to words.

Letters in shapes: B utterances, S samples, T frames, V symbols of the dictionary.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch
import torch.nn.functional as F
from fairseq.checkpoint_utils import load_model_ensemble_and_task
from fairseq.data.data_utils import post_process as fairseq_post_process
from fairseq.data.dictionary import Dictionary
from fairseq.models import BaseFairseqModel
from omegaconf import DictConfig, OmegaConf, open_dict
from tqdm import tqdm

import ccc_w2v
from ccc_w2v.compat import load_checkpoint
from ccc_w2v.data.audio import read_audio
from ccc_w2v.data.manifest import Manifest, write_whole
from ccc_w2v.errors import InputError
from ccc_w2v.evaluate.wer import utterance_ids
from ccc_w2v.export.plain import PRETRAINED_MODELS, load_dictionary, parse_conv_layers, receptive_field

BLANK = "<s>"  # fairseq's audio_finetuning uses the beginning-of-sentence symbol as CTC blank
POST_PROCESSES = ("letter", "sentencepiece")
PRETRAINING_TASKS = ("ccc_pretraining", "audio_pretraining")
MAX_BATCH_SAMPLES = 4_000_000  # 250 s at 16 kHz


@dataclass(frozen=True)
class CtcModel:
    """A CTC network in eval mode, its dictionary's symbols by index, and what its audio must look like."""

    network: BaseFairseqModel
    labels: tuple[str, ...]
    blank: int
    sample_rate: int
    normalize: bool
    post_process: str
    min_samples: int


def load_ctc(checkpoint_path: str | Path, data_dir: str | Path | None = None) -> CtcModel:
    """Load a wav2vec_ctc checkpoint of fairseq's audio_finetuning, on the CPU.

    The dictionary is the one in the checkpoint (``ccc_dictionary``, else the task's state), else
    ``data_dir``/dict.<labels>.txt. A checkpoint without its base model's configuration needs the base model's file.

    Raises InputError for a checkpoint that is unreadable or of another kind, for a base model or dictionary that cannot
    be found, and for tensors or a dictionary that do not fit.
    """
    state = load_checkpoint(checkpoint_path)
    cfg = _check_kind(state, checkpoint_path)
    dictionary = _find_dictionary(state, cfg, data_dir, checkpoint_path)
    projection = state["model"].get("w2v_encoder.proj.weight")
    outputs = None if projection is None else len(projection)
    if outputs != len(dictionary) or BLANK not in dictionary.indices:
        raise InputError(
            f"{checkpoint_path}: the output layer has {outputs} symbols, the dictionary {len(dictionary)}; "
            f"expected equal numbers and {BLANK} among the symbols; use the dictionary of the fine-tuning"
        )
    state.update(args=None, cfg=cfg, task_state={"target_dictionary": dictionary})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # fairseq's use of torch: nothing a user can mend
            models, _, _ = load_model_ensemble_and_task([str(checkpoint_path)], state=state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{checkpoint_path}: the tensors do not fit the configuration: {reason:.300}") from error
    return CtcModel(
        network=models[0].eval(),
        labels=tuple(dictionary.symbols),
        blank=dictionary.index(BLANK),
        sample_rate=int(cfg.task.sample_rate),
        normalize=bool(cfg.task.normalize),
        post_process=_post_process(cfg, checkpoint_path),
        min_samples=receptive_field(parse_conv_layers(cfg.model.w2v_args.model.conv_feature_layers)),
    )


def _check_kind(state: dict[str, Any], path: str | Path) -> DictConfig:
    cfg = state["cfg"]
    model, task = (OmegaConf.select(cfg, key) for key in ("model._name", "task._name"))
    if (model, task) != ("wav2vec_ctc", "audio_finetuning"):
        raise InputError(
            f"{path}: holds model {model!r} of task {task!r}, expected a fine-tuned wav2vec_ctc of audio_finetuning"
        )
    if OmegaConf.select(cfg, "model.w2v_args") is None:
        base_path = OmegaConf.select(cfg, "model.w2v_path")
        if not base_path or not Path(base_path).is_file():
            raise InputError(
                f"{path}: lacks its base model's configuration (model.w2v_args), and the base model {base_path} "
                "is no file; put it back there or export the checkpoint where it was trained"
            )
        with open_dict(cfg):
            cfg.model.w2v_args = OmegaConf.to_container(load_checkpoint(base_path)["cfg"])
    model, task = (OmegaConf.select(cfg, f"model.w2v_args.{key}._name") for key in ("model", "task"))
    if model not in PRETRAINED_MODELS or task not in PRETRAINING_TASKS:
        raise InputError(
            f"{path}: its base is model {model!r} of task {task!r}, expected one of {', '.join(PRETRAINED_MODELS)} "
            f"of {' or '.join(PRETRAINING_TASKS)}"
        )
    # fairseq evaluates this setting as Python code: refuse anything but numbers before it does.
    parse_conv_layers(cfg.model.w2v_args.model.conv_feature_layers)
    if model.startswith("ccc_") or task.startswith("ccc_"):
        ccc_w2v.register()
    return cfg


def _find_dictionary(state: dict[str, Any], cfg: DictConfig, data_dir: str | Path | None, path: str | Path) -> Any:
    if "ccc_dictionary" in state:
        return load_dictionary(state["ccc_dictionary"])
    dictionary = (state.get("task_state") or {}).get("target_dictionary")
    if isinstance(dictionary, Dictionary):
        return dictionary
    name = f"dict.{cfg.task.labels}.txt"
    if data_dir is None or not (Path(data_dir) / name).is_file():
        raise InputError(f"{path}: holds no dictionary, and {name} is not in {data_dir}; pass the folder that has it")
    try:
        return Dictionary.load(str(Path(data_dir) / name))
    except ValueError as error:
        raise InputError(f"{Path(data_dir) / name}: expected lines of symbol, space, count ({error})") from error


def _post_process(cfg: DictConfig, path: str | Path) -> str:
    criterion = OmegaConf.select(cfg, "criterion")
    kind = "letter" if criterion is None else OmegaConf.select(criterion, "post_process") or "letter"
    if kind not in POST_PROCESSES:
        raise InputError(f"{path}: criterion.post_process is {kind!r}, expected {' or '.join(POST_PROCESSES)}")
    return kind


def equal_length_batches(lengths: Sequence[int], max_samples: int = MAX_BATCH_SAMPLES) -> list[list[int]]:
    """Group positions of exactly equal length, longest first, at most ``max_samples`` samples together.

    No batch is padded: the base model's feature encoder normalises each channel over time (group norm), so padding
    would change every frame of the shorter utterances and a transcript would depend on its neighbours.
    """
    by_length: dict[int, list[int]] = {}
    for position, length in enumerate(lengths):
        by_length.setdefault(length, []).append(position)
    batches = []
    for length in sorted(by_length, reverse=True):
        size = max(1, max_samples // length)
        same = by_length[length]
        batches += [same[start : start + size] for start in range(0, len(same), size)]
    return batches


def emit(model: CtcModel, waves: Sequence[torch.Tensor], names: Sequence[str] | None = None) -> list[torch.Tensor]:
    """Return log-probabilities (T, V) on the CPU for each wave (S,), the same whatever else is in ``waves``.

    Raises InputError where the network gives NaN, with the utterance's name from ``names`` or else its position.
    """
    device = next(model.network.parameters()).device
    emissions: dict[int, torch.Tensor] = {}
    for batch in equal_length_batches([len(wave_S) for wave_S in waves]):
        source_BS = torch.stack([_prepared(model, waves[position]) for position in batch]).to(device)
        with torch.inference_mode():
            output = model.network(source=source_BS, padding_mask=None)
            # fairseq puts time first here.
            log_probs_TBV = model.network.get_normalized_probs(output, log_probs=True).cpu()
        for position, log_probs_TV in zip(batch, log_probs_TBV.unbind(1), strict=True):
            if log_probs_TV.isnan().any():
                name = names[position] if names else f"wave {position}"
                raise InputError(f"{name}: the network gives NaN; the checkpoint's training has diverged, use another")
            emissions[position] = log_probs_TV
    return [emissions[position] for position in range(len(waves))]


def _prepared(model: CtcModel, wave_S: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(wave_S, wave_S.shape) if model.normalize else wave_S


def greedy(log_probs_TV: torch.Tensor, blank: int) -> list[int]:
    """Return the best symbol of every frame, repeats collapsed, then blanks dropped."""
    best = log_probs_TV.argmax(dim=-1).unique_consecutive()
    return best[best != blank].tolist()


def to_words(ids: Sequence[int], labels: Sequence[str], post_process: str = "letter") -> list[str]:
    """Join symbols to words by fairseq's rules: "|" ends a word (letter), "▁" begins one (sentencepiece).

    As in fairseq, <s> and </s> are left out and <unk> and <pad> are spelt as they are.
    """
    symbols = " ".join(labels[index] for index in ids if labels[index] not in ("<s>", "</s>"))
    return fairseq_post_process(symbols, post_process).split()


@dataclass(frozen=True)
class Transcription:
    """Text of each utterance, in the manifest's order, and what it took: seconds of this run, without the resumed."""

    texts: dict[str, str]
    resumed: int
    audio_seconds: float
    wall_seconds: float


def transcribe(model: CtcModel, manifest: Manifest, journal_path: Path, identity: dict[str, str]) -> Transcription:
    """Decode every utterance of ``manifest`` greedily, keeping each finished batch in the journal.

    A journal of the same ``identity`` (see decoding_identity) is continued; raises InputError for one of another.
    """
    ids = utterance_ids(manifest)
    texts, journal = _open_journal(journal_path, identity)
    todo = [position for position, utterance in enumerate(ids) if utterance not in texts]
    resumed = len(ids) - len(todo)
    started = time.perf_counter()
    with journal, tqdm(total=len(ids), initial=resumed, unit="utt", desc="decoding") as bar:
        for batch in equal_length_batches([manifest.entries[position].samples for position in todo]):
            positions = [todo[index] for index in batch]
            for position, text in zip(positions, _transcribe_batch(model, manifest, ids, positions), strict=True):
                texts[ids[position]] = text
                journal.write(json.dumps({"id": ids[position], "text": text}, ensure_ascii=False) + "\n")
            journal.flush()
            bar.update(len(batch))
    audio_seconds = sum(manifest.entries[position].samples for position in todo) / model.sample_rate
    in_order = {utterance: texts[utterance] for utterance in ids}
    return Transcription(in_order, resumed, audio_seconds, time.perf_counter() - started)


def _transcribe_batch(model: CtcModel, manifest: Manifest, ids: Sequence[str], positions: Sequence[int]) -> list[str]:
    waves = [
        read_audio(
            manifest.audio_path(entry),
            model.sample_rate,
            where=manifest.where(entry),
            declared_samples=entry.samples,
            min_samples=model.min_samples,
        )
        for entry in (manifest.entries[position] for position in positions)
    ]
    emissions = emit(model, waves, [ids[position] for position in positions])
    return [" ".join(to_words(greedy(each, model.blank), model.labels, model.post_process)) for each in emissions]


def decoding_identity(model: CtcModel, checkpoint_path: str | Path, manifest: Manifest) -> dict[str, str]:
    """Return the hashes of all that decides a transcript: checkpoint, manifest, dictionary."""
    contents = {"checkpoint": Path(checkpoint_path), "manifest": Path(manifest.source)}
    identity = {name: sha256(path) for name, path in contents.items()}
    identity["labels"] = hashlib.sha256("\n".join(model.labels).encode()).hexdigest()
    return identity


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _open_journal(path: Path, identity: dict[str, str]) -> tuple[dict[str, str], TextIO]:
    content = path.read_bytes() if path.is_file() else b""
    # A kill can leave half a line at the end: that utterance is decoded again.
    complete = content[: content.rfind(b"\n") + 1]
    texts: dict[str, str] = {}
    try:
        header, *lines = [json.loads(line) for line in complete.splitlines()] or [identity]
        texts = {line["id"]: line["text"] for line in lines}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a journal of this tool ({error}); remove it to decode from the start") from error
    if header != identity:
        raise InputError(
            f"{path}: an unfinished decoding of another checkpoint, manifest or dictionary; remove it to give it up, "
            "or choose another output folder"
        )
    if not complete:
        write_whole(path, json.dumps(identity) + "\n")
    elif len(complete) < len(content):
        os.truncate(path, len(complete))
    return texts, open(path, "a", encoding="utf-8")
