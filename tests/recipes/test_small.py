"""recipes/small: its configurations, and the whole comparison on a tiny corpus in the archives' layouts."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fairseq import tasks

from ccc_w2v import compat
from ccc_w2v.checkpoint.read import load_checkpoint
from ccc_w2v.cli.compare_small import language_model
from ccc_w2v.comparison.chain import claim_chain, pretraining_overrides, write_warm_start
from ccc_w2v.comparison.finetuning import finetune, finetuning_overrides
from ccc_w2v.comparison.settings import (
    Settings,
    as_record,
    check_data,
    choose_arms,
    key_overrides,
    load_arms,
    load_scale,
)
from ccc_w2v.corpora.small import prepare as small
from ccc_w2v.data.manifest import write_manifest
from ccc_w2v.errors import InputError
from ccc_w2v.files import sha256
from ccc_w2v.planning.recipe import compose_config
from ccc_w2v.warm_start import write_start
from tests.corpora.small.fake_small import pinned_lists, write_repositories
from tests.run_tool import one_line_error, run_with

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes/small"
ARMS = load_arms(RECIPE)
RUN = ("none", "wav2vec2", "ccc_scale")
CONDITIONS = ("clean", "noise10", "telephone")


def settings(arms=(), scale="small", **changed):
    values = {"recipe": RECIPE, "data": Path("/data"), "out": Path("/out"), "seeds": (1,)}
    return Settings(
        **{**values, "arms": choose_arms(RECIPE, list(arms)), "scale": load_scale(RECIPE, scale), **changed}
    )


def composed(arm, scale="small"):
    comparison = settings([arm], scale)
    return compose_config(RECIPE / "config/pretrain.yaml", pretraining_overrides(comparison, comparison.arms[0], 1))


@pytest.mark.parametrize(
    ("arm", "scale"),
    [*((name, "tiny") for name in ARMS), ("ccc_scale", "small"), ("wav2vec2_equal", "long"), ("wav2vec2", "gpu")],
)
def test_every_arm_builds_at_every_scale(arm, scale):
    config = composed(arm, scale)
    task = tasks.setup_task(config.task)
    assert sum(parameter.numel() for parameter in task.build_model(config.model).parameters()) > 1000
    task.build_criterion(config.criterion)


@pytest.mark.parametrize("arm", ["ccc_scale", *(name for name, arm in ARMS.items() if arm.needs == "criterion.delta")])
def test_an_arm_with_a_teacher_builds_in_half_precision(arm):
    """As at the scales for a GPU."""
    config = composed(arm, "tiny")
    config.common.fp16 = True
    task = tasks.setup_task(config.task)
    task.build_model(config.model)
    task.build_criterion(config.criterion)


def test_arms_differ_in_what_is_named_alone():
    base, changed = composed("ccc_scale"), {}
    for arm in ARMS:
        config = composed(arm)
        for part in ("task", "dataset", "model", "optimizer", "optimization", "common"):
            for key in base[part]:
                # The task's is the optimisation's.
                if (part, key) != ("task", "max_update") and config[part][key] != base[part][key]:
                    changed.setdefault(arm, set()).add(f"{part}.{key}")
    assert changed["wav2vec2"] == {"task.views", "task.augment"}
    assert changed["wav2vec2_equal"] == {
        *("task.views", "task.augment", "optimization.max_update"),
        "model.latent_temp",  # from 2 to 0.5 in half of the updates
    }
    assert changed["wav2vec2_augmented"] == {"task.views"}
    assert changed["clustering"] == {"task.augment", "optimization.max_update", "model.latent_temp"}
    assert changed["ccc_one_context"] == {"optimization.max_update", "model.latent_temp"}
    one_context = {"ccc_one_context", "ccc_block", "ccc_block_alone", "ccc_distance"}
    assert {frozenset(changed[arm]) for arm in one_context} == {frozenset(changed["ccc_one_context"])}
    assert not changed.keys() & {"cross", "ccc_weight", "ccc_remove"}


def test_compute_is_equal_where_it_should_be():
    every = settings()
    passes = {arm.name: every.encoder_passes(arm) for arm in every.arms}
    two_views = passes["ccc_scale"]
    assert passes["none"] == passes["spectra"] == 0
    assert passes["wav2vec2"] == two_views // 2
    equal = set(passes) - {"none", "spectra", "wav2vec2", "wav2vec2_augmented"}
    assert {passes[name] for name in equal} == {two_views}
    assert {arm.name for arm in every.arms} == {name for name, arm in ARMS.items() if not arm.file}
    assert set(ARMS) - {arm.name for arm in every.arms} == {"ccc_annotated"}
    assert settings(["ccc_annotated"]).encoder_passes(ARMS["ccc_annotated"]) == two_views
    updates = {arm.name: every.pretraining_updates(arm) for arm in every.arms}
    assert updates["wav2vec2_equal"] == 2 * updates["ccc_scale"]


def test_an_arm_that_needs_a_setting_is_refused_until_it_is_there(monkeypatch):
    from ccc_w2v.settings import criterion

    fields = [("contexts", str, dataclasses.field(default="both"))]
    with_it = dataclasses.make_dataclass("With", fields, bases=(criterion.CccCriterionConfig,))
    without = dataclasses.make_dataclass("Without", [])
    monkeypatch.setattr(criterion, "CccCriterionConfig", without)
    with pytest.raises(InputError, match=r"arm ccc_one_context needs criterion.contexts, which this version does not"):
        choose_arms(RECIPE, ["ccc_one_context"])
    assert "ccc_one_context" not in {arm.name for arm in choose_arms(RECIPE, [])}
    monkeypatch.setattr(criterion, "CccCriterionConfig", with_it)
    assert [arm.name for arm in choose_arms(RECIPE, ["ccc_one_context"])] == ["ccc_one_context"]


def test_a_subset_of_ones_own_is_fine_tuned_on_as_long_as_others_of_its_size(tmp_path):
    chosen = settings(["ccc_weight"], labels=("10m_chosen",))
    base = RECIPE / "config/finetune.yaml"
    overrides = {labels: finetuning_overrides(chosen, Path("/plain.pt"), labels, 1) for labels in ("10m", "10m_chosen")}
    composed_of = {labels: compose_config(base, values) for labels, values in overrides.items()}
    assert composed_of["10m_chosen"].dataset.train_subset == "train_10m_chosen"
    assert composed_of["10m_chosen"].optimization.max_update == composed_of["10m"].optimization.max_update
    data = tmp_path / "data"
    data.mkdir()
    for name in ("unlabelled", "dev", "test"):
        write_manifest(data / f"{name}.tsv", data, [("a.wav", 16000)])
    with pytest.raises(InputError, match=r"train_10m_chosen\.tsv: no such manifest"):
        check_data(settings(["ccc_weight"], labels=("10m_chosen",), data=data))


def test_a_gpu_trains_in_half_precision_and_reads_in_workers():
    for device, half, workers in (("cpu", False, 0), ("cuda", True, 4)):
        comparison = settings(["ccc_scale"], device=device)
        trainings = {
            "pretrain": pretraining_overrides(comparison, comparison.arms[0], 1),
            "finetune": finetuning_overrides(comparison, Path("/plain.pt"), "10m", 1),
        }
        for name, overrides in trainings.items():
            config = compose_config(RECIPE / f"config/{name}.yaml", overrides)
            assert (config.common.fp16, config.dataset.num_workers) == (half, workers)


def test_a_folder_of_an_arm_that_was_another_is_refused(tmp_path):
    comparison = settings(["ccc_scale"], out=tmp_path)
    folder = comparison.folder(comparison.arms[0], 1)
    claim_chain(folder, comparison.arms[0])
    claim_chain(folder, dataclasses.replace(comparison.arms[0], title="in other words"))
    changed = dataclasses.replace(
        comparison.arms[0], overrides={**comparison.arms[0].overrides, "criterion.diversity_weight": 0.1}
    )
    with pytest.raises(InputError, match="overrides"):
        claim_chain(folder, changed)


@pytest.mark.parametrize("labels", ["10m", "1h"])
@pytest.mark.parametrize("scale", ["tiny", "small", "medium", "long", "gpu"])
def test_finetuning_composes(scale, labels, tmp_path):
    comparison = load_scale(RECIPE, scale)
    values = {"task.data": str(tmp_path), "model.w2v_path": "x.pt", "dataset.train_subset": f"train_{labels}"}
    values |= {"optimization.max_update": comparison.finetune_updates[labels], **comparison.finetune}
    again = comparison.finetune_again.get(labels, {}).get("set", {})
    for choice in (*comparison.finetune_choices.values(), again):
        compose_config(
            RECIPE / "config/finetune.yaml", key_overrides(RECIPE / "config/finetune.yaml", {**values, **choice})
        )
    config = compose_config(RECIPE / "config/finetune.yaml", key_overrides(RECIPE / "config/finetune.yaml", values))
    assert config.optimization.max_update == comparison.finetune_updates[labels]
    assert config.task.labels == "ltr"
    # Below 1 fairseq ends with "this should never happens" as soon as it draws no channel.
    width = composed("ccc_scale", scale).model.encoder_embed_dim
    assert config.model.mask_channel_prob * width / config.model.mask_channel_length >= 1


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A prepared small corpus of fake archives, and a copy of the recipe with two conditions beside clean."""
    folder = tmp_path_factory.mktemp("small")
    repositories = write_repositories(folder / "repositories")
    lists = pinned_lists(repositories)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small, "pinned_list", lists.__getitem__)
        small.prepare(folder / "data", source=repositories)
    shutil.copytree(
        RECIPE, folder / "recipe", ignore=shutil.ignore_patterns("noise0*", "noise20*", "rooms*", "results*", "words*")
    )
    return folder


