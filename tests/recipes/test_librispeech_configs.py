"""Every LibriSpeech configuration, composed and built, beside the ones that fairseq itself ships."""

import copy
import functools
import shutil
from pathlib import Path

import fairseq
import pytest
import torch
import torchaudio
from fairseq import criterions, optim, tasks
from fairseq.optim import lr_scheduler
from hydra._internal.utils import create_config_search_path
from omegaconf import OmegaConf, open_dict

from ccc_w2v.checkpoint.evaluated import parse_conv_layers
from ccc_w2v.checkpoint.read import load_untrusted
from ccc_w2v.errors import InputError
from ccc_w2v.planning.plan import make_plan
from ccc_w2v.planning.recipe import build_model, compose_config, read_recipe
from ccc_w2v.planning.table import overlay

CONFIG = Path(__file__).resolve().parents[2] / "recipes/librispeech/config"
FAIRSEQ = Path(fairseq.__file__).parent / "examples/wav2vec/config"
PRETRAINING = sorted(path.stem for path in (CONFIG / "pretraining").glob("*.yaml"))
AMOUNTS = sorted(path.stem for path in (CONFIG / "finetuning/amount").glob("*.yaml"))
LABELS = sorted(path.stem for path in (CONFIG.parents[1] / "shared/labels").glob("*.yaml"))
# What fairseq ships or the paper reports: BASE with every amount, LARGE with 100 h.
FINETUNING = [("base", amount, labels) for amount in AMOUNTS for labels in LABELS]
FINETUNING += [(size, "100h", "letters") for size in ("large", "large_librivox")]

# Where ours are meant to differ from fairseq's; a difference that is not listed here fails.
ANY = {
    "common.tensorboard_logdir": "tensorboard",
    "dataset.required_batch_size_multiple": 1,
}
PRETRAINED = {**ANY, "dataset.valid_subset": "dev_other", "dataset.validate_interval": 10}
PRETRAINED |= {"model.required_seq_len_multiple": 1}
# The wav2vec 2.0 paper's learning rate for LARGE (section 4.2); fairseq's YAML for LibriVox says 0.005.
LARGE_RATE = {f"{key}.lr": [0.0003] for key in ("optimization", "optimizer", "lr_scheduler")}
LIBRIVOX = LARGE_RATE | {"dataset.batch_size": None, "dataset.batch_size_valid": None}
# LARGE on LibriSpeech beside BASE (the same section; dropout as in the released model: see below).
LARGE = LARGE_RATE | {
    "task.max_sample_size": 320000,
    **{f"dataset.max_tokens{valid}": 1200000 for valid in ("", "_valid")},
    **{"distributed_training.distributed_world_size": 128, "model.final_dim": 768},
    **{"model.latent_temp": [2.0, 0.1, 0.999995], "model.encoder_layers": 24, "model.encoder_embed_dim": 1024},
    **{"model.encoder_ffn_embed_dim": 4096, "model.encoder_attention_heads": 16, "model.encoder_layerdrop": 0.2},
    "model.dropout": 0.0,
}
# Eight GPUs in place of two that accumulate four batches: as much audio.
EIGHT = {"distributed_training.distributed_world_size": 8, "optimization.update_freq": [1]}


def length(updates, warmup):
    return {
        "optimization.max_update": updates,
        "lr_scheduler.total_num_update": updates,
        "lr_scheduler.warmup_updates": warmup,
    }


