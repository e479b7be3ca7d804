"""signals.jsonl: written by a run, resumed, read again; `ccc-w2v health` on it and on fairseq's own log."""

import json

import pytest
import torch
from fairseq.logging import metrics

from ccc_w2v.errors import InputError
from ccc_w2v.training.health.history import SIGNALS, VERDICTS, append_row, folder_of_run, keep_until, read_history
from ccc_w2v.training.health.monitor import HealthMonitor
from ccc_w2v.training.health.rules import load_rules
from ccc_w2v.training.health.updates import UpdateWatch, gradient_shares, window_values
from ccc_w2v.training.signal_log import USAGE, log_signals
from tests.run_tool import one_line_error, run_with

RULES = load_rules()


def run(folder, updates, *, begin=0, masked=0.5, every=2):
    monitor = HealthMonitor(folder, RULES, every, begin)
    for update in range(begin + 1, updates + 1):
        monitor.add(update, {"masked_share": masked, "loss": float(update), "missing": None}, seconds=0.5)
    return monitor


def test_rows_are_the_means_of_their_updates(tmp_path):
    run(tmp_path, 5)
    rows = read_history(tmp_path)
    assert [row["update"] for row in rows] == [2, 4]
    assert [row["loss"] for row in rows] == [1.5, 3.5]
    assert [row["train_seconds"] for row in rows] == [1.0, 2.0]
    assert "missing" not in rows[0]


def test_a_row_holds_the_last_of_a_total_and_the_mean_rate_over_the_seconds(tmp_path):
    monitor = HealthMonitor(tmp_path, RULES, 2, 0)
    monitor.add(1, {"audio_seconds": 30.0, "times_real_time": 1000.0, "loss": 3.0}, seconds=0.1)
    monitor.add(2, {"audio_seconds": 60.0, "times_real_time": 10.0, "loss": 1.0}, seconds=9.9)
    (row,) = read_history(tmp_path)
    assert (row["audio_seconds"], row["loss"]) == (60.0, 2.0)
    assert row["times_real_time"] == pytest.approx((0.1 * 1000 + 9.9 * 10) / 10)


def test_codes_in_use_are_those_of_the_interval():
    with metrics.aggregate("train_inner"):
        for used in ([1, 0, 0], [0, 1, 0], [0, 1, 0]):
            log_signals([{USAGE: torch.tensor(used)}])
        assert window_values() == {"codes_in_use": 2.0}
    metrics.reset_meters("train_inner")


def test_a_resumed_run_makes_its_later_rows_again(tmp_path):
    run(tmp_path, 10).verdict()
    with open(tmp_path / SIGNALS, "a") as file:
        file.write('{"update": 12, "loss"')  # killed as it wrote
    monitor = run(tmp_path, 8, begin=6)
    assert [row["update"] for row in read_history(tmp_path)] == [2, 4, 6, 8]
    assert len(monitor.rows) == 4
    assert monitor.seconds == pytest.approx(4.0)
    assert not (tmp_path / VERDICTS).read_text()


def test_a_line_cut_off_does_not_swallow_the_next(tmp_path):
    append_row(tmp_path / SIGNALS, {"update": 1})
    with open(tmp_path / SIGNALS, "a") as file:
        file.write('{"update": 2')
    append_row(tmp_path / SIGNALS, {"update": 3})
    assert [row["update"] for row in keep_until(tmp_path / SIGNALS, 9)] == [1, 3]


def test_findings_are_said_once_and_verdicts_each_time(tmp_path, caplog):
    caplog.set_level("INFO")
    monitor = run(tmp_path, 8, masked=0.99)
    warnings = [record.message for record in caplog.records]
    assert len(warnings) == 1
    assert warnings[0].startswith("health after update 4: collapsed: masked_share is 0.99")
    assert monitor.verdict().status == monitor.verdict().status == "collapsed"
    kept = [json.loads(line) for line in (tmp_path / VERDICTS).read_text().splitlines()]
    assert [record["status"] for record in kept] == ["collapsed"] * 2
    assert kept[0]["findings"][0]["rule"] == "mask_covers_all"


def test_the_folder_of_a_run(tmp_path):
    assert folder_of_run(tmp_path / "run" / "checkpoints") == tmp_path / "run"
    assert folder_of_run(tmp_path / "elsewhere") == tmp_path / "elsewhere"


def test_the_command_judges_runs(tmp_path, capsys):
    run(tmp_path / "good", 6)
    run(tmp_path / "bad", 6, masked=0.01)
    assert run_with("health", tmp_path / "good") == 0
    assert capsys.readouterr().out == "health after update 6: ok\n"
    assert run_with("health", tmp_path / "good", tmp_path / "bad", "--all") == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{tmp_path / 'good'}: health after update 2: ok"
    assert lines[2].startswith(f"{tmp_path / 'bad'}: health after update 4: collapsed: masked_share is 0.01")
    assert "raise model.mask_prob" in lines[2]


def test_the_command_reads_fairseqs_own_log(tmp_path, capsys):
    values = {"loss": "8.2", "code_perplexity": "98.7", "num_updates": "50"}
    line = f"[2026-11-25 21:14:35,033][train_inner][INFO] - {json.dumps(values)}\n"
    (tmp_path / "hydra_train.log").write_text("something else\n" + line)
    assert read_history(tmp_path)[0]["code_perplexity"] == 98.7
    assert run_with("health", tmp_path) == 0
    assert capsys.readouterr().out == "health after update 50: ok\n"