def arguments(place, out, *others):
    named = [
        "--recipe",
        place / "recipe",
        "--data",
        place / "data",
        "--out",
        out,
        "--results",
        out.parent / "results.json",
    ]
    return [*map(str, named), "--scale", "tiny", "--labels", "10m", "--seeds", "1", "--jobs", "1", *others]


def compare(place, out, *others):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "tools/compare_small.py"), *arguments(place, out, *others)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=out.parent
    )


def wait_for(what, process):
    while not what():
        assert process.poll() is None, process.communicate()[0][-3000:]
        time.sleep(0.1)


@pytest.fixture(scope="module")
def finished(place):
    """A comparison killed while its first arm is being pre-trained, then run to its end; its folder.

    At last an arm is added that is pre-trained in two processes.
    """
    out = place / "run/out"
    out.parent.mkdir()
    saved = out / "ccc_scale/seed1/pretrain/checkpoints/checkpoint_last.pt"
    process = compare(place, out, "--arms", "ccc_scale")
    wait_for(saved.is_file, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "ccc_scale/seed1/chain.json").exists()
    for others in (["--arms", "none,ccc_scale"], ["--arms", ",".join(RUN), "--processes", "2"]):
        process = compare(place, out, *others)
        printed, _ = process.communicate()
        assert process.returncode == 0, printed[-3000:]
    return out


