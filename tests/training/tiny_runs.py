"""Pre-trainings of seconds in the test's process: a tiny model on speech-like waves, what it logs as a history."""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch
from fairseq.logging import metrics

from ccc_w2v.criterion import CccCriterion
from ccc_w2v.settings.criterion import CccCriterionConfig
from tests.fake_corpora import RATE, speech_like
from tests.tiny_models import NO_DROPOUT, tiny_ccc

MODEL = {
    **NO_DROPOUT,
    "conv_feature_layers": "[(16,20,10)] + [(24,3,2)]*3 + [(32,3,2)]*2",
    "layer_norm_first": True,
    "encoder_embed_dim": 48,
    "encoder_ffn_embed_dim": 96,
    "latent_vars": 16,
    "mask_length": 5,
    "num_negatives": 30,
    "latent_temp": (2.0, 0.5, 0.98),
}


def noisy(waves_BS, generator):
    """Return a second view: the waves with noise at 10 dB."""
    return waves_BS + 0.3 * waves_BS.std() * torch.randn(waves_BS.shape, generator=generator)


def tiny_history(
    updates=150,
    *,
    seed=1,
    utterances=4,
    seconds=2.0,
    learning_rate=3e-3,
    wave=speech_like,
    second_view=noisy,
    every=10,
    mask=None,
    **settings,
):
    """Train and return the rows that a log would hold; settings of the criterion, or of the model by "model_" names."""
    own = {name.removeprefix("model_"): value for name, value in settings.items() if name.startswith("model_")}
    chosen = {name: value for name, value in settings.items() if not name.startswith("model_")}
    model = tiny_ccc(seed, **{**MODEL, **own}).train()
    task = SimpleNamespace(cfg=SimpleNamespace(seed=seed))
    chosen = {"diversity_weight": 0.3, "cluster_factor": 4, **chosen}
    criterion = CccCriterion(CccCriterionConfig(**chosen), task).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), eps=1e-6)
    samples, warmup, rows = int(seconds * RATE), 20, []
    pool = torch.stack([torch.as_tensor(wave(samples, 100 * seed + number)).float() for number in range(24)])
    pool = torch.nn.functional.layer_norm(pool, (samples,))
    with metrics.aggregate(new_root=True) as meters:
        for update in range(updates):
            model.set_num_updates(update)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * min(1.0, (update + 1) / warmup)
            generator = torch.Generator().manual_seed(1000 * seed + update)
            source = pool[torch.randperm(len(pool), generator=generator)[:utterances]]
            views = {"source": source, "source_aug": second_view(source, generator), "seed": update}
            if mask is not None:
                views["mask_indices"] = mask(utterances, samples, model)
            loss, frames, logged = criterion(model, {"id": torch.arange(utterances), "net_input": views})
            optimizer.zero_grad()
            (loss / frames).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            CccCriterion.reduce_metrics([logged])
            metrics.log_scalar("audio_per_update", logged["audio_samples"] / RATE)
            if (update + 1) % every == 0:
                values = meters.get_smoothed_values()
                rows.append({"update": update + 1} | {k: float(v) for k, v in values.items() if v is not None})
                meters.reset()
    assert all(math.isfinite(row["loss"]) for row in rows), "a test that provokes infinities must say so"
    return rows
