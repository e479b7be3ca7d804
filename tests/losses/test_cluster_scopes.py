"""criterion.cluster_scope: whose targets are clustered together."""

from types import SimpleNamespace

import pytest
import torch
from fairseq.tasks.fairseq_task import StatefulContainer

from ccc_w2v.criterion import CccCriterion
from ccc_w2v.errors import InputError
from ccc_w2v.losses.kmeans import cosine_kmeans
from ccc_w2v.losses.negatives import sample_negatives
from ccc_w2v.losses.quantization import gumbel_noise
from ccc_w2v.settings.criterion import CLUSTER_SCOPES, CccCriterionConfig
from tests.tiny_models import NO_DROPOUT, TINY, tiny_ccc

BANK = {"bank_clusters": 3, "bank_size": 200, "bank_points": 60, "bank_refit_updates": 4}


def task(seed=1):
    cfg = SimpleNamespace(seed=seed, annotations="train.align.tsv")
    return SimpleNamespace(state=StatefulContainer(), cfg=cfg, target_width=TINY["final_dim"])


def criterion(scope, owner=None, **settings):
    return CccCriterion(CccCriterionConfig(cluster_scope=scope, **settings), owner or task())


def sample(seed=1, utterances=3, samples=16000):
    draw = torch.Generator().manual_seed(seed)
    source = torch.randn(utterances, samples, generator=draw)
    other = source + 0.1 * torch.randn(source.shape, generator=draw)
    classes = torch.randint(-1, 4, (utterances, 49), generator=draw)
    views = {"source": source, "source_aug": other, "seed": seed}
    return {"id": torch.arange(utterances), "classes": classes, "net_input": views}


@pytest.mark.parametrize("scope", ["batch", "utterance"])
@pytest.mark.parametrize("factor", [1, 4, 7])
def test_there_is_a_cluster_for_so_many_masked_frames(scope, factor):
    output = tiny_ccc(**NO_DROPOUT)(**sample()["net_input"])
    _, clusters = criterion(scope, cluster_factor=factor).clusters_of(output, 1)
    assert clusters == output.original.target_BMD.size(1) // factor


@pytest.mark.parametrize("scope", CLUSTER_SCOPES)
@pytest.mark.parametrize("mode", ["scale_similarity", "log_weight", "remove"])
def test_every_scope_trains_in_every_mode(scope, mode):
    model, ours = tiny_ccc().train(), criterion(scope, near_positives=mode, **BANK)
    for update in range(6):
        model.set_num_updates(update)
        loss, _, logged = ours(model, sample(update))
    loss.backward()
    assert torch.isfinite(loss)
    assert 0 < logged["near_positives"] < logged["negatives"]
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_each_utterance_is_clustered_with_its_own_pair():
    model, batch = tiny_ccc(**NO_DROPOUT).eval(), sample()
    output = model(**batch["net_input"])
    frames = output.original.target_BMD.size(1)
    draw = torch.Generator().manual_seed(0)
    batch["kmeans_starts"] = torch.stack([torch.randperm(2 * frames, generator=draw)[:3] for _ in range(3)]).unsqueeze(
        1
    )
    result = criterion("utterance").objective(model, output, batch)
    assert result.clusters == 3
    for index in range(3):
        alone = torch.cat([output.original.target_BMD[index], output.augmented.target_BMD[index]])
        labels = cosine_kmeans(alone[None], batch["kmeans_starts"][index : index + 1], 18)[0]
        assert torch.equal(torch.cat([result.original.labels_BM[index], result.augmented.labels_BM[index]]), labels)


def test_global_is_like_batch_until_the_bank_was_clustered_and_then_takes_its_centroids():
    model, owner = tiny_ccc(**NO_DROPOUT).train(), task()
    ours = criterion("global", owner, **BANK)
    bank = owner.state.target_bank
    for update in range(4):
        model.set_num_updates(update)
        output = model(**sample(update)["net_input"])
        result = ours.objective(model, output, sample(update))
        if bank["centroids"] is None:
            plain = criterion("batch").objective(model, output, sample(update))
            assert torch.equal(result.original.labels_BM, plain.original.labels_BM)
    assert bank["fitted_at"] == 1  # 117 targets are needed: two batches of 60
    assert result.clusters == 3
    labels = torch.nn.functional.normalize(output.original.target_BMD, dim=-1) @ bank["centroids"].T
    assert torch.equal(result.original.labels_BM, labels.argmax(-1))


def test_the_bank_is_kept_in_the_tasks_state_and_never_in_the_models():
    model, owner = tiny_ccc().train(), task()
    names = list(model.state_dict())
    ours = criterion("global", owner, **BANK)
    ours(model, sample())
    assert list(model.state_dict()) == names
    assert not list(ours.parameters())
    assert not list(ours.buffers())
    assert owner.state.state_dict["target_bank"]["filled"] == 60


def test_validation_and_lost_batches_leave_the_bank_as_it_is():
    model, owner = tiny_ccc(), task()
    ours = criterion("global", owner, **BANK)
    ours(model.eval(), sample())
    assert owner.state.target_bank["filled"] == 0
    ours(model.train(), {**sample(), "lost": True})
    assert not owner.state.target_bank["points"].any()


