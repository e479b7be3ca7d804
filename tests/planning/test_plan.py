"""The planner's arithmetic: against the paper's own run, closed forms, and properties over any number of GPUs."""

import math
import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccc_w2v.data.manifest import write_manifest
from ccc_w2v.errors import InputError
from ccc_w2v.planning.plan import BEST_LR, Recipe, best_lr, make_plan, memory_needed, tokens_that_fit, with_batches
from ccc_w2v.planning.recipe import missing_settings, read_recipe
from ccc_w2v.planning.table import command, table

ROOT = Path(__file__).parents[2]
PAPER = {
    **{"name": "ccc_base_960h", "views": 2, "parameters": 95_044_608, "precision": "fp16", "max_tokens": 1_400_000},
    **{"longest": 250_000, "gpus": 64, "update_freq": 1, "updates": 400_000, "lr": 5e-4, "warmup_updates": 32_000},
}
CCC, WAV2VEC2 = Recipe(**PAPER), Recipe(**{**PAPER, "views": 1})
FINETUNING = Recipe(
    **{**PAPER, "views": 1, "max_tokens": 3_200_000, "longest": 563_200, "gpus": 8, "lr": 3e-5, "warmup_updates": None},
    pretraining=False,
)


def test_on_the_papers_gpus_the_plan_is_the_papers():
    plan = make_plan(WAV2VEC2, 64, memory=32)
    assert (plan.max_tokens, plan.update_freq, plan.lr, plan.warmup_updates) == (1_400_000, 1, 5e-4, 32_000)
    assert plan.batch_seconds / 3600 == pytest.approx(1.56, abs=0.005)
    assert plan.hours_processed == pytest.approx(1.5556 * 400_000, rel=1e-4)
    assert not plan.warnings


def test_two_views_take_twice_the_memory_of_one():
    assert make_plan(CCC, 64, memory=32).update_freq == 2
    assert tokens_that_fit(WAV2VEC2, 24) == pytest.approx(2 * tokens_that_fit(CCC, 24), abs=2)
    assert make_plan(CCC, 64, memory=80).max_tokens == 1_400_000


@given(memory=st.floats(16, 200), views=st.sampled_from([1, 2]), precision=st.sampled_from(["fp16", "fp32"]))
def test_memory_and_tokens_are_inverse(memory, views, precision):
    recipe = Recipe(**{**PAPER, "views": views, "precision": precision})
    assert memory_needed(recipe, tokens_that_fit(recipe, memory)) == pytest.approx(memory, rel=1e-3)


@given(
    gpus=st.integers(1, 512),
    memory=st.floats(8, 200),
    batch=st.floats(20, 20_000),
    recipe=st.sampled_from([CCC, WAV2VEC2, FINETUNING]),
)
def test_every_plan_holds_the_audio_asked_for_in_batches_that_fit(gpus, memory, batch, recipe):
    plan = make_plan(recipe, gpus, memory=memory, batch_seconds=batch)
    crop_seconds = recipe.longest / recipe.sample_rate
    assert recipe.longest <= plan.max_tokens <= max(tokens_that_fit(recipe, memory), recipe.longest)
    # Never off by more than half a crop on each GPU, or one crop where there must be one.
    off = plan.batch_seconds - batch
    if plan.update_freq == 1 and plan.max_tokens == recipe.longest:
        # The least that these GPUs can take, and no less was asked for than leads to it.
        assert plan.batch_seconds == pytest.approx(gpus * crop_seconds, abs=0.01)
        assert off >= -0.01 - gpus * crop_seconds / 2
    else:
        assert abs(off) <= 0.01 + max(gpus * crop_seconds / 2, gpus * plan.update_freq / recipe.sample_rate)
    if plan.update_freq == 1 and off > 0.02 * batch:
        assert any("too many" in warning for warning in plan.warnings)


@pytest.mark.parametrize(("seconds", "rate"), [*BEST_LR, (9600.0, 5e-4), (37.5, 7.9e-5 / 2)])
def test_the_learning_rate_is_the_tables_and_falls_with_the_root_below_it(seconds, rate):
    assert best_lr(seconds) == pytest.approx(rate)


@given(st.floats(1, 10_000), st.floats(1, 10_000))
def test_more_audio_never_takes_a_lower_rate(first, other):
    assert (best_lr(first) - best_lr(other)) * (first - other) >= 0


