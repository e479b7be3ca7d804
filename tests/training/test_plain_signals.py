"""fairseq's own criterion under our names, so that rules and plots see a plain wav2vec 2.0 run too."""

import math
from types import SimpleNamespace

import pytest

from ccc_w2v.training.health.rules import load_rules
from ccc_w2v.training.health.verdict import judge
from ccc_w2v.training.plain_signals import as_ours

MODEL = SimpleNamespace(n_negatives=100, quantizer=SimpleNamespace(num_vars=80, groups=2))


def test_names_shares_and_distance_from_chance():
    values = {"loss_0": 5.0, "loss_1": 0.1, "loss_2": 0.05, "accuracy": 0.2, "code_perplexity": 40.0, "lr": 1e-3}
    assert as_ours(values, MODEL) == {
        "loss_contrastive": 5.0,
        "loss_diversity": 0.1,
        "loss_penalty": 0.05,
        "accuracy_contrastive": 0.2,
        "below_chance_contrastive": pytest.approx(math.log2(101) - 5.0),
        "code_perplexity_share": 0.25,
    }
    assert as_ours({"loss_contrastive": 5.0}, MODEL) == {}


def test_a_plain_run_that_narrows_is_found():
    """Code perplexity of docs/evidence.md's run with diversity_weight 0.1, in fairseq's own names."""
    measured = [106.166, 93.517, 66.279, 34.819, 22.783]
    rows = [
        {"update": 100 * number, **as_ours({"loss_0": 5.0, "code_perplexity": value}, MODEL)}
        for number, value in enumerate(measured, start=1)
    ]
    assert judge(rows, load_rules()).findings[0].rule.name == "codebook_narrowed"
