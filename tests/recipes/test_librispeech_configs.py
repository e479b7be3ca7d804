"""Every LibriSpeech configuration, composed and built, beside the ones that fairseq itself ships."""

import copy
import functools
import shutil
from pathlib import Path

import fairseq
import pytest
import torch
from fairseq import criterions, optim, tasks
from fairseq.optim import lr_scheduler
from omegaconf import OmegaConf, open_dict

from ccc_w2v.errors import InputError
from ccc_w2v.planning.plan import make_plan
from ccc_w2v.planning.recipe import build_model, compose_config, read_recipe
from ccc_w2v.planning.table import overlay

CONFIG = Path(__file__).resolve().parents[2] / "recipes/librispeech/config"
FAIRSEQ = Path(fairseq.__file__).parent / "examples/wav2vec/config"
PRETRAINING = sorted(path.stem for path in (CONFIG / "pretraining").glob("*.yaml"))
FINETUNING = sorted(path.stem for path in (CONFIG / "finetuning").glob("*.yaml"))

# Where ours are meant to differ from fairseq's; a difference that is not listed here fails.
ANY = {
    "common.tensorboard_logdir": "tensorboard",
    "dataset.required_batch_size_multiple": 1,
}
PRETRAINED = {**ANY, "dataset.valid_subset": "dev_other", "dataset.validate_interval": 10}
# fairseq's YAML for LARGE is of LibriVox, a million updates long, and its learning rate is not the paper's.
LARGE = {f"{key}.lr": [0.0003] for key in ("optimization", "optimizer", "lr_scheduler")}
LARGE |= {"dataset.batch_size": None, "dataset.batch_size_valid": None}
# Eight GPUs in place of two that accumulate four batches: as much audio.
EIGHT = {"distributed_training.distributed_world_size": 8, "optimization.update_freq": [1]}


def length(updates, warmup):
    return {
        "optimization.max_update": updates,
        "lr_scheduler.total_num_update": updates,
        "lr_scheduler.warmup_updates": warmup,
    }


