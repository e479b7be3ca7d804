"""A training judges itself: one name for a signal everywhere, a verdict at each validation, an end on collapse."""

import json

from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ccc_w2v.files import sha256
from ccc_w2v.training.health.history import read_history, read_verdicts
from ccc_w2v.training.log import parse_line
from ccc_w2v.training.run_record import read_starts
from tests.fake_corpora import write_corpus
from tests.integration.test_training import train

# Hardly anything is masked, which the first two rows show.
BROKEN = ["+model.mask_prob=0.02", "model.mask_length=1"]
VALIDATED = [
    "dataset.disable_validation=false",
    "dataset.validate_interval_updates=3",
    "checkpoint.save_interval_updates=3",
    "common.tensorboard_logdir=tensorboard",
    "optimization.max_update=6",
]


def test_a_collapsed_run_ends_with_its_reason_and_a_resumed_one_keeps_its_history(tmp_path):
    write_corpus(tmp_path, [16000 + 500 * i for i in range(8)], "pretrain")
    write_corpus(tmp_path, [16000, 18000], "pretrain_valid", seed=50)
    folder = tmp_path / "run"
    ended = train(tmp_path, folder, *BROKEN, *VALIDATED, "+task.stop_on_collapse=true")
    assert ended.returncode == 3, ended.stderr[-2000:]
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "masked_share is 0.0" in errors[0]
    assert "raise model.mask_prob" in errors[0]
    assert errors[0].startswith("error: health after update 3: collapsed: ")
    assert "Traceback" not in ended.stderr
    assert [record["status"] for record in read_verdicts(folder)] == ["collapsed"]

    resumed = train(tmp_path, folder, *BROKEN, *VALIDATED)
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    rows = read_history(folder)
    assert [row["update"] for row in rows] == list(range(1, 7))
    assert [record["update"] for record in read_verdicts(folder)] == [3, 6]

    records = [parse_line(line) for line in (folder / "hydra_train.log").read_text().splitlines()]
    logged = [record[1] for record in records if record and record[0] == "train_inner"]
    signals = set(rows[-1]) - {"update", "train_seconds"}
    assert len(signals) > 40
    assert signals <= set(logged[-1])
    starts = read_starts(folder)
    assert [start["after_update"] for start in starts] == [0, 3]
    last = starts[1]
    assert last["seed"] == 1
    assert last["plan"].startswith("plan: 1 process")
    assert last["versions"]["torch"]
    assert last["manifests"][str(tmp_path / "pretrain.tsv")] == sha256(tmp_path / "pretrain.tsv")
    config = OmegaConf.load(folder / "config.yaml")
    assert config.model.mask_prob == 0.02
    assert not config.task.stop_on_collapse

    events = EventAccumulator(str(folder / "tensorboard" / "train_inner")).Reload()
    assert signals - {"num_updates"} <= set(events.Tags()["scalars"])
    pairs = EventAccumulator(str(folder / "tensorboard" / "pairs")).Reload()
    assert {"codes 1", "targets 1 by cluster", "pair 1/spectrograms"} <= set(pairs.Tags()["images"])
    assert {"pair 1/original", "pair 1/augmented"} <= set(pairs.Tags()["audio"])
    assert pairs.Tags()["histograms"] == ["cluster sizes"]
    assert [event.step for event in pairs.Images("codes 1")] == [3, 6]
    assert json.loads((folder / "signals.jsonl").read_text().splitlines()[0])["update"] == 1
