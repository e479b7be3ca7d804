"""task.views: one of the two views for fairseq's own wav2vec 2.0, under the mask that both would have."""

from __future__ import annotations

import pytest
import torch
from fairseq import criterions, tasks

from ccc_w2v.planning.recipe import compose_config
from tests.comparison.test_settings import ROOT
from tests.fake_corpora import write_corpus
from tests.tiny_models import NO_DROPOUT, tiny_ccc

CONFIG = ROOT / "recipes/small/config/pretrain.yaml"


def task_with(folder, views, criterion="wav2vec"):
    overrides = [f"task.data={folder}", f"+task.views={views}", f"criterion._name={criterion}"]
    overrides += ["optimization.max_update=2", "task.augment=telephone", "task.min_sample_size=4000"]
    if criterion == "wav2vec":
        overrides.append("+criterion.infonce=true")
    config = compose_config(CONFIG, overrides)
    return tasks.setup_task(config.task), config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, [16000, 17000, 18000], "unlabelled")
    write_corpus(folder, [16000], "noise_train")
    return folder


def batch(folder, views, model):
    task, _ = task_with(folder, views, "ccc" if views == "both" else "wav2vec")
    task.load_dataset("unlabelled")
    dataset = task.dataset("unlabelled")
    return task._with_views(dataset.collater([dataset[index] for index in range(3)]), model)["net_input"]


def test_one_view_is_that_of_the_two_under_their_mask(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = tiny_ccc(**NO_DROPOUT)
    both, original, augmented = (batch(folder, views, model) for views in ("both", "original", "augmented"))
    assert torch.equal(original["source"], both["source"])
    assert torch.equal(augmented["source"], both["source_aug"])
    assert not torch.equal(original["source"], augmented["source"])
    assert "source_aug" not in original
    assert "source_aug" not in augmented
    masked = model(**both).mask_BT
    for view in (original, augmented):
        assert torch.equal(view["mask_indices"], masked)


def test_one_view_is_trained_on_by_fairseqs_criterion(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task, config = task_with(folder, "original")
    criterion = task.build_criterion(config.criterion)
    model = tiny_ccc(**NO_DROPOUT).train()
    sample = {"id": torch.arange(3), "net_input": batch(folder, "original", model)}
    losses = []
    for _ in range(2):
        torch.manual_seed(0)
        loss, frames, _ = criterion(model, sample)
        losses.append(loss.item())
        assert frames == sample["net_input"]["mask_indices"].sum()
    assert losses[0] == losses[1]
    assert torch.isfinite(loss)


@pytest.mark.parametrize(("views", "criterion"), [("both", "wav2vec"), ("original", "ccc"), ("augmented", "ccc")])
def test_views_that_a_criterion_does_not_take_are_refused(folder, capsys, views, criterion):
    task, config = task_with(folder, views, criterion)
    assert criterion in criterions.CRITERION_REGISTRY
    with pytest.raises(SystemExit) as caught:
        task.build_criterion(config.criterion)
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        f"error: criterion {criterion} does not take task.views={views}; ccc and capi take both, fairseq's "
        "wav2vec original or augmented\n"
    )
