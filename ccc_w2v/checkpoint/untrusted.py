"""The settings of a checkpoint that anyone may have written, as plain data: nothing in them is resolved or run.

Three things in a settings file can act. omegaconf replaces ``${...}`` in any text, ``${oc.env:TOKEN}`` by a secret of
the environment; fairseq evaluates some texts as Python (see evaluated); and a few settings name a program, a folder of
code or a pattern. Every checkpoint passes through `plain_settings` before omegaconf or fairseq sees it.
"""

from __future__ import annotations

import argparse
import enum
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ccc_w2v.checkpoint.evaluated import canonical
from ccc_w2v.errors import InputError

MAX_DEPTH = 24  # of sections in sections; a fine-tuned checkpoint has 5
MAX_VALUES = 20_000  # a fine-tuned checkpoint has about 900
MISSING = "???"  # omegaconf's: a value that is not set

# Settings that make fairseq run, import or match something: no reader of a checkpoint needs them.
_ACTING = ("user_dir", "post_save_script", "quantization_config_path", "freeze_regex")
# The one text that becomes part of the name of a file that is written: dict.<labels>.txt.
_FILE_SUFFIX = re.compile(r"[A-Za-z0-9][\w.-]*")
# Scoring during the training of sequence-to-sequence models, with tokenizers that may fetch files.
_SCORING = ("eval_wer", "eval_bleu", "eval_tokenized_bleu")

# The interpolations that stand in the configuration classes of fairseq 0.12.2 and fairseq-fixed 0.12.3.1, by field.
_SECTIONS = {
    "checkpoint": ("maximize_best_checkpoint_metric",),
    "common": (
        *("fp16", "memory_efficient_fp16", "model_parallel_size", "plasma_path", "seed", "tpu", "train_subset"),
        *("use_plasma_view", "valid_subset"),
    ),
    "criterion": ("classification_head_name", "infonce", "main_and_cross_weights", "regression_target"),
    "dataset": (
        *("batch_size", "batch_size_valid", "data_buffer_size", "dataset_impl", "max_tokens"),
        *("required_seq_len_multiple", "train_subset"),
    ),
    "distributed_training": ("ddp_backend", "distributed_world_size"),
    "model": (
        *("clone_batch", "conv_feature_layers", "encoder_embed_dim", "mask_channel_length", "mask_channel_min_space"),
        *("mask_channel_other", "mask_channel_prob", "mask_channel_selection", "mask_length", "mask_min_space"),
        *("mask_other", "mask_prob", "mask_selection", "no_mask_channel_overlap", "no_mask_overlap"),
    ),
    "optimization": ("lr", "max_update", "sentence_avg"),
    "task": (
        *("add_bos_token", "autoregressive", "data", "delayed_duration_target", "discrete_duration", "discrete_f0"),
        *("duration_prediction", "label_rate", "max_target_positions", "normalize", "tokens_per_sample"),
    ),
}
KNOWN_INTERPOLATIONS: frozenset[tuple[str, str]] = frozenset(
    [(name, f"${{{section}.{name}}}") for section, names in _SECTIONS.items() for name in names]
    + [
        ("batch_size_valid", "${dataset.batch_size}"),
        ("feature_encoder_spec", "${model.modalities.audio.feature_encoder_spec}"),
        ("input_dim", "${model.decoder.embed_dim}"),
        ("inverse_mask", "${model.modalities.audio.inverse_mask}"),
        ("mask_dropout", "${model.modalities.audio.mask_dropout}"),
        ("mask_length", "${model.modalities.audio.mask_length}"),
        ("mask_prob", "${model.modalities.audio.mask_prob}"),
        ("mask_prob_adjust", "${model.modalities.audio.mask_prob_adjust}"),
        ("max_target_positions", "${task.tokens_per_sample}"),
        ("max_tokens_valid", "${dataset.max_tokens}"),
        ("output_dim", "${model.decoder.embed_dim}"),
        ("total_num_update", "${optimization.max_update}"),
        ("update_epoch_batch_itr", "${dataset.grouped_shuffling}"),
    ]
)