def test_the_comparison_ends_with_a_row_for_every_cell(finished):
    results = json.loads((finished.parent / "results.json").read_text())
    rows = {(row["arm"], row["labels"], row["decoder"], row["condition"]): row for row in results["rows"]}
    measured = (("10m", "greedy"), ("1h", "probe"))
    assert set(rows) == {(arm, *cell, condition) for arm in RUN for cell in measured for condition in CONDITIONS}
    for row in rows.values():
        assert row["cer_interval"][0] <= row["cer"] <= row["cer_interval"][1]
        assert row["wer"] >= 0
        assert row["seed"] == 1
        assert row["commit"]
    passes = {row["arm"]: row["encoder_passes"] for row in results["rows"]}
    assert passes == {"none": 0, "wav2vec2": 4, "ccc_scale": 8}
    assert rows["ccc_scale", "10m", "greedy", "clean"]["seconds"] > 0
    processes = {row["arm"]: row["processes"] for row in results["rows"]}
    assert processes == {"none": 1, "wav2vec2": 2, "ccc_scale": 1}
    assert "plan: 2 process(es)" in (finished / "wav2vec2/seed1/pretrain/train.log").read_text()
    pairs = {(row["a"], row["b"]) for row in results["comparisons"]}
    assert pairs == {("wav2vec2", "none"), ("ccc_scale", "none"), ("ccc_scale", "wav2vec2")}
    assert len(results["comparisons"]) == 3 * len(measured) * len(CONDITIONS)


