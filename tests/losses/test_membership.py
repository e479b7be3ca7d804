"""Clusters guided by pairs of frames: the loss of the authors' own code (tests/data/volmaxdcc.pt), and the network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scipy.stats import chisquare

from ccc_w2v.data.randomness import generator_for
from ccc_w2v.errors import InputError
from ccc_w2v.losses.membership import Membership, MembershipSettings, masked_classes, memberships
from ccc_w2v.losses.pairs import draw_pairs, link_probability, log_volume, pair_loss

FIXTURE = torch.load(Path(__file__).parents[1] / "data" / "volmaxdcc.pt", weights_only=True)
TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6}


def close(value, expected, name):
    tolerance = TOLERANCE[expected.dtype]
    scale = max(float(expected.abs().max()), 1e-15)
    torch.testing.assert_close(value, expected, rtol=0, atol=tolerance * scale, msg=lambda said: f"{name}: {said}")


@pytest.mark.parametrize("case", FIXTURE["logistic"], ids=lambda case: f"{case['B_kind']}-{case['B'].dtype}")
def test_the_loss_of_pairs_and_its_gradients_are_the_originals(case):
    first, second, confusion = (case[name].clone().requires_grad_() for name in ("c_i", "c_j", "B"))
    link = link_probability(first, second, confusion)
    close(link.detach(), case["link_probability"], "link")
    loss = pair_loss(link, case["y"]).mean()
    close(loss.detach(), case["loss"], "loss")
    loss.backward()
    for leaf, name in ((first, "grad_c_i"), (second, "grad_c_j"), (confusion, "grad_B")):
        close(leaf.grad, case[name], name)


@pytest.mark.parametrize("case", FIXTURE["volume"])
def test_the_volume_and_its_gradient_are_the_originals(case):
    members = case["F"].clone().requires_grad_()
    volume = log_volume(members.T @ members)
    volume.backward()
    close(volume.detach(), case["log_det_gram"], "volume")
    close(members.grad, case["grad_F"], "gradient")


def test_a_degenerate_volume_is_finite_with_the_floor_where_the_original_is_not():
    for name in ("duplicate_column", "one_cluster_only"):
        members = FIXTURE["volume_degenerate"][f"F_{name}"]
        assert FIXTURE["volume_degenerate"][f"log_det_gram_{name}"] == float("-inf")
        gram = (members.T @ members).requires_grad_()
        assert float(log_volume(gram.detach())) < -30
        volume = log_volume(gram / len(members), 1e-6)
        volume.backward()
        assert torch.isfinite(volume)
        assert torch.isfinite(gram.grad).all()


@pytest.mark.parametrize("case", FIXTURE["full"], ids=lambda case: f"{case['lam']}-{case['B_trainable']}")
def test_the_whole_loss_of_a_network_and_all_gradients_are_the_originals(case):
    names = {
        "linear0.weight": "hidden_HD",
        "linear0.bias": "hidden_bias_H",
        "linear1.weight": "output_KH",
        "linear1.bias": "output_bias_K",
    }
    own = {names[name]: tensor.clone().requires_grad_() for name, tensor in case["parameters"].items()}
    first, second = (memberships(case[name], own) for name in ("x_i", "x_j"))
    close(first.detach(), case["c_i"], "memberships")
    if not case["B_trainable"]:
        total = pair_loss(link_probability(first, second, torch.eye(first.size(1)).to(first)), case["y"]).mean()
    else:
        logits = case["B_logits"].clone().requires_grad_()
        logistic = pair_loss(link_probability(first, second, torch.sigmoid(logits)), case["y"]).mean()
        close(logistic.detach(), case["logistic"], "logistic")
        everything = memberships(case["X"], own)
        total = logistic - case["lam"] * log_volume(everything.T @ everything)
    total.backward()
    close(total.detach(), case["total"], "total")
    for name, expected in case["gradients"].items():
        close(own[names[name]].grad, expected, name)
    if case["B_trainable"]:
        close(logits.grad, case["grad_B_logits"], "confusion")


def test_pairs_are_drawn_uniformly_among_the_points_with_a_class():
    classes = torch.tensor([-1, 3, 3, -1, 5, -1])
    draw = torch.Generator().manual_seed(0)
    pairs = draw_pairs(classes, torch.rand(2, 9000, generator=draw))
    known = [1, 2, 4]
    table = torch.zeros(6, 6).index_put_((pairs.first_N, pairs.second_N), torch.ones(9000), accumulate=True)
    assert float(table[known][:, known].sum()) == 9000
    assert chisquare(table[known][:, known].flatten().numpy()).pvalue > 0.001
    assert torch.equal(pairs.counts_N, pairs.first_N != pairs.second_N)
    same = {frozenset((1, 2))}
    for first, second, is_same in zip(
        pairs.first_N[:50].tolist(), pairs.second_N[:50].tolist(), pairs.same_N[:50].tolist(), strict=True
    ):
        assert is_same == (first == second or frozenset((first, second)) in same)


@pytest.mark.parametrize("classes", [[-1, -1], [-1, 2]])
def test_fewer_than_two_points_with_a_class_make_no_pair(classes):
    assert not draw_pairs(torch.tensor(classes), torch.rand(2, 20)).counts_N.any()


def test_classes_of_masked_frames_in_their_order():
    classes = torch.arange(10).view(2, 5)
    mask = torch.tensor([[False, True, False, True, True, False], [True, True, False, False, False, True]])
    # The label of a frame that the classes lack is none.
    assert masked_classes(classes, mask, 3).tolist() == [[1, 3, 4], [5, 6, -1]]
    assert masked_classes(classes, mask[:, :4], 2).tolist() == [[1, 3], [5, 6]]


SETTINGS = MembershipSettings(clusters=4, hidden=32, pairs=512, volume=0.01, lr=0.01, start=3)


def blobs(seed, wrong=0.0):
    """Points around four directions, their classes, and which of those are known (half), some of them wrong."""
    draw = torch.Generator().manual_seed(seed)
    kinds = torch.randint(4, (400,), generator=draw)
    points = 3 * torch.eye(8)[kinds] + 0.5 * torch.randn(400, 8, generator=draw)
    named = torch.where(torch.rand(400, generator=draw) < wrong, torch.randint(4, (400,), generator=draw), kinds)
    return points, kinds, torch.where(torch.rand(400, generator=draw) < 0.5, named, -1)


def purity(labels, kinds):
    table = torch.zeros(4, 4).index_put_((labels, kinds), torch.ones(len(kinds)), accumulate=True)
    return float(table.amax(dim=1).sum() / len(kinds))


@pytest.mark.parametrize("wrong", [0.0, 0.3])
def test_the_network_finds_the_classes_also_where_annotations_are_wrong(wrong):
    network = Membership(8, SETTINGS, generator_for(1, "membership"))
    for update in range(300):
        points, _, known = blobs(update, wrong)
        signals = network.observe(points, known, generator_for(update, "pairs"), counts=True)
        network.step()
    points, kinds, _ = blobs(10_000)
    assert purity(network.labels(points), kinds) > 0.95
    assert float(signals["link_same"][0] / signals["link_same"][1]) > float(
        signals["link_other"][0] / signals["link_other"][1]
    )


def test_a_batch_that_does_not_count_teaches_nothing():
    points, _, known = blobs(0)
    networks = [Membership(8, SETTINGS, generator_for(1, "membership")) for _ in range(2)]
    for network in networks:
        network.observe(points, known, generator_for(0, "pairs"), counts=True)
        network.step()
    before = networks[0].state_dict()
    signals = networks[0].observe(points, known, generator_for(1, "pairs"), counts=False)
    assert all(float(value.abs().sum()) == 0 for value in signals.values())
    assert all(float(summed.abs().max()) == 0 for summed in networks[0]._summed)
    networks[0].forget()
    networks[0].step()
    assert networks[0].steps == 1
    assert all(torch.equal(before[name], tensor) for name, tensor in networks[0].parameters.items())


def test_a_network_from_its_state_continues_as_the_other():
    first, second = (Membership(8, SETTINGS, generator_for(seed, "membership")) for seed in (1, 2))

    def update(network, number):
        points, _, known = blobs(number)
        for batch in range(2):
            network.observe(points, known, generator_for(number, "pairs", batch), counts=True)
        network.step()

    for number in range(4):
        update(first, number)
        assert first.ready == (number >= 2)
    second.load_state_dict(first.state_dict())
    assert second.ready
    for number in range(4, 6):
        update(first, number)
        update(second, number)
    assert all(torch.equal(tensor, second.parameters[name]) for name, tensor in first.parameters.items())
    third = Membership(8, MembershipSettings(5, 32, 512, 0.01, 0.01, 3), generator_for(1, "membership"))
    with pytest.raises(InputError, match="annotated_clusters=5"):
        third.load_state_dict(first.state_dict())


def _on_a_process(rank, results, place):
    import torch.distributed as distributed

    distributed.init_process_group("gloo", init_method=f"file://{place}/group", rank=rank, world_size=2)
    network = Membership(8, SETTINGS, generator_for(1, "membership"))
    points, _, known = blobs(0)
    # The second process has a batch that does not count.
    network.observe(points, known, generator_for(0, "pairs"), counts=rank == 0)
    network.step()
    results[rank] = {name: tensor.detach() for name, tensor in network.parameters.items()}
    distributed.destroy_process_group()


def test_two_processes_one_without_a_batch_learn_as_one(tmp_path):
    results = torch.multiprocessing.Manager().dict()
    torch.multiprocessing.spawn(_on_a_process, args=(results, str(tmp_path)), nprocs=2)
    network = Membership(8, SETTINGS, generator_for(1, "membership"))
    points, _, known = blobs(0)
    network.observe(points, known, generator_for(0, "pairs"), counts=True)
    network.step()
    for name, tensor in network.parameters.items():
        for rank in range(2):
            torch.testing.assert_close(results[rank][name], tensor.detach())
