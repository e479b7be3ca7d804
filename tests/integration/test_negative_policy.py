"""A training whose negatives a policy chooses: validations reward it, and a resumed run equals the straight one."""

import shutil

import torch

from tests.fake_corpora import write_corpus
from tests.integration.test_resume import arguments, done, same
from tests.integration.test_training import state


def test_a_resumed_training_has_the_policy_of_the_uninterrupted_one(warm, tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    write_corpus(corpus, [16000 + 500 * i for i in range(12)], "pretrain")
    write_corpus(corpus, [16000, 18000], "pretrain_valid", seed=50)
    settings = [
        *("optimization.max_update=8", "lr_scheduler.warmup_updates=2", "dataset.max_tokens=64000"),
        *("+criterion.negatives=learned", "+criterion.negative_weights=[1.0,1.0,1.0,1.0]"),
        *("checkpoint.save_interval_updates=4", "checkpoint.keep_interval_updates=-1"),
        *("dataset.disable_validation=false", "dataset.validate_interval_updates=2"),
    ]
    done(warm.run(arguments(corpus, tmp_path / "straight", *settings), tmp_path / "log"))
    expected = state(tmp_path / "straight")
    (half,) = (tmp_path / "straight" / "checkpoints").glob("checkpoint_*_4.pt")
    (tmp_path / "resumed" / "checkpoints").mkdir(parents=True)
    shutil.copy(half, tmp_path / "resumed" / "checkpoints" / "checkpoint_last.pt")
    done(warm.run(arguments(corpus, tmp_path / "resumed", *settings), tmp_path / "log"))
    resumed, first = state(tmp_path / "resumed"), torch.load(half, weights_only=True)
    policies = [kept["extra_state"]["CccPretrainingTask"]["negative_policy"] for kept in (expected, resumed, first)]
    assert policies[0] == policies[1]
    # Saved behind a validation whose reward is still to be taken.
    assert [policy["choices"] for policy in policies] == [3, 3, 1]
    assert all(policy["frames"] > 0 for policy in policies)
    assert same(expected["model"], resumed["model"])
    assert not same(expected["model"], first["model"])