def test_what_is_tested_is_the_finetuning_that_dev_chose(finished):
    rows = json.loads((finished.parent / "results.json").read_text())["rows"]
    for arm in RUN:
        folder = finished / arm / "seed1"
        tried = json.loads((folder / "chain.json").read_text())["finetuning"]["10m"]
        assert set(tried["dev"]) == {"all", "encoder_frozen"}
        assert tried["dev"][tried["chosen"]] == min(tried["dev"].values())
        of_arm = [row for row in rows if row["arm"] == arm]
        assert {(row["decoder"], row.get("finetuning")) for row in of_arm} == {
            ("greedy", tried["chosen"]),
            ("probe", None),
        }
        best = folder / "finetune_10m" / tried["chosen"] / "checkpoints/checkpoint_best.pt"
        assert sha256(best) in (folder / "greedy_10m/clean/decoding.json").read_text()
        frozen = load_checkpoint(folder / "finetune_10m/encoder_frozen/checkpoints/checkpoint_last.pt")["model"]
        start = load_checkpoint(folder / "plain.pt")["model"]
        name = "feature_extractor.conv_layers.0.0.weight"
        assert torch.equal(frozen[f"w2v_encoder.w2v_model.{name}"], start[name])


def test_dev_chooses_the_finetuning_and_equals_are_the_first(tmp_path, monkeypatch):
    comparison = settings(["none"], "gpu", out=tmp_path)
    trained, counted = {}, []

    def train(folder, _settings, _name, overrides, progress):
        trained[folder.name] = set(overrides)
        progress(6000)

    monkeypatch.setattr("ccc_w2v.comparison.finetuning.run_training", train)
    for dev, chosen in (({"all": 70.0, "encoder_frozen": 65.5, "output_first": 65.5}, "encoder_frozen"), (None, "all")):
        monkeypatch.setattr(
            "ccc_w2v.comparison.finetuning.end_of",
            lambda run, dev=dev: {"previous_training_time": 1.5, "best": dev[run.name] if dev else 70.0},
        )
        tuned = finetune(comparison, tmp_path, Path("/plain.pt"), "10m", 1, counted.append)
        assert tuned.choice == chosen
        assert tuned.checkpoint == tmp_path / "finetune_10m" / chosen / "checkpoints/checkpoint_best.pt"
        assert tuned.seconds == 4.5
    assert trained["encoder_frozen"] - trained["all"] == {"model.feature_grad_mult=0.0"}
    assert trained["output_first"] - trained["all"] == {"model.freeze_finetune_updates=200"}
    assert counted[:3] == [6000, 12000, 18000]
    assert comparison.all_finetuning_updates("10m") == 18000


