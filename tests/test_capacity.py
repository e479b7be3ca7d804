import dataclasses

import pytest
import torch
from fairseq.tasks.audio_pretraining import AudioPretrainingConfig

from ccc_w2v.capacity import FRAMES_TO_MASK, least_memory, samples_of
from ccc_w2v.errors import InputError
from ccc_w2v.settings import ignored
from ccc_w2v.settings.ignored import IGNORED, refuse_ignored
from ccc_w2v.settings.task import CccPretrainingConfig
from tests.tiny_models import tiny_ccc

# What load_dataset and the rest of the task read, or hand on to fairseq's own task.
USED = {
    *("_name", "data", "sample_rate", "normalize", "enable_padding", "max_sample_size", "min_sample_size", "seed"),
    *("rebuild_batches", "inferred_w2v_config", "multi_corpus_keys", "multi_corpus_sampling_weights"),
}


@pytest.mark.parametrize("frames", [1, 2, 3, 50])
def test_the_fewest_samples_of_so_many_frames(frames):
    model = tiny_ccc()
    samples = samples_of(model, frames)
    assert model._get_feat_extract_output_lengths(torch.tensor([samples, samples - 1])).tolist() == [frames, frames - 1]


def test_the_shortest_crop_can_be_masked_and_one_sample_less_cannot():
    model, shortest = tiny_ccc(), samples_of(tiny_ccc(), FRAMES_TO_MASK)
    assert model.draw_mask(torch.zeros(2, shortest), None, seed=1).sum(dim=1).tolist() == [1, 1]
    with pytest.raises(ValueError, match="cannot be masked"):
        model.draw_mask(torch.zeros(2, shortest - 1), None, seed=1)


def kept_bytes(model, wave_BS):
    """Bytes of one view: the tensors that a forward pass keeps for the backward pass, the parameters not counted."""
    parameters = {parameter.data_ptr() for parameter in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if tensor.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage  # held, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(wave_BS, source_aug=wave_BS, seed=1)
    return sum(storage.nbytes() for storage in kept.values()) / 2


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_the_least_memory_is_less_than_what_is_kept_and_most_of_it(dropout, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # the pass below is a CPU's
    model = tiny_ccc(attention_dropout=dropout, encoder_layerdrop=0.0).train()
    samples = 40_000
    estimated = least_memory(model, samples, training=True)
    assert 0.4 * kept_bytes(model, torch.randn(1, samples)) < estimated < kept_bytes(model, torch.randn(1, samples))
    assert least_memory(model, samples, training=False) < estimated


def test_every_setting_of_fairseqs_task_is_used_or_refused():
    names = {field.name for field in dataclasses.fields(AudioPretrainingConfig)}
    assert names <= USED | set(IGNORED)
    assert not USED & set(IGNORED)


def config(**settings):
    defaults = {"cpu": False, "seed": 1, "tpu": False}
    return CccPretrainingConfig(data="x", **{**defaults, **settings})


@pytest.mark.parametrize("name", sorted(IGNORED))
def test_a_setting_that_would_be_ignored_is_refused(name):
    known = {field.name for field in dataclasses.fields(CccPretrainingConfig)}
    refuse_ignored(config())
    value = 0.5 if name == "subsample" else {"a": 1} if name == "precompute_mask_config" else "high"
    if name not in known:
        pytest.skip(f"this fairseq has no {name}")
    with pytest.raises(InputError, match=f"task.{name}=.*does not support it"):
        refuse_ignored(config(**{name: value}))


@pytest.mark.parametrize(("here", "cpu", "allowed"), [(True, False, True), (False, False, False), (True, True, False)])
def test_augmentation_on_a_gpu_needs_one(monkeypatch, here, cpu, allowed):
    monkeypatch.setattr(ignored, "gpu_here", lambda: here)
    if allowed:
        return refuse_ignored(config(augment_device="gpu", cpu=cpu))
    with pytest.raises(InputError, match="task.augment_device=gpu needs a GPU"):
        refuse_ignored(config(augment_device="gpu", cpu=cpu))