def test_between_two_rows_it_is_their_geometric_mean():
    for (left, low), (right, high) in zip(BEST_LR, BEST_LR[1:], strict=False):
        assert best_lr(math.sqrt(left * right)) == pytest.approx(math.sqrt(low * high))


def test_a_smaller_batch_takes_the_tables_share_of_the_recipes_rate():
    assert make_plan(CCC, 8, memory=32, batch_seconds=600).lr == pytest.approx(1.6e-4, rel=1e-3)
    large = Recipe(**{**PAPER, "lr": 3e-4, "gpus": 110})
    assert make_plan(large, 8, memory=32, batch_seconds=600).lr == pytest.approx(3e-4 * 1.6 / 5, rel=1e-3)


def test_a_batch_that_nobody_trained_with_is_warned_about_with_a_way_out():
    plan = make_plan(CCC, 1, memory=24, batch_seconds=90)
    (warning,) = plan.warnings
    assert "90.0 s" in warning
    assert "150 s is the least" in warning
    assert "--batch-seconds 150" in warning
    named = int(warning.split("update_freq=")[1].split()[0])
    assert named * plan.max_tokens >= 150 * 16_000 > (named - 1) * plan.max_tokens
    assert not make_plan(CCC, 1, memory=24, batch_seconds=150).warnings


def test_a_small_gpu_and_too_many_gpus_are_warned_about():
    assert "checkpoint_activations" in make_plan(CCC, 1, memory=8).warnings[0]
    (warning,) = make_plan(CCC, 64, memory=32, batch_seconds=200).warnings
    assert warning.startswith("too many for 200 s")
    assert "use 12," in warning


def test_a_crop_that_cannot_fit_is_refused_with_what_it_needs():
    hour = Recipe(**{**PAPER, "longest": 57_600_000}, crop_memory=300.0)
    assert hour.least_memory == pytest.approx(CCC.state_memory + 300)
    with pytest.raises(
        InputError, match=r"does not fit 80 GiB \(.*of a crop of 3600.0 s at least 300.0 GiB\); set task.ma"
    ):
        make_plan(hour, 8, memory=80)
    # Nobody has said how large the GPUs are: the need is in the table.
    assert re.search(r"  at least needed +301.8 GiB", table([make_plan(hour, 8)]))
    assert make_plan(hour, 8, memory=302).max_tokens == 57_600_000
    with pytest.raises(InputError, match="choose a smaller model or a GPU with more memory"):
        make_plan(CCC, 8, memory=1)
    with pytest.raises(InputError, match="cut them at pauses with ccc-w2v manifest"):
        make_plan(replace(FINETUNING, crop_memory=300.0), 8, memory=80)


@pytest.mark.parametrize("name", ["pretraining/ccc_base_960h", "finetuning/finetune"])
def test_the_plan_knows_the_longest_recording_where_nothing_crops_it(name, tmp_path):
    write_manifest(tmp_path / "long.tsv", tmp_path, [("hour.wav", 57_600_000), ("short.wav", 32_000)])
    config = ROOT / f"recipes/librispeech/config/{name}.yaml"
    pretraining = name.startswith("pre")
    usual = read_recipe(config, [])
    assert usual.longest == (250_000 if pretraining else 563_200)
    assert 0.1 < usual.crop_memory < 4
    whole = ["task.max_sample_size=null"] if pretraining else []
    recipe = read_recipe(config, whole, manifest=tmp_path / "long.tsv")
    assert recipe.longest == 57_600_000
    assert recipe.crop_memory == pytest.approx(usual.crop_memory * 57_600_000 / usual.longest, rel=0.01)
    with pytest.raises(InputError, match="does not fit 32 GiB"):
        make_plan(recipe, 8, memory=32)
    if pretraining:
        assert read_recipe(config, [], manifest=tmp_path / "long.tsv").longest == 250_000


def test_finetuning_keeps_its_rate_and_says_so_where_the_batch_changes():
    plan = make_plan(FINETUNING, 2, memory=32)
    assert (plan.max_tokens, plan.update_freq, plan.lr) == (3_200_000, 4, 3e-5)
    assert not plan.warnings
    assert not any("warmup" in override for override in plan.overrides())
    (warning,) = make_plan(FINETUNING, 2, memory=32, batch_seconds=400).warnings
    assert "it stays" in warning


