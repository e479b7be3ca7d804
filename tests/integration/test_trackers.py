"""What fairseq hands to Weights & Biases (a stub here), a trace of some updates, utilisation: of one training."""

import gzip
import json
import os
import subprocess

import pytest

from ccc_w2v.training.health.history import read_history
from ccc_w2v.training.trace import RECORDED, TRACE
from tests.fake_corpora import write_corpus
from tests.integration.test_training import command

# The calls that fairseq makes, each a line of JSON in $WANDB_STUB.
STUB = """
import json, os

def _keep(kind, content):
    with open(os.environ["WANDB_STUB"], "a") as file:
        file.write(json.dumps([kind, content], default=str) + "\\n")

class _Config:
    def update(self, settings):
        _keep("config", settings)

config = _Config()

def init(**settings):
    _keep("init", settings)

def log(values, step=None):
    _keep("log", [step, values])
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tracked")
    write_corpus(folder, [16000 + 500 * i for i in range(8)], "pretrain")
    write_corpus(folder, [16000, 18000], "pretrain_valid", seed=50)
    (folder / "stub").mkdir()
    (folder / "stub" / "wandb.py").write_text(STUB)
    arguments = command(folder, folder / "run", "common.wandb_project=health", "common.profile=true")
    arguments += ["optimization.max_update=12", "dataset.disable_validation=false", "common.log_interval=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_STUB": str(folder / "calls.jsonl")}
    environment |= {"PYTHONPATH": f"{folder / 'stub'}:{os.environ.get('PYTHONPATH', '')}", "WANDB_NAME": "first"}
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def test_weights_and_biases_gets_the_signals_by_the_same_names(ended):
    calls = [json.loads(line) for line in (ended / "calls.jsonl").read_text().splitlines()]
    assert {"project": "health", "reinit": False, "name": "first"} in [
        content for kind, content in calls if kind == "init"
    ]
    settings = next(content for kind, content in calls if kind == "config")
    assert settings["task"]["_name"] == "ccc_pretraining"
    logged = [(step, name, value) for kind, content in calls if kind == "log" for step, (name, value) in _flat(content)]
    steps = {step for step, name, _ in logged if name.startswith("train_inner/")}
    assert steps == {2, 4, 6, 8, 10, 12}
    names = {name.removeprefix("train_inner/") for step, name, _ in logged if name.startswith("train_inner/")}
    assert set(read_history(ended / "run")[-1]) - {"update", "train_seconds", "num_updates"} <= names
    last = {name: value for step, name, value in logged if step == 12 and name.startswith("train_inner/")}
    assert last["train_inner/audio_seconds"] == pytest.approx(read_history(ended / "run")[-1]["audio_seconds"])
    assert any(name.startswith("pretrain_valid/") for _, name, _ in logged)


def _flat(content):
    step, values = content
    return [(step, pair) for pair in values.items()]


def test_profile_writes_a_trace_of_whole_updates_for_a_viewer(ended):
    with gzip.open(ended / "run" / TRACE, "rt") as file:
        trace = json.load(file)
    names = [event["name"] for event in trace["traceEvents"] if event.get("ph") == "X"]
    assert sum(name.startswith("ProfilerStep") for name in names) == RECORDED
    for name in ("forward", "backward", "optimizer", "ccc.clustering", "ccc.negatives_and_logits", "ccc.signals"):
        assert name in names


def test_speed_and_utilisation_are_in_the_log(ended):
    for row in read_history(ended / "run")[1:]:
        assert row["mfu"] > 0
        assert row["audio_hours_per_device_hour"] == pytest.approx(row["times_real_time"], rel=0.05)
        assert row["hours_left"] >= 0
    assert read_history(ended / "run")[-1]["hours_left"] == 0
