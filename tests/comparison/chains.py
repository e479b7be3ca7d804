"""Chains of a comparison as they lie when they have ended, without the trainings."""

from __future__ import annotations

import json

from ccc_w2v.comparison.chain import claim_chain
from ccc_w2v.comparison.settings import Settings, choose_arms, load_scale

TEXTS = {"1-2-0000": "the tame hen", "1-2-0001": "two hens", "3-4-0000": "a fox"}


def settings(recipe, out, **changed):
    values = {"recipe": recipe, "data": recipe.parent / "data", "out": out, "seeds": (1,), "labels": ("10m",)}
    return Settings(**{**values, "arms": choose_arms(recipe, ["none"]), "scale": load_scale(recipe, "tiny"), **changed})


def trn(texts):
    return "".join(f"{text} ({name})\n" for name, text in texts.items())


def finish(comparison, number=0, seed=1):
    """Write what the chain of an arm, by its number, leaves, each cell with hypotheses of its own; returns the arm."""
    arm = comparison.arms[number]
    folder = comparison.folder(arm, seed)
    claim_chain(folder, arm)
    for lost, cell in enumerate(comparison.cells, number * seed):
        texts = comparison.transcripts(arm, seed, *cell)
        texts.mkdir(parents=True)
        (texts / "ref.trn").write_text(trn(TEXTS))
        (texts / "hyp.trn").write_text(trn({name: text[lost:] for name, text in TEXTS.items()}))
    tuned = {"10m": {"chosen": "all", "dev": {"all": 50.0}}}
    chain = {"arm": arm.name, "seed": seed, "commit": "c0ffee", "encoder_passes": 0, "pretraining_seconds": 0.0}
    (folder / "chain.json").write_text(json.dumps({**chain, "finetuning_seconds": {"10m": 2.5}, "finetuning": tuned}))
    return arm