@pytest.mark.parametrize(
    "settings",
    [{"bank_clusters": 1}, {"bank_size": 116}, {"bank_points": 0}, {"bank_refit_updates": 0}, {"kmeans_restarts": 0}],
)
def test_settings_that_cannot_work_are_refused_when_the_criterion_is_built(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        criterion("global", **{**BANK, **settings})


@pytest.mark.parametrize(("scope", "factor"), [("utterance", 0.3), ("batch", 1.0), ("batch", 0.3)])
def test_a_batch_has_the_gradient_of_its_parts_wherever_no_cluster_spans_them(scope, factor):
    """With the same draws. What a local batch shares by definition: clusters of scope batch, the codebook's use."""
    model, whole = tiny_ccc(**NO_DROPOUT).train(), sample(utterances=4)
    ours = criterion(scope, scale_factor=factor, diversity_weight=0.0)
    views = whole["net_input"]
    views["mask_indices"] = model.draw_mask(views["source"], None, seed=1)
    frames = int(views["mask_indices"][0].sum())
    draw = torch.Generator().manual_seed(0)
    for view in ("", "_aug"):
        views["gumbel" + view] = gumbel_noise((4, frames, 2, 16), draw)
        whole["negatives" + view] = sample_negatives(4, frames, 10, draw)
    points = 2 * frames if scope == "utterance" else 2 * 4 * frames
    whole["kmeans_starts"] = torch.stack([torch.randperm(points, generator=draw)[:5] for _ in range(4)]).unsqueeze(1)
    if scope == "batch":
        # Of one part's points: a part that is clustered alone must be able to start from them.
        whole["kmeans_starts"] = whole["kmeans_starts"][:1] % frames

    def part(chosen):
        rows = {key: value[chosen] for key, value in whole.items() if key not in ("net_input", "kmeans_starts")}
        starts = whole["kmeans_starts"][chosen] if scope == "utterance" else whole["kmeans_starts"]
        cut = {key: value[chosen] if torch.is_tensor(value) else value for key, value in views.items()}
        return {**rows, "kmeans_starts": starts, "net_input": cut}

    def gradient(parts):
        model.zero_grad()
        for rows in parts:
            ours(model, rows)[0].backward()
        return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    expected, actual = gradient([whole]), gradient([part(slice(0, 2)), part(slice(2, 3)), part(slice(3, 4))])
    scale = max(float(value.abs().max()) for value in expected.values())
    same = [torch.allclose(actual[name], value, rtol=1e-4, atol=1e-5 * scale) for name, value in expected.items()]
    assert all(same) != (scope == "batch" and factor < 1)


def test_the_annotated_scope_takes_the_networks_clusters_once_it_has_learned():
    ours = criterion("annotated", annotated_start=2, annotated_clusters=5)
    batchwise, model = criterion("batch"), tiny_ccc(**NO_DROPOUT).train()
    for update in range(4):
        batch = sample(update)
        output = model(**batch["net_input"])
        labels, clusters = ours.clusters_of(output, update)
        if update < 2:
            expected, expected_clusters = batchwise.clusters_of(output, update)
            assert clusters == expected_clusters
        else:
            assert clusters == 5
            expected = {name: ours.membership.labels(view.target_BMD) for name, view in output.views().items()}
        assert all(torch.equal(labels[name], expected[name]) for name in labels)
        _, _, logged = ours(model, batch)
        ours.membership.step()
    assert float(logged["signal_loss_pairs"][1]) > 0
    assert float(logged["signal_pairs_same"][0] / logged["signal_pairs_same"][1]) == pytest.approx(0.25, abs=0.15)
    # Validation observes nothing.
    assert "signal_loss_pairs" not in ours(model.eval(), sample())[2]


def test_the_objective_has_no_gradient_of_the_network_and_the_network_none_of_the_objective():
    ours, model = criterion("annotated", annotated_start=0), tiny_ccc(**NO_DROPOUT).train()
    plain = criterion("annotated", annotated_start=0, annotated_lr=1.0)
    losses = []
    for each_criterion in (ours, plain):
        loss, _, _ = each_criterion(model, sample())
        losses.append(loss)
        loss.backward()
        assert all(tensor.grad is None for tensor in each_criterion.membership.parameters.values())
        assert any(float(summed.abs().max()) > 0 for summed in each_criterion.membership._summed)
    assert torch.equal(*losses)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"annotated_clusters": 1}, "annotated_clusters=1"),
        ({"annotated_hidden": 0}, "annotated_hidden=0"),
        ({"annotated_pairs": 0}, "annotated_pairs=0"),
        ({"annotated_volume": -1.0}, "annotated_volume=-1.0"),
        ({"annotated_lr": 0.0}, "annotated_lr=0.0"),
        ({"annotated_start": -1}, "annotated_start=-1"),
    ],
)
def test_settings_of_the_annotated_scope_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        criterion("annotated", **settings)


def test_the_annotated_scope_needs_annotations():
    owner = task()
    owner.cfg.annotations = None
    with pytest.raises(InputError, match=r"set task\.annotations"):
        criterion("annotated", owner)