def flat(config, prefix=""):
    found = {}
    for key, value in config.items():
        found.update(flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return found


@functools.cache
def shared(path):
    """One composition for all tests of a configuration."""
    if not path.is_file():
        pytest.skip(f"{path}: this fairseq comes without its examples")
    return compose_config(path, ["task.data=/data"])


def composed(kind, name):
    return copy.deepcopy(shared(CONFIG / kind / f"{name}.yaml"))


def values(config):
    found = flat(OmegaConf.to_container(config, resolve=True, enum_to_str=True))
    # A copy of distributed_training's, for an optimiser that is not in use.
    return {key: value for key, value in found.items() if not key.startswith("bmuf.")}


def differences(kind, ours, theirs):
    """What ours has, by key, wherever the two differ; below task, model and loss of ours only what both know."""
    found, reference = values(composed(kind, ours)), values(shared(FAIRSEQ / kind / f"{theirs}.yaml"))
    return {key: found.get(key) for key in reference if found.get(key) != reference[key]}


@pytest.mark.parametrize("name", PRETRAINING)
def test_pretraining_differs_from_fairseqs_own_only_where_it_says_so(name):
    objective, size, hours, *twin = name.split("_")
    theirs = {"base": "wav2vec2_base_librispeech", "large": "wav2vec2_large_librivox"}[size]
    found = differences("pretraining", name, theirs)
    expected = {**PRETRAINED, "dataset.train_subset": f"train_{hours.removesuffix('h')}"}
    if size == "large":
        expected |= LARGE | length(250000, 20000)
    if twin[-1:] == ["compute"]:
        expected |= length(*((500000, 40000) if size == "large" else (800000, 64000)))
    if objective == "ccc":
        found = {key: value for key, value in found.items() if not key.startswith("criterion.")}
        expected |= {"task._name": "ccc_pretraining", "model._name": "ccc_wav2vec2"}
    assert found == expected


@pytest.mark.parametrize("name", FINETUNING)
def test_finetuning_differs_from_fairseqs_own_only_where_it_says_so(name):
    amount = name.split("_")[1]
    found = differences("finetuning", name, f"base_{amount}")
    expected = {**ANY, "dataset.train_subset": "train_" + {"100h": "100", "960h": "960"}.get(amount, amount)}
    expected |= EIGHT if amount != "960h" else {}
    if name.endswith("_spm1000"):
        expected |= {"task.labels": "spm1000", "criterion.post_process": "sentencepiece"}
    assert found == expected


@pytest.mark.parametrize("name", [name for name in PRETRAINING if name.startswith("ccc")])
def test_the_objective_is_the_papers_at_fairseqs_weights(name):
    config = composed("pretraining", name)
    twin = composed("pretraining", f"{name.replace('ccc', 'w2v')}_equal_updates")
    loss = config.criterion
    assert (loss.alpha, loss.beta, loss.gamma, loss.scale_factor, loss.cluster_factor) == (1, 0.5, 0.5, 0.3, 16)
    assert (loss.near_positives, loss.extra_losses_on, loss.cluster_scope) == ("scale_similarity", "original", "batch")
    assert [loss.diversity_weight, loss.penalty_weight] == twin.criterion.loss_weights
    assert config.task.augment == "paper"


@pytest.mark.parametrize("name", PRETRAINING)
def test_pretraining_builds_and_its_schedule_runs(name):
    config = pretrained(name)
    # 95 million and 317 million (arXiv 2006.11477, section 4.2); to the parameter, those of fairseq's own models.
    assert count(build_model(config)) == (317_390_592 if "large" in name else 95_044_608)
    criterions.build_criterion(config.criterion, tasks.setup_task(config.task))
    scheduler = schedule(config)
    peak, updates, warmup = (
        config.optimization.lr[0],
        config.optimization.max_update,
        config.lr_scheduler.warmup_updates,
    )
    assert scheduler.step_update(warmup // 2) == pytest.approx(peak / 2)
    assert scheduler.step_update(warmup) == pytest.approx(peak)
    assert scheduler.step_update((updates + warmup) // 2) == pytest.approx(peak / 2, rel=1e-3)
    assert scheduler.step_update(updates) == 0


@pytest.mark.parametrize("name", FINETUNING)
def test_finetuning_builds_on_the_pretrained_model(name, tmp_path):
    for labels in ("ltr", "spm1000"):
        (tmp_path / f"dict.{labels}.txt").write_text("".join(f"symbol{index} 1\n" for index in range(28)))
    config = composed("finetuning", name)
    config.task.data, config.model.w2v_path = str(tmp_path), "pretrained.pt"
    with open_dict(config), open_dict(config.model):
        # In place of the checkpoint, what it says of its model.
        said = OmegaConf.to_container(pretrained("ccc_base_960h"), resolve=True, enum_to_str=True)
        config.model.w2v_args = said
    # fairseq's BASE encoder without the pre-training's heads, and a projection to 28 symbols and 4 special ones.
    assert count(build_model(config)) == 94_371_712 + 768 * 32 + 32
    criterions.build_criterion(config.criterion, tasks.setup_task(config.task))
    scheduler = schedule(config)
    peak, updates = config.optimization.lr[0], config.optimization.max_update
    assert scheduler.step_update(updates // 10) == pytest.approx(peak)
    assert scheduler.step_update(updates // 2) == pytest.approx(peak)
    assert scheduler.step_update(updates) == pytest.approx(0.05 * peak, rel=1e-2)


def pretrained(name):
    config = composed("pretraining", name)
    if config.task._name == "ccc_pretraining":
        config.task.noise_manifest = "/noise.tsv"
    return config


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def schedule(config):
    optimizer = optim.build_optimizer(config.optimizer, [torch.nn.Parameter(torch.zeros(1))])
    return lr_scheduler.build_lr_scheduler(config.lr_scheduler, optimizer)


def test_a_plan_as_yaml_is_merged_over_the_recipe(tmp_path):
    original = CONFIG / "pretraining/ccc_base_960h.yaml"
    recipe = read_recipe(original)
    assert (recipe.views, recipe.gpus, recipe.batch_seconds, recipe.precision) == (2, 64, 5600, "fp16")
    plan = make_plan(recipe, 8, memory=32, batch_seconds=600)
    shutil.copytree(original.parent, tmp_path, dirs_exist_ok=True)
    (tmp_path / "parts/plan").mkdir()
    (tmp_path / "parts/plan/mine.yaml").write_text(overlay(plan))
    merged, by_hand = (
        compose_config(tmp_path / original.name, ["+parts/plan=mine"]),
        compose_config(original, plan.overrides()),
    )
    assert plan.update_freq > 1 and merged == by_hand


def test_what_cannot_be_composed_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"no such configuration; .* ccc_base_360h, ccc_base_960h"):
        compose_config(CONFIG / "pretraining/ccc_base_961h.yaml")
    with pytest.raises(InputError, match=r"dataset.max_token'.*\+dataset.max_token=5"):
        compose_config(CONFIG / "pretraining/ccc_base_960h.yaml", ["dataset.max_token=5"])
    with pytest.raises(InputError, match="embed_dim must be divisible"):
        read_recipe(CONFIG / "pretraining/ccc_base_960h.yaml", ["+model.encoder_attention_heads=7"])