def flat(config, prefix=""):
    flattened = {}
    for key, value in config.items():
        flattened.update(flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flattened


@functools.cache
def shared(path, *choices):
    """One composition for all tests of a configuration."""
    if not path.is_file():
        pytest.skip(f"{path}: this fairseq comes without its examples")
    return compose_config(path, ["task.data=/data", *choices])


def composed(kind, name, *choices):
    return copy.deepcopy(shared(CONFIG / kind / f"{name}.yaml", *choices))


def choose(size, amount, labels):
    return [f"size={size}", f"amount={amount}", f"labels={labels}"]


def values(config):
    settings = flat(OmegaConf.to_container(config, resolve=True, enum_to_str=True))
    # A copy of distributed_training's, for an optimiser that is not in use.
    return {key: value for key, value in settings.items() if not key.startswith("bmuf.")}


def differences(kind, ours, theirs, choices=()):
    """What ours has, by key, wherever the two differ; below task, model and loss of ours only what both know."""
    chosen, reference = values(composed(kind, ours, *choices)), values(shared(FAIRSEQ / kind / f"{theirs}.yaml"))
    return {key: chosen.get(key) for key in reference if chosen.get(key) != reference[key]}


@pytest.mark.parametrize("name", PRETRAINING)
def test_pretraining_differs_from_fairseqs_own_only_where_it_says_so(name):
    objective, size, unlabelled, *rest = name.split("_")
    theirs = "wav2vec2_large_librivox" if unlabelled == "librivox" else "wav2vec2_base_librispeech"
    differing = differences("pretraining", name, theirs)
    expected = {**PRETRAINED, "dataset.train_subset": f"train_{unlabelled.removesuffix('h')}"}
    updates = {"base": 400000, "large": 600000 if unlabelled == "librivox" else 250000}[size]
    if size == "large":
        expected |= LIBRIVOX if unlabelled == "librivox" else LARGE
    factor = 2 if rest[-1:] == ["compute"] else 1
    if size == "large" or factor == 2:
        expected |= length(factor * updates, factor * updates * 8 // 100)
    if objective == "ccc":
        differing = {key: value for key, value in differing.items() if not key.startswith("criterion.")}
        expected |= {"task._name": "ccc_pretraining", "model._name": "ccc_wav2vec2"}
    assert differing == expected


@pytest.mark.parametrize("name", ["ccc_large_960h", "w2v_large_960h_equal_updates"])
def test_large_is_torchaudios(name):
    model, theirs = composed("pretraining", name).model, torchaudio.pipelines.WAV2VEC2_LARGE
    params = theirs._params
    assert not composed("pretraining", name).task.normalize
    assert not theirs._normalize_waveform
    assert (params["extractor_mode"], str(model.extractor_mode.value)) == ("group_norm", "default")
    ours = {
        "extractor_conv_layer_config": parse_conv_layers(model.conv_feature_layers),
        "extractor_conv_bias": model.conv_bias,
        "encoder_embed_dim": model.encoder_embed_dim,
        "encoder_projection_dropout": model.dropout_input,
        "encoder_pos_conv_kernel": model.conv_pos,
        "encoder_pos_conv_groups": model.conv_pos_groups,
        "encoder_num_layers": model.encoder_layers,
        "encoder_num_heads": model.encoder_attention_heads,
        "encoder_attention_dropout": model.attention_dropout,
        "encoder_ff_interm_features": model.encoder_ffn_embed_dim,
        "encoder_ff_interm_dropout": model.activation_dropout,
        "encoder_dropout": model.dropout,
        "encoder_layer_norm_first": model.layer_norm_first,
        "encoder_layer_drop": model.encoder_layerdrop,
    }
    assert {key: value if not isinstance(value, list) else list(map(tuple, value)) for key, value in ours.items()} == {
        key: params[key] for key in ours
    }
    assert (model.dropout_features, model.feature_grad_mult, model.final_dim) == (0.1, 0.1, 768)
    loss = composed("pretraining", name).criterion
    assert (loss.penalty_weight if name.startswith("ccc") else loss.loss_weights[1]) == 10


@pytest.mark.parametrize(("size", "amount", "labels"), FINETUNING)
def test_finetuning_differs_from_fairseqs_own_only_where_it_says_so(size, amount, labels):
    theirs = f"{'vox' if size == 'large_librivox' else 'base'}_{amount}"
    differing = differences("finetuning", "finetune", theirs, choose(size, amount, labels))
    expected = {**ANY, "dataset.train_subset": "train_" + {"100h": "100", "960h": "960"}.get(amount, amount)}
    expected |= EIGHT if size == "base" and amount != "960h" else {}
    if size == "large":
        # As much audio in each update as BASE, in smaller batches.
        expected |= {f"dataset.max_tokens{valid}": 1280000 for valid in ("", "_valid")}
        expected |= {"distributed_training.distributed_world_size": 4, "optimization.update_freq": [5]}
    if labels == "spm1000":
        expected |= {"task.labels": "spm1000", "criterion.post_process": "sentencepiece"}
    assert differing == expected


@pytest.mark.parametrize("name", [name for name in PRETRAINING if name.startswith("ccc")])
def test_the_objective_is_the_papers_at_fairseqs_weights(name):
    config = composed("pretraining", name)
    baseline = composed("pretraining", f"{name.replace('ccc', 'w2v').removesuffix('_telephone')}_equal_updates")
    loss = config.criterion
    assert (loss.alpha, loss.beta, loss.gamma, loss.scale_factor, loss.cluster_factor) == (1, 0.5, 0.5, 0.3, 16)
    assert (loss.near_positives, loss.extra_losses_on, loss.cluster_scope) == ("scale_similarity", "original", "batch")
    assert [loss.diversity_weight, loss.penalty_weight] == baseline.criterion.loss_weights
    telephone = name.endswith("_telephone")
    assert config.task.augment == ("telephone" if telephone else "paper")


@pytest.mark.parametrize("name", PRETRAINING)
def test_pretraining_builds_and_its_schedule_runs(name):
    config = pretrained(name)
    # 95 million and 317 million (arXiv 2006.11477, section 4.2); to the parameter, those of fairseq's own models. For
    # LibriVox each of seven convolutions has a layer norm (512 x 2) and a bias (512), else the first a group norm.
    large = 317_390_592 - (0 if "librivox" in name else 7 * 3 * 512 - 2 * 512)
    assert count(build_model(config)) == (large if "large" in name else 95_044_608)
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


@pytest.mark.parametrize(("size", "amount", "labels"), FINETUNING)
def test_finetuning_builds_on_the_pretrained_model(size, amount, labels, tmp_path):
    for kind in ("ltr", "spm1000"):
        (tmp_path / f"dict.{kind}.txt").write_text("".join(f"symbol{index} 1\n" for index in range(28)))
    choices = choose(size, amount, labels)
    config = composed("finetuning", "finetune", *choices)
    config.task.data, config.model.w2v_path = str(tmp_path), "pretrained.pt"
    with open_dict(config), open_dict(config.model):
        # In place of the checkpoint, what it says of its model.
        run = {"base": "ccc_base_960h", "large": "ccc_large_960h", "large_librivox": "ccc_large_librivox"}[size]
        said = OmegaConf.to_container(pretrained(run), resolve=True, enum_to_str=True)
        config.model.w2v_args = said
    assert config.task.normalize == said["task"]["normalize"]
    # fairseq's encoder without the pre-training's heads, and a projection to 28 symbols and 4 special ones.
    base, librivox = 94_371_712 + 768 * 32 + 32, 315_438_720 + 1024 * 32 + 32
    encoder = {"base": base, "large_librivox": librivox, "large": librivox - (7 * 3 - 2) * 512}[size]
    assert count(build_model(config)) == encoder
    # What the plan takes for it before the checkpoint is there.
    recipe = read_recipe(CONFIG / "finetuning/finetune.yaml", choices)
    assert recipe.parameters == pytest.approx(encoder, rel=0.01)
    assert recipe.name == f"finetune {' '.join(choices)}"
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


def test_a_plan_of_fine_tuning_counts_the_checkpoint_that_is_there(tmp_path):
    state = {"model": {"a": torch.zeros(3, 4), "b": torch.zeros(5)}, "cfg": {"model": {"_name": "wav2vec2"}}}
    torch.save(state, tmp_path / "pretrained.pt")
    overrides = [f"model.w2v_path={tmp_path}/pretrained.pt"]
    assert read_recipe(CONFIG / "finetuning/finetune.yaml", overrides, load_untrusted).parameters == 17


def test_an_unknown_choice_names_those_that_there_are():
    with pytest.raises(InputError, match="amount/2h.*100h"):
        compose_config(CONFIG / "finetuning/finetune.yaml", ["task.data=/data", "amount=2h"])


def test_a_plan_as_yaml_is_merged_over_the_recipe(tmp_path):
    original = CONFIG / "pretraining/ccc_base_960h.yaml"
    recipe = read_recipe(original)
    assert (recipe.views, recipe.gpus, recipe.batch_seconds, recipe.precision) == (2, 64, 5600, "fp16")
    plan = make_plan(recipe, 8, memory=32, batch_seconds=600)
    shutil.copytree(original.parent, tmp_path, dirs_exist_ok=True)
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan/mine.yaml").write_text(overlay(plan))
    merged, by_hand = (
        compose_config(tmp_path / original.name, ["+plan=mine"]),
        compose_config(original, plan.overrides()),
    )
    assert plan.update_freq > 1
    assert merged == by_hand


def test_what_cannot_be_composed_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"no such configuration; .* ccc_base_360h, ccc_base_960h"):
        compose_config(CONFIG / "pretraining/ccc_base_961h.yaml")
    with pytest.raises(InputError, match=r"dataset.max_token'.*\+dataset.max_token=5"):
        compose_config(CONFIG / "pretraining/ccc_base_960h.yaml", ["dataset.max_token=5"])
    with pytest.raises(InputError, match="embed_dim must be divisible"):
        read_recipe(CONFIG / "pretraining/ccc_base_960h.yaml", ["+model.encoder_attention_heads=7"])


def test_groups_of_several_recipes_are_in_one_folder_that_hydra_searches_last():
    recipes = CONFIG.parents[1]
    assert not [path for path in recipes.rglob("*") if path.is_symlink()]
    paths = [source.path for source in create_config_search_path("/recipe").get_path()]
    assert paths.index("/recipe") < paths.index(f"file://{recipes / 'shared'}")
