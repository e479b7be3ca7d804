"""Online clustering, prediction and schedules, against the numbers of CAPI's own code (tests/data/capi.pt)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ccc_w2v.errors import InputError
from ccc_w2v.losses.cluster_head import Balance, ClusterHead, PredictionHead, cluster_points, soft_cross_entropy
from ccc_w2v.losses.schedule import warmup_then_cosine
from ccc_w2v.losses.sinkhorn import sinkhorn

FIXTURE = torch.load(Path(__file__).parents[1] / "data" / "capi.pt", weights_only=True)
SINKHORN = [
    pytest.param(logits["logits"], case, id=f"{name}-{case['temperature']}-{case['iterations']}-{case['positionwise']}")
    for name, logits in FIXTURE["sinkhorn"].items()
    for case in logits["cases"]
]


def close(actual, expected, relative):
    torch.testing.assert_close(actual, expected, rtol=0, atol=relative * float(expected.abs().max()))


@pytest.mark.parametrize(("logits", "case"), SINKHORN)
def test_assignments_are_the_originals(logits, case):
    """Positions of their own are leading axes; balanced together they are flattened, as speech is."""
    for dtype, key, tolerance in ((torch.float64, "assignments_float64", 1e-12), (torch.float32, "assignments", 5e-6)):
        scores = logits.to(dtype) / case["temperature"]
        if not case["positionwise"]:
            scores = scores.flatten(0, -2)
        before = scores.clone()
        close(sinkhorn(scores, case["iterations"]).view(logits.shape), case[key], tolerance)
        assert torch.equal(scores, before)


@pytest.mark.parametrize("case", FIXTURE["online_clustering"], ids=lambda case: case["name"])
def test_head_its_loss_and_its_gradients_are_the_originals(case):
    points, weight = case["x"].clone().requires_grad_(), case["weight"].clone().requires_grad_()
    bias = case.get("layer_bias", torch.zeros(len(weight))).clone().requires_grad_()
    how = Balance(case["n_sk_iter"], case["target_temp"], case["pred_temp"])
    shaped = points if case["positionwise_sk"] else points.flatten(0, -2)
    assigned, loss = cluster_points(shaped, weight, bias, how)
    loss.mean().backward()
    close(assigned.view(case["assignments"].shape), case["assignments"], 5e-6)
    close(loss.mean(), case["loss"], 5e-6)
    close(weight.grad, case["grad_weight"], 5e-6)
    close(points.grad, case["grad_x"], 5e-6)
    if "grad_bias" in case:
        close(bias.grad, case["grad_bias"], 5e-6)


def test_teacher_and_student_are_the_originals():
    case = FIXTURE["teacher_student"]
    weight, bias = (case[key].clone().requires_grad_() for key in ("teacher_weight", "teacher_bias"))
    how = Balance(case["n_sk_iter"], case["target_temp"], case["pred_temp"])
    assigned, loss = cluster_points(case["teacher_features_BTC"].transpose(0, 1), weight, bias, how)
    loss.mean().backward()
    targets = assigned.transpose(0, 1).flatten(0, 1)[case["predict_indices"]]
    close(targets, case["targets"], 5e-6)
    close(loss.mean(), case["clustering_loss"], 5e-6)
    close(weight.grad, case["grad_teacher_weight"], 5e-6)
    close(bias.grad, case["grad_teacher_bias"], 5e-6)

    predictions = case["student_predictions"].clone().requires_grad_()
    head = PredictionHead(predictions.size(1), len(case["student_weight_v"]), torch.Generator())
    with torch.no_grad():
        head.direction_KE.copy_(case["student_weight_v"])
        head.length_K1.copy_(case["student_weight_g"])
    scores = head(predictions)
    close(scores, case["student_scores"], 5e-6)
    loss = soft_cross_entropy(scores / case["student_temp"], case["targets"]).mean()
    loss.backward()
    close(loss.double(), case["student_loss"], 5e-6)
    close(predictions.grad, case["grad_student_predictions"], 5e-6)
    close(head.direction_KE.grad, case["grad_student_weight_v"], 5e-6)
    close(head.length_K1.grad, case["grad_student_weight_g"], 5e-6)


@pytest.mark.parametrize("case", FIXTURE["student_loss_on_logits"], ids=lambda case: str(case["temperature"]))
def test_the_students_cross_entropy_is_the_originals(case):
    logits = case["logits"].clone().requires_grad_()
    loss = soft_cross_entropy(logits / case["temperature"], case["targets"]).mean()
    loss.backward()
    close(loss.double(), case["loss"], 5e-6)
    close(logits.grad, case["grad_logits"], 5e-6)


@pytest.mark.parametrize("name", [name for name in FIXTURE["schedules"] if name != "small_freeze"])
def test_schedules_are_the_originals(name):
    """Its ``freeze_iters``, which the release does not use, are left out."""
    case = FIXTURE["schedules"][name]
    arguments = dict(case["arguments"])
    names = {"base_value": "base", "final_value": "final", "total_iters": "total", "warmup_iters": "warmup"}
    names |= {"start_warmup_value": "start", "truncate_cos": "truncate"}
    settings = {names[key]: value for key, value in arguments.items()}
    actual = [warmup_then_cosine(update, **settings) for update in case["iteration"].tolist()]
    torch.testing.assert_close(torch.tensor(actual, dtype=torch.float64), case["value"], rtol=1e-12, atol=1e-12)


def head_of(weight, bias, how):
    head = ClusterHead(weight.size(1), len(weight), how, torch.Generator())
    with torch.no_grad():
        head.weight_KE.copy_(weight)
        head.bias_K.copy_(bias)
    return head


def test_the_heads_optimiser_takes_the_originals_steps():
    trace = FIXTURE["clustering_optimiser_trace"]
    how = Balance(trace["n_sk_iter"], trace["target_temp"], trace["pred_temp"])
    head = head_of(trace["weight_initial"], trace["bias_initial"], how)
    for step in trace["steps"]:
        # The trace balances each position apart.
        _, loss = head.assign(step["x"], learn=True)
        close(loss.mean(), step["loss"], 5e-6)
        head.step(step["lr"])
        close(head.weight_KE.detach(), step["weight_after"], 5e-6)
        close(head.bias_K.detach(), step["bias_after"], 5e-5)


def test_gradients_of_several_batches_are_averaged_and_those_of_a_skipped_update_dropped():
    draw = torch.Generator().manual_seed(0)
    batches = torch.randn(3, 10, 8, generator=draw)
    heads = [ClusterHead(8, 5, Balance(), torch.Generator().manual_seed(1)) for _ in range(2)]
    heads[0].assign(batches[2], learn=True)
    heads[0].forget()
    for batch in batches[:2]:
        heads[0].assign(batch, learn=True)
    gradients = []
    for batch in batches[:2]:
        loss = cluster_points(batch, heads[1].weight_KE, heads[1].bias_K, heads[1].how).loss.mean()
        gradients.append(torch.autograd.grad(loss, heads[1].weight_KE)[0])
    torch.testing.assert_close(heads[0]._summed[0] / heads[0]._batches, sum(gradients) / 2)
    before = heads[0].weight_KE.detach().clone()
    heads[0].step(0.1)
    assert not torch.equal(before, heads[0].weight_KE)
    after = heads[0].weight_KE.detach().clone()
    heads[0].step(0.1)  # nothing to learn from
    assert torch.equal(after, heads[0].weight_KE)


def test_a_restored_head_goes_on_as_the_first(tmp_path):
    draw = torch.Generator().manual_seed(0)
    batches = torch.randn(4, 10, 8, generator=draw)
    first = ClusterHead(8, 5, Balance(), torch.Generator().manual_seed(1))
    for batch in batches[:2]:
        first.assign(batch, learn=True)
        first.step(0.1)
    torch.save(first.state_dict(), tmp_path / "head.pt")
    second = ClusterHead(8, 5, Balance(), torch.Generator().manual_seed(2))
    second.load_state_dict(torch.load(tmp_path / "head.pt", weights_only=True))
    for batch in batches[2:]:
        for head in (first, second):
            head.assign(batch, learn=True)
            head.step(0.1)
    assert torch.equal(first.weight_KE, second.weight_KE)
    assert torch.equal(first.bias_K, second.bias_K)
    with pytest.raises(InputError, match="criterion.prototypes=6: the run that is resumed here has 5"):
        ClusterHead(8, 6, Balance(), torch.Generator()).load_state_dict(first.state_dict())


def test_a_process_without_points_has_none_and_no_gradient():
    head = ClusterHead(8, 5, Balance(), torch.Generator().manual_seed(1))
    assigned, loss = head.assign(torch.zeros(0, 8), learn=True)
    assert assigned.shape == (0, 5)
    assert loss.shape == (0,)
    assert not head._summed[0].any()


def _rank(rank, file, points, results):
    import torch.distributed as distributed

    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=len(points))
    head = ClusterHead(8, 5, Balance(), torch.Generator().manual_seed(1))
    assigned = []
    for _ in range(3):
        assigned.append(head.assign(points[rank], learn=True).assigned)
        head.step(0.1)
    results[rank] = (torch.stack(assigned), head.weight_KE.detach(), head.bias_K.detach())
    distributed.barrier()
    distributed.destroy_process_group()


def test_several_processes_equal_a_batch_of_all_their_points(tmp_path):
    """Of different sizes, a process without points included."""
    import torch.multiprocessing as multiprocessing

    draw = torch.Generator().manual_seed(0)
    points = [torch.randn(count, 8, generator=draw) for count in (7, 0, 12)]
    with multiprocessing.Manager() as manager:
        results = manager.dict()
        multiprocessing.spawn(_rank, (str(tmp_path / "meet"), points, results), nprocs=3)
        ranks = [results[rank] for rank in range(3)]
    head = ClusterHead(8, 5, Balance(), torch.Generator().manual_seed(1))
    together = []
    for _ in range(3):
        together.append(head.assign(torch.cat(points), learn=True).assigned)
        head.step(0.1)
    torch.testing.assert_close(torch.cat([assigned for assigned, *_ in ranks], dim=1), torch.stack(together))
    for _, weight, bias in ranks:
        assert torch.equal(weight, ranks[0][1])
        torch.testing.assert_close(weight, head.weight_KE.detach())
        torch.testing.assert_close(bias, head.bias_K.detach(), rtol=1e-4, atol=1e-5)
