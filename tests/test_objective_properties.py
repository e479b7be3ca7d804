"""Properties of the whole objective: what must not change it, and that nothing makes it NaN."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ccc_w2v.criterion import CccCriterion
from ccc_w2v.losses.contrastive import NEAR_POSITIVE_MODES
from ccc_w2v.losses.objective import TERMS
from ccc_w2v.losses.views import VIEWS, TwoViewOutput, View
from ccc_w2v.settings.criterion import CLUSTER_SCOPES, CccCriterionConfig
from tests.losses.test_cluster_scopes import BANK, sample, task
from tests.tiny_models import NO_DROPOUT, TINY, tiny_ccc


def criterion(**settings):
    return CccCriterion(CccCriterionConfig(**settings), task())


def outputs(seed, utterances=3, frames=20):
    """What a model of two views returns, without the model."""
    draw = torch.Generator().manual_seed(seed)
    views, unread = {}, torch.zeros(())
    for name in VIEWS:
        context, target = (torch.randn(utterances, frames, 8, generator=draw) for _ in range(2))
        codes = torch.randint(6, (utterances, frames, 2), generator=draw)
        views[name] = View(target, context, codes, *[unread] * 5)
    mask = torch.ones(utterances, frames, dtype=torch.bool)
    return TwoViewOutput(mask, **views, gumbel_temperature=1.0, codebook_size=12)


def reordered(output, order):
    """The same output with its utterances in another order."""
    views = {
        name: view._replace(
            target_BMD=view.target_BMD[order], context_BMD=view.context_BMD[order], codes_BMG=view.codes_BMG[order]
        )
        for name, view in output.views().items()
    }
    return output._replace(mask_BT=output.mask_BT[order], **views)


class FakeModel:
    """What the criterion asks of a model beside its output."""

    n_negatives, logit_temp, training, num_updates = 7, 0.1, False, 0


def losses(objective):
    return torch.stack([objective.terms[name].loss for name in TERMS])


SEEDS = st.integers(0, 10_000)


@given(SEEDS, st.sampled_from(["scale_similarity", "log_weight"]), st.integers(1, 20))
@settings(deadline=None, max_examples=30)
def test_factor_one_makes_the_clustering_irrelevant(seed, mode, cluster_factor):
    output, batch = outputs(seed), sample(seed)
    first, other = (
        losses(criterion(scale_factor=1.0, **kind).objective(FakeModel, output, batch))
        for kind in ({"near_positives": mode, "cluster_factor": cluster_factor}, {"cluster_factor": 3})
    )
    torch.testing.assert_close(first, other)


@given(SEEDS)
@settings(deadline=None, max_examples=20)
def test_log_weight_tends_to_remove(seed):
    output, batch = outputs(seed), sample(seed)

    def of(mode, factor=0.3):
        ours = criterion(near_positives=mode, scale_factor=factor)
        return losses(ours.objective(FakeModel, output, batch))

    # A logit is at most 10 and a frame has 7 negatives: 60 frames are off by at most 60 * 7 * exp(20) * factor.
    gaps = [(of("log_weight", factor) - of("remove")).abs().max() for factor in (0.3, 0.03, 1e-12, 0.0)]
    assert gaps[0] >= gaps[1] >= gaps[2]
    assert gaps[2] < 1e-3
    assert gaps[3] == 0


@given(SEEDS, st.permutations(range(4)), st.sampled_from(["batch", "utterance"]))
@settings(deadline=None, max_examples=30)
def test_permuting_utterances_permutes_nothing_but_order(seed, order, scope):
    output, draw = outputs(seed, 4), torch.Generator().manual_seed(seed)
    drawn = torch.randint(19, (2, 4, 20, 7), generator=draw)
    drawn += drawn >= torch.arange(20)[:, None]
    order = torch.tensor(order)
    if scope == "utterance":
        starts = torch.stack([torch.randperm(40, generator=draw)[:2] for _ in range(4)]).unsqueeze(1)
        moved = starts[order]
    else:
        # Points count view by view, utterance by utterance: the same vectors stand elsewhere.
        starts = torch.randperm(160, generator=draw)[:2].view(1, 1, 2)
        view, utterance, frame = starts // 80, starts % 80 // 20, starts % 20
        moved = view * 80 + order.argsort()[utterance] * 20 + frame
    straight, permuted = (
        criterion(cluster_scope=scope).objective(FakeModel, one_output, {**sample(), **one_draw})
        for one_output, one_draw in (
            (output, {"negatives": drawn[0], "negatives_aug": drawn[1], "kmeans_starts": starts}),
            (
                reordered(output, order),
                {"negatives": drawn[0][order], "negatives_aug": drawn[1][order], "kmeans_starts": moved},
            ),
        )
    )
    torch.testing.assert_close(losses(permuted), losses(straight), rtol=1e-4, atol=1e-4)
    assert torch.equal(permuted.original.near_BMN, straight.original.near_BMN[order])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mode", NEAR_POSITIVE_MODES)
@pytest.mark.parametrize("scope", CLUSTER_SCOPES)
@pytest.mark.parametrize("kind", ["usual", "one masked frame", "all codes equal", "K above the distinct points"])
def test_nothing_is_ever_nan_under_autocast(dtype, mode, scope, kind):
    model = tiny_ccc(**NO_DROPOUT).train()
    batch = sample()
    if kind == "one masked frame":
        batch["net_input"]["mask_indices"] = torch.zeros(3, 49, dtype=torch.bool)
        batch["net_input"]["mask_indices"][:, 7] = True
    elif kind == "all codes equal":
        noise = torch.zeros(1, 1, 2, TINY["latent_vars"])
        noise[..., 3] = 1e4
        batch["net_input"].update(gumbel=noise, gumbel_aug=noise)
    elif kind == "K above the distinct points":
        batch["net_input"]["source"][:] = batch["net_input"]["source"][:1, :1]
        batch["net_input"]["source_aug"] = batch["net_input"]["source"].clone()
    ours = criterion(near_positives=mode, cluster_scope=scope, cluster_factor=1, scale_factor=0.0, **BANK)
    with torch.autocast("cpu", dtype=dtype):
        loss, _, logged = ours(model, batch)
    loss.backward()
    assert all(torch.isfinite(logged[f"loss_{name}"]) for name in (*TERMS, "diversity", "penalty"))
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)
    if kind in ("one masked frame", "all codes equal"):
        assert all(logged[f"loss_{name}"] == 0 for name in TERMS)


def test_every_draw_of_the_objective_follows_the_batchs_seed_alone():
    """The original's clustering starts from a generator that nobody seeds."""
    output, objectives = outputs(0), []
    for seed, of_torch in ((1, 0), (1, 1), (2, 0)):
        torch.manual_seed(of_torch)
        before = torch.get_rng_state()
        objectives.append(criterion().objective(FakeModel, output, sample(seed)))
        assert torch.equal(torch.get_rng_state(), before)
    for name in VIEWS:
        first, second, other = (vars(objective.negatives(name)) for objective in objectives)
        assert all(torch.equal(value, second[field]) for field, value in first.items())
        assert not torch.equal(first["drawn_BMN"], other["drawn_BMN"])
        assert not torch.equal(first["labels_BM"], other["labels_BM"])
