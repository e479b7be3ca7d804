"""The graph of code transitions, and clusters by flow imbalance, held to numbers of the authors' implementation."""

from pathlib import Path

import pytest
import torch

from ccc_w2v.probe.code_flow import cluster_by_flow, flows, imbalance_loss, transition_counts

CASES = torch.load(Path(__file__).parents[1] / "data" / "digrac.pt", weights_only=True)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['name']}-{case['normalization']}-{case['threshold']}")
def test_losses_and_gradients_are_the_authors(case):
    weights, assignment = case["A"].double(), case["P"].double().requires_grad_()
    loss = imbalance_loss(
        weights,
        assignment,
        normalization=case["normalization"],
        selection=case["threshold"],
        pairs=case["selected_pairs"],
    )
    # The authors compute in float32.
    assert float(loss.detach()) == pytest.approx(float(case["loss"]), abs=5e-6)
    if case["gradient_reaches_P"]:
        loss.backward()
        expected = case["grad_P"].double()
        torch.testing.assert_close(assignment.grad, expected, rtol=0, atol=5e-6 * float(expected.abs().max()))


def test_flows_are_the_authors():
    for case in CASES:
        torch.testing.assert_close(flows(case["A"].double(), case["P"].double()), case["own_flow_matrix"])


def test_every_selection_has_a_gradient():
    case = next(case for case in CASES if case["threshold"] == "std")
    assignment = case["P"].double().requires_grad_()
    imbalance_loss(case["A"].double(), assignment, selection="std").backward()
    assert assignment.grad.abs().max() > 0


def test_transitions_are_counted_within_sequences():
    counts = transition_counts([torch.tensor([0, 0, 1, 2]), torch.tensor([1, 2])], 3)
    assert counts.tolist() == [[0, 1, 0], [0, 0, 2], [0, 0, 0]]


def test_planted_groups_of_a_cycle_are_found():
    """Three groups of four codes, of which each leads to the next, with a tenth of the transitions backwards."""
    draw = torch.Generator().manual_seed(1)
    truth = torch.arange(12) % 3
    weights = torch.randint(1, 4, (12, 12), generator=draw).double()
    ahead = (truth[None, :] - truth[:, None]) % 3
    weights = torch.where(ahead == 1, 10 * weights, weights).fill_diagonal_(0)
    clusters = cluster_by_flow(weights, 3, torch.Generator().manual_seed(2), restarts=4)
    same = clusters.labels_N[:, None] == clusters.labels_N
    assert torch.equal(same, truth[:, None] == truth)
    assert clusters.loss == pytest.approx(float(imbalance_loss(weights, torch.eye(3).double()[truth])), abs=1e-9)


def test_unknown_settings_are_named():
    weights, assignment = torch.rand(4, 4), torch.eye(4)
    with pytest.raises(ValueError, match="vol_sum"):
        imbalance_loss(weights, assignment, normalization="none")
    with pytest.raises(ValueError, match="naive"):
        imbalance_loss(weights, assignment, selection="none")