def test_a_shorter_run_warms_up_for_the_same_share():
    assert make_plan(CCC, 8, updates=88_750).warmup_updates == 7_100


def test_time_and_disk_are_sums():
    plan = make_plan(WAV2VEC2, 8, memory=32, step_seconds=0.5)
    assert plan.update_freq == 8
    assert plan.wall_hours == pytest.approx(0.5 * 8 * 400_000 / 3600)
    # fairseq's wav2vec_small.pt, fp16, has 950 MB; last, best, one of an interval, and one that is being written.
    assert plan.disk_gb == pytest.approx(4 * 0.950 + 0.0036, rel=1e-3)
    shown = table([plan])
    assert "18.5 days" in shown
    assert "3,555.56" in shown
    assert "5.9 / 15.7" in shown


def test_batches_that_are_less_full_are_warned_about_until_they_are_made_up_for():
    plan = with_batches(make_plan(CCC, 8, memory=32), 0.80, 0.90)
    (warning,) = plan.warnings
    assert "processes 11% less" in warning
    assert plan.hours_processed == pytest.approx(0.8 * 5600 * 400_000 / 3600, rel=1e-3)
    seconds = float(warning.split("--batch-seconds ")[1].split()[0])
    assert not with_batches(make_plan(CCC, 8, memory=32, batch_seconds=seconds), 0.80, 0.90).warnings
    # A batch that is meant to be smaller is compared with a full one of its own size.
    assert not with_batches(make_plan(CCC, 8, memory=32, batch_seconds=600), 0.88, 0.90).warnings
    assert with_batches(make_plan(CCC, 8, memory=32, batch_seconds=600), 0.80, 0.90).warnings


def test_the_command_carries_the_plan_behind_the_users_overrides(tmp_path):
    words = command(tmp_path / "mine.yaml", make_plan(CCC, 8, memory=32), ["dataset.max_tokens=1400000"]).split()
    assert words[:5] == ["fairseq-hydra-train", "--config-dir", str(tmp_path), "--config-name", "mine"]
    assert words[5].startswith("common.user_dir=/")
    assert words.index("dataset.max_tokens=1400000") < words.index("dataset.max_tokens=700000")


def words_of(line, **variables):
    """Return what a shell makes of a pasted command, or its error."""
    names = "".join(f"{name}={shlex.quote(value)}; " for name, value in variables.items())
    pasted = f"fairseq-hydra-train() {{ printf '%s\\n' \"$@\"; }}; {names}{line}"
    return subprocess.run(["bash", "-c", pasted], capture_output=True, text=True)


def test_the_printed_command_can_be_pasted_in_any_folder(tmp_path, monkeypatch):
    config = ROOT / "recipes/librispeech/config/pretraining/ccc_base_960h.yaml"
    missing = missing_settings(config)
    assert missing == ["task.data", "task.noise_manifest"]
    assert missing_settings(config, ["task.data=/d"]) == ["task.noise_manifest"]
    monkeypatch.chdir(config.parent)
    plan = make_plan(CCC, 8, memory=32)
    line = command(Path(config.name), plan, ["optimization.update_freq=[2]"], missing)
    stopped = words_of(line)
    assert stopped.returncode
    assert "data: set it to what task.data is to be" in stopped.stderr
    _, folder, _, name, *overrides = words_of(line, data="/my data", noise_manifest="/n.tsv").stdout.splitlines()
    assert (folder, name) == (str(config.parent), "ccc_base_960h")
    assert f"common.user_dir={ROOT / 'ccc_w2v'}" in overrides
    assert "task.data=/my data" in overrides
    assert missing_settings(config, overrides) == []
    (tmp_path / "speech.tsv").touch()
    with_data = words_of(command(config, plan, [], missing, str(tmp_path / "speech.tsv")), noise_manifest="/n.tsv")
    assert f"task.data={tmp_path}\ndataset.train_subset=speech\n" in with_data.stdout


@pytest.mark.parametrize("wrong", [{"memory": 0}, {"batch_seconds": -1}, {"updates": 0}, {"step_seconds": math.nan}])
def test_numbers_that_make_no_sense_are_refused(wrong):
    with pytest.raises(InputError, match="must be positive"):
        make_plan(CCC, 8, **wrong)