@pytest.mark.parametrize(
    ("first", "second", "tested", "folder"),
    [
        (59.9, None, "first", "finetune_1h"),
        (66.1, 54.2, "again", "finetune_1h_again"),
        (66.1, 70.3, "first", "finetune_1h"),
    ],
)
def test_a_finetuning_on_the_plateau_is_done_again_and_dev_chooses(
    tmp_path, monkeypatch, first, second, tested, folder
):
    comparison = settings(["none"], "medium", out=tmp_path)
    trained, counted = {}, []

    def train(run, _settings, _name, overrides, progress):
        trained[run.name] = overrides
        progress(1500)

    best = {"finetune_1h": first, "finetune_1h_again": second}
    monkeypatch.setattr("ccc_w2v.comparison.finetuning.run_training", train)
    monkeypatch.setattr(
        "ccc_w2v.comparison.finetuning.end_of", lambda run: {"previous_training_time": 2, "best": best[run.name]}
    )
    tuned = finetune(comparison, tmp_path, Path("/plain.pt"), "1h", 1, counted.append)
    assert tuned.choice == tested
    assert tuned.checkpoint == tmp_path / folder / "checkpoints/checkpoint_best.pt"
    assert tuned.seconds == 2 * len(trained)
    assert tuned.dev == {"first": first, **({} if second is None else {"again": second})}
    assert set(counted) == {1500}
    assert comparison.all_finetuning_updates("1h") == 1500
    if second is not None:
        rates = [
            compose_config(RECIPE / "config/finetune.yaml", overrides).optimization.lr for overrides in trained.values()
        ]
        assert rates == [[0.003], [0.0015]]


def test_what_decides_that_a_finetuning_is_repeated_is_checked(tmp_path):
    text = (RECIPE / "config/scales.yaml").read_text()
    (tmp_path / "config").mkdir()
    (tmp_path / "config/scales.yaml").write_text(text.replace("{above: 60, set:", "{set:"))
    with pytest.raises(InputError, match="small.finetune_again.1h has set; expected above and set"):
        load_scale(tmp_path, "small")
    (tmp_path / "config/scales.yaml").write_text(text.replace("&slower {1h:", "&slower {2h:"))
    with pytest.raises(InputError, match="small.finetune_again has '2h'; finetune_updates has: 10m, 1h"):
        load_scale(tmp_path, "small")


@pytest.mark.parametrize(("labels", "rate"), [("10m", 0.001), ("10m_chosen", 0.001), ("1h", 0.003)])
def test_a_size_of_subset_has_its_own_finetuning(labels, rate, tmp_path):
    overrides = finetuning_overrides(settings(["none"], "medium", out=tmp_path), Path("/plain.pt"), labels, 1)
    assert compose_config(RECIPE / "config/finetune.yaml", overrides).optimization.lr == [rate]


def test_a_finetuning_of_unknown_labels_is_refused(tmp_path):
    text = (RECIPE / "config/scales.yaml").read_text()
    (tmp_path / "config").mkdir()
    (tmp_path / "config/scales.yaml").write_text(text.replace("&rates {10m:", "&rates {10min:"))
    with pytest.raises(InputError, match="medium.finetune_by_labels has '10min'; finetune_updates has: 10m, 1h"):
        load_scale(tmp_path, "medium")
    assert not load_scale(tmp_path, "gpu").finetune_by_labels


def test_a_comparison_without_choices_keeps_its_record():
    plain, chosen = (as_record(settings(["none"], scale))["scale"] for scale in ("small", "gpu"))
    assert "finetune_choices" not in plain
    assert "output_first" in chosen["finetune_choices"]
    assert "10m" in plain["finetune_by_labels"]
    assert "finetune_by_labels" not in chosen
    assert "finetune_again" not in chosen


def test_a_paired_difference_is_that_of_the_rows(finished):
    results = json.loads((finished.parent / "results.json").read_text())
    for pair in results["comparisons"]:
        a, b = (
            next(
                row
                for row in results["rows"]
                if row["arm"] == arm and all(row[key] == pair[key] for key in ("labels", "condition", "decoder"))
            )
            for arm in (pair["a"], pair["b"])
        )
        for measure in ("cer", "wer"):
            assert pair[measure]["value"] == pytest.approx(a[measure] - b[measure])


