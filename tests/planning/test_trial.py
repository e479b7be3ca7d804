"""`ccc-w2v plan` as a user calls it: a trial with real training, and what is wrong in one line."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from ccc_w2v.augment.pipeline import load_pipeline
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.dataset.two_view import TwoViewDataset
from ccc_w2v.errors import InputError
from ccc_w2v.planning import trial as trial_module
from ccc_w2v.planning.plan import make_plan
from ccc_w2v.planning.recipe import filled_share
from ccc_w2v.planning.table import table
from ccc_w2v.planning.trial import LEFT_OUT, STEPS, Trial, _read, _statistics, measure
from tests.fake_corpora import write_corpus
from tests.planning.test_plan import CCC, FINETUNING

ROOT = Path(__file__).resolve().parents[2]


def plan_tool(*words):
    command = [sys.executable, str(ROOT / "tools/plan.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=3600)


def test_a_trial_trains_and_its_time_is_in_the_plan(tmp_path):
    finished = plan_tool(
        *(
            ROOT / "tests/integration/config/pretrain.yaml",
            "--measure",
            "--gpus",
            "1,4",
            "--out",
            tmp_path / "plan.yaml",
        ),
        *("task.augment=none", "dataset.max_tokens=64000", "model.encoder_layers=1", "model.encoder_embed_dim=32"),
        *("model.encoder_ffn_embed_dim=32", "model.conv_feature_layers='[(16,10,5)] + [(16,3,2)]*4 + [(16,2,2)]*2'"),
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    (measured,) = [line for line in finished.stdout.splitlines() if line.startswith("measured")]
    assert float(measured.split()[1]) > 0
    assert "CPU cores" in measured
    assert "not measured" not in finished.stdout
    written = yaml.safe_load((tmp_path / "plan.yaml").read_text())
    assert written["dataset"]["max_tokens"] == 64000
    assert written["optimization"]["update_freq"] == [1]


def logged(seconds):
    """A command that prints lines of statistics at these times, as fairseq does."""
    lines = []
    for number, second in enumerate(seconds, start=1):
        stamp = f"{int(second):02},{round(second % 1 * 1000):03}"
        lines.append(f'[2026-01-02 03:04:{stamp}][train_inner][INFO] - {{"num_updates": "{number}"}}')
    return ["printf", "%s\\n", "starting", *lines]


def test_the_median_leaves_out_the_first_intervals():
    # The first steps take 2 s each, the later ones a quarter of a second, one of them three.
    times = [2.0 * step for step in range(LEFT_OUT + 1)]
    while len(times) < STEPS:
        times.append(times[-1] + (3.0 if len(times) == 15 else 0.25))
    trial = _read(list(_statistics(logged(times))))
    assert trial.step_seconds == pytest.approx(0.25, abs=2e-3)


def test_too_few_updates_are_not_a_measurement():
    with pytest.raises(InputError, match=f"logged 4 updates, expected {STEPS}"):
        _read(list(_statistics(logged([1, 2, 3, 4]))))


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ("error: /a.tsv: no such manifest", "the trial failed: /a.tsv: no such manifest"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried", "give a smaller --max-tokens"),
        ("RuntimeError: something else", "the trial failed: RuntimeError: something else"),
    ],
)
def test_a_trial_that_fails_says_why(last, said):
    with pytest.raises(InputError, match=said.replace(".", r"\.")):
        list(_statistics(["sh", "-c", 'echo "$0"; exit 1', last]))


def test_a_fine_tuning_is_not_measured():
    with pytest.raises(InputError, match="--measure is for pre-training"):
        measure(Path("base_100h.yaml"), FINETUNING, 1000, [], None)


def test_memory_that_was_measured_tells_what_would_fit():
    plan = make_plan(CCC, 1, memory=80, batch_seconds=6000)
    state = CCC.state_memory
    shown = table([plan], Trial(0.5, state + 10, "a GPU"))
    expected = int((0.9 * 80 - 0.5 - state) / 10 * plan.max_tokens)
    assert f"--max-tokens {expected} would fit" in shown


def test_batches_are_as_full_as_the_ones_that_fairseq_cuts(tmp_path):
    samples = [
        int(length) for length in torch.randint(9_000, 40_000, (40,), generator=torch.Generator().manual_seed(0))
    ]
    manifest = write_corpus(tmp_path, samples)
    recipe = replace(CCC, shortest=10_000, longest=30_000)
    dataset = TwoViewDataset(
        read_manifest(manifest),
        load_pipeline("none", 16_000),
        16_000,
        1,
        max_sample_size=30_000,
        min_sample_size=10_000,
    )
    for max_tokens in (64_000, 100_000):
        order = dataset.ordered_indices()
        batches = dataset.batch_by_size(order, max_tokens=max_tokens, required_batch_size_multiple=1)
        activations = sum(
            dataset.collater([dataset[index] for index in batch])["net_input"]["source"].numel() for batch in batches
        )
        assert filled_share(manifest, recipe, max_tokens) == pytest.approx(activations / (len(batches) * max_tokens))
    with pytest.raises(InputError, match="no utterance has task.min_sample_size=50000"):
        filled_share(manifest, replace(recipe, shortest=50_000), 64_000)


def test_what_is_wrong_is_one_line():
    finished = plan_tool(ROOT / "recipes/librispeech/config/pretraining/ccc_base_960h.yaml", "--gpus", "8,many")
    assert finished.returncode == 2
    assert finished.stderr.count("\n") == 1
    assert "--gpus 8,many" in finished.stderr


def test_a_trial_makes_the_noise_that_a_recipe_leaves_to_the_user(monkeypatch):
    commands = []
    monkeypatch.setattr(trial_module, "_statistics", lambda command: commands.append(command) or [])
    config = ROOT / "recipes/librispeech/config/pretraining/ccc_base_960h.yaml"
    with pytest.raises(InputError, match="logged 0 updates"):
        measure(config, CCC, 250_000, [], None)
    (noise,) = [word for word in commands[0] if word.startswith("task.noise_manifest=")]
    assert noise.endswith("/noise.tsv")
    with pytest.raises(InputError, match="logged 0 updates"):
        measure(config, CCC, 250_000, ["task.noise_manifest=/mine.tsv"], None)
    assert [word for word in commands[1] if "noise_manifest" in word] == ["task.noise_manifest=/mine.tsv"]
    with pytest.raises(InputError, match=r"leaves task.rir_manifest to you, and --measure trains: add task.rir_man"):
        measure(config, CCC, 250_000, ["+task.rir_manifest='???'"], None)
