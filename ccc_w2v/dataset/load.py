"""A split of a training's data as its task's settings want it: the dataset and the pipeline that all splits share."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ccc_w2v.augment.pipeline import Pipeline, load_pipeline, manifest_settings
from ccc_w2v.capacity import check_lengths
from ccc_w2v.data.manifest import Manifest
from ccc_w2v.data.mixture import Mixture, fairseq_mixture, read_mixture
from ccc_w2v.data.remote import Patience
from ccc_w2v.data.sources import source_of
from ccc_w2v.data.streams import is_stream_source, read_source
from ccc_w2v.dataset.frame_labels import FrameLabels, frame_labels, layout_of
from ccc_w2v.dataset.mixture import MixtureDataset
from ccc_w2v.dataset.two_view import TwoViewDataset
from ccc_w2v.errors import InputError

logger = logging.getLogger(__name__)


def mixture_of(cfg: Any, split: str) -> Mixture | None:
    """Return the mixture that a split is by the task's settings, None where it is one manifest.

    Raises InputError for settings that do not fit together.
    """
    mixture, keys = getattr(cfg, "mixture", None), getattr(cfg, "multi_corpus_keys", None)
    if mixture and keys:
        raise InputError(f"task.mixture={mixture} and task.multi_corpus_keys={keys} both name corpora; leave out one")
    if mixture:
        return read_mixture(mixture) if split == cfg.train_subset else None
    if not keys:
        return None
    return fairseq_mixture(cfg.data, split, keys, getattr(cfg, "multi_corpus_sampling_weights", None))


def manifest_of(cfg: Any, source: str | Path, on_bad_audio: str | None = None) -> Manifest:
    """Read a manifest or a stream with a task's settings; raises InputError as read_source does."""
    return read_source(source, on_bad_audio or str(cfg.on_bad_audio), _patience(cfg))


def _patience(cfg: Any) -> Patience:
    if cfg.stream_timeout <= 0 or cfg.stream_attempts < 1 or cfg.stream_requests < 1:
        raise InputError(
            f"task.stream_timeout={cfg.stream_timeout}, stream_attempts={cfg.stream_attempts}, stream_requests="
            f"{cfg.stream_requests}: expected a time above 0 and numbers of at least 1"
        )
    return Patience(cfg.stream_timeout, cfg.stream_attempts)


def pipeline_of(cfg: Any, augment: str | None = None, speech: str | Path | None = None) -> Pipeline:
    """Return the augmentation of a task's settings, or another preset with the same recordings.

    Voices to mix in are those of ``speech``, the training set's, where no manifest of them is named.
    """
    manifests = {name: _on_this_machine(cfg, getattr(cfg, name)) for name in manifest_settings()}
    if speech is None:
        mixture = mixture_of(cfg, cfg.train_subset)
        speech = mixture.corpora[0].manifest if mixture else source_of(cfg.data, cfg.train_subset, cfg.train_subset)
    fallbacks = {"babble_manifest": _on_this_machine(cfg, speech)}
    return load_pipeline(augment or cfg.augment, cfg.sample_rate, fallbacks=fallbacks, **manifests)


def _on_this_machine(cfg: Any, source: str | Path | None) -> Any:
    """Return the manifest that a stream becomes; any other value as it is."""
    return manifest_of(cfg, source).source if source and is_stream_source(source) else source


def load_split(cfg: Any, split: str, pipeline: Pipeline, model: Any) -> TwoViewDataset | MixtureDataset:
    """Read <data>/<split>.tsv, a stream that stands in its place, or all corpora of a mixture.

    ``model`` says how long crops must and can be; None where there is only data. Raises InputError for what cannot be
    trained on.
    """
    mixture = mixture_of(cfg, split)
    annotations = cfg.annotations if model is not None and split == cfg.train_subset else None
    if annotations and mixture:
        raise InputError(
            f"task.annotations={annotations} labels one manifest; {mixture.source} is a mixture of several"
        )
    if mixture:
        dataset: TwoViewDataset | MixtureDataset = _mixed(cfg, mixture, pipeline)
    else:
        manifest = manifest_of(cfg, source_of(cfg.data, split, cfg.train_subset))
        labels = frame_labels(annotations, manifest, layout_of(model), cfg.sample_rate) if annotations else None
        dataset = _listed(cfg, manifest, pipeline, labels=labels)
    if model is not None:
        dataset.name_too_long(cfg.max_tokens, accepted=cfg.accept_left_out)
        check_lengths(dataset, model, cfg, training=split == cfg.train_subset)
    return dataset


def _listed(
    cfg: Any,
    manifest: Manifest,
    pipeline: Pipeline,
    on_bad_audio: str | None = None,
    labels: FrameLabels | None = None,
) -> TwoViewDataset:
    return TwoViewDataset(
        manifest,
        pipeline,
        cfg.sample_rate,
        cfg.seed,
        max_sample_size=cfg.max_sample_size,
        min_sample_size=cfg.min_sample_size or 0,
        pad=cfg.enable_padding,
        normalize=cfg.normalize,
        on_bad_audio=on_bad_audio or str(cfg.on_bad_audio),
        augment_device=str(cfg.augment_device),
        resample=cfg.resample,
        accept_left_out=cfg.accept_left_out,
        crop_step=cfg.crop_step,
        frame_labels=labels,
        patience=_patience(cfg),
        requests=cfg.stream_requests,
    )


def _mixed(cfg: Any, mixture: Mixture, other: Pipeline) -> MixtureDataset:
    parts = {}
    for corpus in mixture.corpora:
        manifest = manifest_of(cfg, corpus.manifest, corpus.on_bad_audio)
        own = pipeline_of(cfg, corpus.augment, manifest.source)
        parts[corpus.name] = _listed(cfg, manifest, own, corpus.on_bad_audio)
    dataset = MixtureDataset(mixture, parts, other)
    for name, part in parts.items():
        hours = int(part.sizes.sum()) / cfg.sample_rate / 3600
        processed = hours * dataset.quotas[name] / len(part)
        logger.info(f"plan: {mixture.source}: {name}: {hours:.4g} h, of which an epoch has {processed:.4g} h")
    return dataset
