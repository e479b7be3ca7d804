"""A split of a training's data as its task's settings want it: the dataset and the pipeline that all splits share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ccc_w2v.augment.pipeline import Pipeline, load_pipeline, manifest_settings
from ccc_w2v.capacity import check_lengths
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.dataset.frame_labels import frame_labels, layout_of
from ccc_w2v.dataset.two_view import TwoViewDataset


def pipeline_of(cfg: Any) -> Pipeline:
    """Return the augmentation of a task's settings; voices to mix in are the training set's where none are named."""
    manifests = {name: getattr(cfg, name) for name in manifest_settings()}
    speech = Path(cfg.data) / f"{cfg.train_subset}.tsv"
    return load_pipeline(cfg.augment, cfg.sample_rate, fallbacks={"babble_manifest": speech}, **manifests)


def load_split(cfg: Any, split: str, pipeline: Pipeline, model: Any) -> TwoViewDataset:
    """Read <data>/<split>.tsv; raises InputError for what cannot be trained on.

    ``model`` says how long crops must and can be; None where there is only data.
    """
    manifest = read_manifest(Path(cfg.data) / f"{split}.tsv")
    labels = None
    if cfg.annotations is not None and model is not None and split == cfg.train_subset:
        labels = frame_labels(cfg.annotations, manifest, layout_of(model), cfg.sample_rate)
    dataset = TwoViewDataset(
        manifest,
        pipeline,
        cfg.sample_rate,
        cfg.seed,
        max_sample_size=cfg.max_sample_size,
        min_sample_size=cfg.min_sample_size or 0,
        pad=cfg.enable_padding,
        normalize=cfg.normalize,
        on_bad_audio=str(cfg.on_bad_audio),
        augment_device=str(cfg.augment_device),
        resample=cfg.resample,
        accept_left_out=cfg.accept_left_out,
        crop_step=cfg.crop_step,
        frame_labels=labels,
    )
    if model is not None:
        dataset.name_too_long(cfg.max_tokens, accepted=cfg.accept_left_out)
        check_lengths(dataset, model, cfg, training=split == cfg.train_subset)
    return dataset
