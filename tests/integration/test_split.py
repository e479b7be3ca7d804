"""A batch shared out over GPUs and accumulation steps in another way has the same gradient.

Four batches make an update: accumulated by one process, or two by each of two. What depends on its local batch by
definition (clusters of scope "batch", the codebook's diversity, the mask's size) is the same, since the four batches
are; what must not depend on who has them is the draws (negatives, masks, Gumbel noise) and the constants of the loss.
"""

import os
import subprocess

import pytest
import torch

from tests.integration.test_training import ROOT, TRAIN, command, corpus, state, train  # noqa: F401

DECAY = 0.9  # Adam's first beta in the demo's configuration


def gradients(folder):
    """Gradients of the only update, by parameter: Adam's first moment is a tenth of them.

    Weights would not do: after one step of Adam they are the same for any multiple of the gradient.
    """
    moments = state(folder)["last_optimizer_state"]["state"]
    return {key: moments[key]["exp_avg"] / (1 - DECAY) for key in sorted(moments)}


@pytest.mark.parametrize("scope", ["batch"])
def test_one_process_that_accumulates_four_batches_equals_two_that_accumulate_two(corpus, tmp_path, scope):  # noqa: F811
    overrides = [
        *("optimization.max_update=1", "optimization.clip_norm=0", f"+criterion.cluster_scope={scope}"),
        # Layer drop is drawn for each batch and stays; dropout is drawn from torch's own generator, in each process.
        *("+model.dropout=0", "dataset.max_tokens=32000"),
    ]
    alone = train(corpus, tmp_path / "alone", *overrides, "+optimization.update_freq=[4]")
    assert alone.returncode == 0, alone.stderr[-2000:]
    arguments = command(corpus, tmp_path / "two", *overrides, "+optimization.update_freq=[2]")[1:]
    two = subprocess.run(
        [ROOT / "recipes/launch/one_node.sh", "2", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{TRAIN.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert two.returncode == 0, two.stderr[-2000:]
    expected, actual = gradients(tmp_path / "alone"), gradients(tmp_path / "two")
    assert expected.keys() == actual.keys()
    assert len(expected) > 20
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    assert largest > 0.01
    for key, gradient in expected.items():
        torch.testing.assert_close(actual[key], gradient, rtol=1e-4, atol=1e-6 * largest)