def plain_settings(settings: Any) -> Any:
    """Return a checkpoint's settings, sections in dictionaries or an old flat Namespace, as plain data that is inert.

    Lists and tuples become lists, numpy's numbers Python's. A text that fairseq evaluates becomes its canonical
    literal; one of fairseq's own interpolations the value that it points to, or goes where there is none; a setting
    that runs, imports or matches something becomes None.

    Raises InputError for any other interpolation, for a text that is no such literal, and for a value that is no plain
    data.
    """
    return _Reader(settings, itertools.count(1)).read(settings, "", "", 0)


class _Reader:
    """Reads one configuration; ``root`` is what its interpolations count from: the nearest that has a task."""

    def __init__(self, root: Any, values: Iterator[int]) -> None:
        self.root, self.values = root, values

    def read(self, value: Any, name: str, place: str, depth: int) -> Any:
        if depth > MAX_DEPTH or next(self.values) > MAX_VALUES:
            raise InputError(f"{place or 'its settings'}: more sections or values than any configuration of fairseq")
        if isinstance(value, argparse.Namespace):
            return argparse.Namespace(**self._section(vars(value), place, depth))
        if isinstance(value, Mapping):
            return self._within(value)._section(value, place, depth)
        if isinstance(value, (list, tuple)):
            return [self.read(each, name, f"{place}[{index}]", depth + 1) for index, each in enumerate(value)]
        if isinstance(value, str):
            return self._text(value, name, place)
        return _number(value, place)

    def _within(self, section: Mapping) -> _Reader:
        if section is self.root or not {"task", "model"} <= section.keys():
            return self
        return _Reader(section, self.values)

    def _section(self, section: Mapping, place: str, depth: int) -> dict[Any, Any]:
        plain = {}
        for name, value in section.items():
            at = f"{place}.{name}" if place else str(name)
            if not isinstance(name, (str, int)) or "${" in str(name):
                raise InputError(f"{at[:80]!r}: not the name of a setting")
            if isinstance(value, str) and (name, value) in KNOWN_INTERPOLATIONS:
                value = self._target(value)
            # A value that is not set is fairseq's default, as one that is not there.
            if isinstance(value, str) and value == MISSING:
                continue
            plain[name] = self._inert(name, value, at, depth + 1)
        return plain

    def _inert(self, name: Any, value: Any, place: str, depth: int) -> Any:
        plain = self.read(value, str(name), place, depth)
        if name in _ACTING and not isinstance(plain, dict):
            return None
        if name == "labels" and isinstance(plain, str) and not _FILE_SUFFIX.fullmatch(plain):
            raise InputError(f"{place}: expected the suffix of label files, such as ltr, found {plain[:40]!r}")
        return False if name in _SCORING else plain

    def _text(self, text: str, name: str, place: str) -> str:
        if "${" in text:
            raise InputError(
                f"{place}: holds an interpolation, {text[:60]!r}; a checkpoint's settings are read as they are: save "
                "it with their values"
            )
        try:
            return canonical(name, text)
        except InputError as error:
            at = place.removesuffix(name)
            raise InputError(f"{at}{error}") from error

    def _target(self, interpolation: str) -> Any:
        """Look up where one of fairseq's own interpolations points to; MISSING where that says nothing."""
        for _ in range(3):
            value = self.root
            for key in interpolation[2:-1].split("."):
                value = value.get(key, MISSING) if isinstance(value, Mapping) else MISSING
            name = interpolation[2:-1].rpartition(".")[2]
            if not isinstance(value, str) or (name, value) not in KNOWN_INTERPOLATIONS:
                return value
            interpolation = value
        return MISSING


def _number(value: Any, place: str) -> Any:
    if isinstance(value, enum.Enum):
        value = value.name
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, int) and abs(value) >= 2**63:
        raise InputError(f"{place}: a number of {value.bit_length()} bits")
    if value is not None and not isinstance(value, (str, int, float)):
        raise InputError(f"{place}: holds a {type(value).__name__}, expected text, a number or a list of them")
    return value