def finetuning_log(folder, letter_errors, every=300, losses=None):
    """Write the log of a fine-tuning as fairseq does, validations of two subsets after the row of the same update."""
    lines = []
    for number, error in enumerate(letter_errors, start=1):
        row = {"loss": str(losses[number - 1] if losses else 4.0), "gnorm": "1.2", "num_updates": str(number * every)}
        measured = {"uer": str(error), "loss": "3.9", "num_updates": str(number * every)}
        lines.append(f"[2026-11-27 01:00:00,000][train_inner][INFO] - {json.dumps(row)}")
        for subset, values in (("dev", measured), ("other", {**measured, "uer": "100"})):
            named = {f"{subset}_{name}": value for name, value in values.items()}
            lines.append(f"[2026-11-27 01:00:01,000][{subset}][INFO] - {json.dumps({'epoch': 1, **named})}")
    folder.mkdir()
    (folder / "hydra_train.log").write_text("\n".join(lines) + "\n")
    return folder


def test_a_fine_tuning_on_the_plateau_is_watched(tmp_path, capsys):
    # Letter errors on dev of recipes/small, an hour of labels, seed 2 (docs/evidence.md): mask_prob 0.5 and 0.15.
    stuck = finetuning_log(tmp_path / "stuck", [97.8, 98.9, 98.9, 98.9])
    learns = finetuning_log(tmp_path / "learns", [65.0, 59.3, 56.1, 54.4])
    assert read_history(learns)[1] == {
        "update": 600,
        "num_updates": 600,
        "loss": 4.0,
        "gnorm": 1.2,
        "valid_letter_error": 59.3,
        "valid_loss": 3.9,
    }
    assert run_with("health", stuck, learns) == 0
    watched, ok = capsys.readouterr().out.splitlines()
    assert "watch: valid_letter_error is 98.9 (above 90 for 300 updates)" in watched
    assert "lower model.mask_prob" in watched
    assert ok == f"{learns}: health after update 1200: ok"
    assert run_with("plot", stuck, learns, "--out", tmp_path / "curves") == 0
    assert "Letter error in validation" in (tmp_path / "curves.html").read_text()


def test_a_fine_tuning_that_hardly_leaves_the_plateau_is_watched(tmp_path, capsys):
    # recipes/small, an hour of labels, one pre-trained network: with seed 3 at 3e-3 and at 1.5e-3 (docs/evidence.md).
    slow = [83.0, 73.3, 68.1, 73.2, 71.0, 71.7, 71.4, 68.7], [4.12, 3.93, 3.79, 3.73, 3.68, 3.70, 3.65, 3.59]
    fast = [82.2, 69.8, 64.1, 65.9, 60.6, 59.9, 58.1, 57.6], [4.12, 3.54, 3.21, 3.01, 2.88, 2.74, 2.63, 2.5]
    runs = [
        finetuning_log(tmp_path / name, errors, 100, losses)
        for name, (errors, losses) in {"slow": slow, "fast": fast}.items()
    ]
    assert run_with("health", *runs) == 0
    watched, ok = capsys.readouterr().out.splitlines()
    assert "watch: valid_letter_error is 68.7" in watched
    assert "half of optimization.lr" in watched
    assert ok == f"{runs[1]}: health after update 800: ok"


def test_a_folder_without_a_run(tmp_path, capsys):
    with pytest.raises(InputError, match="log_format=json"):
        read_history(tmp_path)
    assert run_with("health", tmp_path / "missing") == 2
    assert "no such folder" in one_line_error(capsys)


def test_gradient_shares_of_blocks():
    model = torch.nn.ModuleDict({name: torch.nn.Linear(1, 1) for name in ("encoder", "project_q", "final_proj", "x")})
    for name, gradient in (("encoder", 3.0), ("project_q", 2.0), ("final_proj", 1.0)):
        model[name].weight.grad = torch.full((1, 1), gradient)
    expected = {"encoder": 9 / 14, "quantizer": 4 / 14, "projections": 1 / 14}
    assert gradient_shares(model) == pytest.approx(expected)
    assert gradient_shares(torch.nn.Linear(1, 1)) == {}


@pytest.mark.parametrize(("batches", "skipped"), [(2, 0), (4, 1), (3, 1), (6, 2)])
def test_skipped_updates_are_those_whose_batches_made_no_step(batches, skipped):
    watch = UpdateWatch()
    for _ in range(batches):
        watch.batch()
    assert watch.stepped(torch.nn.Linear(1, 1), 1, update_freq=2) == skipped
    with metrics.aggregate(new_root=True) as meters:
        watch.log(skipped)
        assert meters.get_smoothed_values()["skipped_share"] == pytest.approx(skipped / (skipped + 1), abs=1e-4)


def test_what_was_not_measured_is_shown_as_it_was_last():
    watch = UpdateWatch()
    with metrics.aggregate(new_root=True) as meters:
        watch.repeat_slow({"rank": 3.0, "loss": 1.0})
        watch.repeat_slow({"loss": 2.0})
        assert meters.get_smoothed_values() == {"rank": 3.0}
