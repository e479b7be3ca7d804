"""What TensorBoard gets at a validation beside the curves."""

from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from ccc_w2v.criterion import CccCriterion
from ccc_w2v.settings.criterion import CccCriterionConfig
from ccc_w2v.training.health.pictures import codes_figure, codes_over_time, log_codes_and_clusters, similarity_figure
from tests.test_criterion import sample
from tests.tiny_models import tiny_ccc


def test_pictures_are_written_and_leave_the_training_as_it_was(tmp_path):
    model = tiny_ccc().train()
    criterion = CccCriterion(CccCriterionConfig(), SimpleNamespace(cfg=SimpleNamespace(seed=1))).train()
    batches = [sample(seed, utterances=1) for seed in (1, 2)]
    before, weights = torch.get_rng_state(), [value.clone() for value in model.state_dict().values()]
    with SummaryWriter(str(tmp_path)) as writer:
        log_codes_and_clusters(writer, model, criterion, batches, 16000, 7)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert criterion.training
    assert all(torch.equal(old, new) for old, new in zip(weights, model.state_dict().values(), strict=True))
    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["images"]) == {f"codes {n}" for n in (1, 2)} | {f"targets {n} by cluster" for n in (1, 2)}
    (sizes,) = events.Histograms("cluster sizes")
    masked = sum(model(**batch["net_input"]).original.target_BMD.size(1) for batch in batches)
    assert sizes.step == 7
    assert sizes.histogram_value.sum == pytest.approx(2 * masked)


def test_codes_of_all_frames_are_those_of_the_quantizer():
    model, batch = tiny_ccc().eval(), sample(utterances=1)
    codes = codes_over_time(model, batch["net_input"]["source"])
    output = model(**batch["net_input"])
    assert torch.equal(codes[output.mask_BT[0]], output.original.codes_BMG[0])


def test_figures_show_time_and_clusters():
    waves = {name: torch.randn(16000, generator=torch.Generator().manual_seed(1)) for name in ("original", "augmented")}
    figure = codes_figure(waves, dict.fromkeys(waves, torch.zeros(49, 2, dtype=torch.long)), 16000)
    assert [axes.get_title() for axes in figure.axes][:2] == ["original", "augmented"]
    assert figure.axes[2].images[0].get_extent() == [0, 1.0, 2.5, 0.5]
    targets = torch.eye(3)[torch.tensor([2, 0, 2, 1])]
    matrix = similarity_figure(targets, torch.tensor([2, 0, 2, 1])).axes[0]
    assert matrix.images[0].get_array().tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    assert matrix.get_title() == "3 clusters in 4 masked frames"