def test_the_killed_pretraining_ends_as_one_that_ran_through(place, finished, tmp_path):
    comparison = settings(["ccc_scale"], "tiny", recipe=place / "recipe", data=place / "data")
    command = [str(Path(sys.executable).with_name("fairseq-hydra-train"))]
    command += ["--config-dir", str(RECIPE / "config"), "--config-name", "pretrain", f"hydra.run.dir={tmp_path}"]
    command += [
        f"common.user_dir={ROOT / 'ccc_w2v'}",
        *pretraining_overrides(comparison, comparison.arms[0], 1),
        "common.cpu=true",
    ]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    straight = load_checkpoint(tmp_path / "checkpoints/checkpoint_last.pt")["model"]
    killed = load_checkpoint(finished / "ccc_scale/seed1/pretrain/checkpoints/checkpoint_last.pt")["model"]
    assert all(torch.equal(killed[name], tensor) for name, tensor in straight.items())
    assert "Loaded checkpoint" in (finished / "ccc_scale/seed1/pretrain/train.log").read_text()


def test_arms_with_a_warm_start_begin_with_one_feature_encoder_fitted_to_spectra(place, finished, tmp_path):
    folders = {"recipe": place / "recipe", "data": place / "data", "out": tmp_path}
    comparison = settings(["spectra", "ccc_scale_spectra"], "tiny", **folders)
    path = write_warm_start(comparison, 1)
    without = load_checkpoint(finished / "none/seed1/plain.pt")["model"]
    warm = load_checkpoint(path)["model"]
    changed = {name.split(".")[0] for name, tensor in warm.items() if not torch.equal(tensor, without[name])}
    assert changed == {"feature_extractor", "layer_norm"}
    for arm in comparison.arms:
        assert f"checkpoint.finetune_from_model={path}" in pretraining_overrides(comparison, arm, 1)
    assert not any("finetune_from" in word for word in pretraining_overrides(comparison, ARMS["ccc_scale"], 1))


def test_arms_begin_with_the_weights_of_the_arm_without_pretraining(place, finished, tmp_path):
    comparison = settings(["wav2vec2"], "tiny", recipe=place / "recipe", data=place / "data")
    for seed in (1, 2):
        overrides = pretraining_overrides(comparison, comparison.arms[0], seed)
        write_start(RECIPE / "config/pretrain.yaml", overrides, tmp_path / f"{seed}")
    initial, other = (load_checkpoint(tmp_path / f"{seed}")["model"] for seed in (1, 2))
    without = load_checkpoint(finished / "none/seed1/plain.pt")["model"]
    assert all(torch.equal(without[name], tensor) for name, tensor in initial.items())
    assert not torch.equal(other["post_extract_proj.weight"], initial["post_extract_proj.weight"])
    # A learning rate of zero trains nothing.
    overrides = pretraining_overrides(comparison, comparison.arms[0], 1) + [
        "optimization.lr=[0]",
        "optimization.max_update=1",
    ]
    command = [str(Path(sys.executable).with_name("fairseq-hydra-train"))]
    command += [
        "--config-dir",
        str(RECIPE / "config"),
        "--config-name",
        "pretrain",
        f"hydra.run.dir={tmp_path / 'run'}",
    ]
    command += [f"common.user_dir={ROOT / 'ccc_w2v'}", *overrides, "common.cpu=true"]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    trained = load_checkpoint(tmp_path / "run/checkpoints/checkpoint_last.pt")["model"]
    assert all(torch.equal(trained[name], tensor) for name, tensor in initial.items())


def test_nothing_is_done_twice(place, finished):
    logs = {path: path.stat().st_size for path in finished.rglob("train.log")}
    before = (finished.parent / "results.json").read_text()
    process = compare(place, finished, "--arms", ",".join(RUN))
    assert process.communicate()
    assert process.returncode == 0
    assert {path: path.stat().st_size for path in finished.rglob("train.log")} == logs
    assert (finished.parent / "results.json").read_text() == before


def test_kept_transcripts_give_the_results_where_nothing_was_trained(place, finished, tmp_path):
    keep = ["--arms", ",".join(RUN), "--transcripts", str(tmp_path / "kept")]
    assert compare(place, finished, *keep).wait() == 0
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {f"{arm}_seed1.tar.xz" for arm in RUN}
    (tmp_path / "run").mkdir()
    process = compare(place, tmp_path / "run/out", *keep)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed[-3000:]
    assert "DEBUG" not in printed  # which importing fairseq turns on
    assert (tmp_path / "run/results.json").read_text() == (finished.parent / "results.json").read_text()
    assert not list((tmp_path / "run").rglob("train.log"))


def test_a_condition_is_added_without_another_training(place, finished, tmp_path):
    recipe, out = tmp_path / "recipe", tmp_path / "run/out"
    shutil.copytree(place / "recipe", recipe)
    shutil.copy(RECIPE / "conditions/noise20.yaml", recipe / "conditions")
    shutil.copytree(finished, out)
    shutil.copytree(place / "data", tmp_path / "data", ignore=shutil.ignore_patterns("audio"))
    logs = {path: path.stat().st_size for path in out.rglob("train.log")}
    record = (out / "none/seed1/chain.json").read_text()
    before = json.loads((finished.parent / "results.json").read_text())
    command = [sys.executable, str(ROOT / "tools/compare_small.py"), *arguments(place, out, "--arms", "none")]
    command += ["--recipe", str(recipe), "--data", str(tmp_path / "data")]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    rows = {
        (row["decoder"], row["condition"]): row for row in json.loads((out.parent / "results.json").read_text())["rows"]
    }
    assert {condition for _, condition in rows} == {*CONDITIONS, "noise20"}
    for row in before["rows"]:
        if row["arm"] == "none":
            assert rows[row["decoder"], row["condition"]] == row
    assert {path: path.stat().st_size for path in out.rglob("train.log")} == logs
    assert (out / "none/seed1/chain.json").read_text() == record


def test_tables_and_plots_come_from_the_results_alone(finished, tmp_path, capsys):
    shutil.copy(finished.parent / "results.json", tmp_path)
    (tmp_path / "RESULTS.md").write_text("# Small\n\nWords by hand.\n")
    for _ in range(2):
        assert run_with("compare_small", "--render", "--results", tmp_path / "results.json") == 0
    text = (tmp_path / "RESULTS.md").read_text()
    assert text.startswith("# Small\n\nWords by hand.\n")
    assert text.count("| CER, % |") == 2
    results = json.loads((tmp_path / "results.json").read_text())
    row = results["rows"][0]
    low, high = row["cer_interval"]
    assert f"{100 * row['cer']:.1f} ({100 * low:.1f} to {100 * high:.1f})" in text
    assert "no pre-training" in text
    assert "| wav2vec 2.0 | 4 |" in text
    assert "| fine-tuning chosen on dev | seeds | 10m |" in text
    for plot in ("results_10m_greedy.svg", "results_1h_probe.svg"):
        assert f"]({plot})" in text
        assert "telephone" in (tmp_path / plot).read_text()


def test_a_failing_arm_is_named_and_the_others_end(place, tmp_path):
    shutil.copytree(place / "recipe", tmp_path / "recipe")
    arms = tmp_path / "recipe/config/arms.yaml"
    arms.write_text(arms.read_text().replace("criterion.scale_factor: 1.0", "criterion.scale_factor: 7.0"))
    changed = {**{"place": tmp_path}, "data": place / "data"}
    (tmp_path / "data").symlink_to(changed["data"])
    (tmp_path / "run").mkdir()
    process = compare(tmp_path, tmp_path / "run/out", "--arms", "cross,none")
    printed, _ = process.communicate()
    assert process.returncode == 2
    assert "1 of 2 runs failed: cross with seed 1" in printed
    assert "criterion.scale_factor=7.0" in printed
    assert (tmp_path / "run/out/none/seed1/chain.json").is_file()
    rows = json.loads((tmp_path / "run/results.json").read_text())["rows"]
    assert {row["arm"] for row in rows} == {"none"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--arms", "ccc,none"], "unknown arm 'ccc'; available: none, spectra, wav2vec2"),
        (["--arms", "none,none"], "expected each once"),
        (["--arms", "ccc_annotated"], "train_1h.align.tsv, which is not there; see recipes/small/README.md"),
        (["--scale", "huge"], "unknown scale 'huge'; available: tiny, small, medium, short, long, gpu"),
        (["--seeds", "0"], "--seeds 0: expected how many"),
        (["--seeds", "1,1"], "different positive seeds"),
        (["--labels", "5m"], "unknown subset '5m'; available: 10m, 1h"),
        (["--jobs", "0"], "--jobs 0"),
        (["--processes", "0"], "--processes 0: expected a whole number"),
        (["--processes", "3"], "give each less than a crop of 32000; expected at most 2"),
        (["--lm", "x.arpa"], "expected both or neither"),
        (["--lm", "x.arpa", "--lexicon", "y"], "x.arpa: no such file"),
        (["--device", "cuda"], "torch finds no GPU"),
        (["--data", "nothing"], "unlabelled.tsv: no such manifest"),
        (["--recipe", "nothing"], "--recipe takes the folder recipes/small"),
        (["--render", "--results", "none.json"], "none.json: no such results"),
        (["--finished", "--transcripts", "kept"], "has ended in"),
    ],
)
def test_bad_options_are_one_line(place, tmp_path, capsys, monkeypatch, options, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run_with("compare_small", *arguments(place, tmp_path / "out"), *options) == 2
    assert message in one_line_error(capsys)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*/seed*"))


def test_another_scale_does_not_take_the_folder(place, finished, capsys):
    options = arguments(place, finished)
    options[options.index("tiny")] = "small"
    assert run_with("compare_small", *options) == 2
    assert "made with other settings (scale)" in one_line_error(capsys)


def test_the_recipes_language_model_is_used_unless_told_not_to(monkeypatch, capsys):
    options = SimpleNamespace(lm=None, lexicon=None)
    monkeypatch.setattr(compat, "flashlight_text", lambda: None)
    chosen = language_model(options, RECIPE)
    assert (chosen.lm, chosen.lexicon) == (str(RECIPE / "words.arpa"), str(RECIPE / "words.txt"))
    assert language_model(SimpleNamespace(lm="none", lexicon=None), RECIPE) is None

    def missing():
        raise InputError("beam search needs flashlight-text")

    monkeypatch.setattr(compat, "flashlight_text", missing)
    assert language_model(options, RECIPE) is None
    assert "no decoding with a language model: beam search needs flashlight-text" in capsys.readouterr().out
    with pytest.raises(InputError, match="flashlight-text"):
        language_model(SimpleNamespace(lm=chosen.lm, lexicon=chosen.lexicon), RECIPE)


def test_the_lexicon_is_the_words_of_the_language_model():
    unigrams = (RECIPE / "words.arpa").read_text().split("\\1-grams:\n")[1].split("\n\n")[0]
    words = {line.split("\t")[1] for line in unigrams.splitlines()}
    assert words - {"<s>", "</s>", "<unk>"} == set((RECIPE / "words.txt").read_text().split())


def test_compare_sh_is_the_tool():
    done = subprocess.run([RECIPE / "compare.sh", "--help"], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0
    assert "--scale" in done.stdout
