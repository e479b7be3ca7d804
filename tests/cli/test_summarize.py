"""`ccc-w2v summarize`: the demo's table and summary.json."""

import json

import pytest

from tests.run_tool import one_line_error, run_tool

REFERENCES = ["press one", "hold the line please", "good bye now", "the number you dialled"]
HYPOTHESES = {
    "finetune": ["press one", "hold the lime please", "good by now", "the number you dialled"],
    "finetune_random": ["pres on", "hol te lime pleas", "god bi", "te numer yu"],
}


def write_run(folder):
    record = '[2026-01-01 00:00:00,000][train_inner][INFO] - {"num_updates": "%d", "audio_seconds": "%d", '
    record += '"loss_contrastive": "%.1f", "code_perplexity": "90"}\n'
    (folder / "pretrain").mkdir(parents=True)
    (folder / "pretrain" / "train.log").write_text(record % (10, 360, 5.5) + record % (150, 7200, 4.0))
    (folder / "seconds.tsv").write_text("prepare\t3\nfinetune\t10\nfinetune\t5\n")
    for name, texts in HYPOTHESES.items():
        decoded = folder / name / "decode"
        decoded.mkdir(parents=True)
        for file, lines in (("ref", REFERENCES), ("hyp", texts)):
            rows = [f"{text} (utterance-{index})\n" for index, text in enumerate(lines)]
            (decoded / f"{file}.trn").write_text("".join(rows))


def test_the_table_holds_both_models_and_their_paired_difference(tmp_path, capsys):
    write_run(tmp_path / "seed1")
    assert run_tool("summarize", run=tmp_path / "seed1", negatives=100) in (0, None)
    printed = capsys.readouterr().out
    summary = json.loads((tmp_path / "seed1" / "summary.json").read_text())
    assert summary["seconds"] == {"prepare": 3, "finetune": 15}
    assert summary["pretraining"]["hours_heard"] == 2
    assert summary["pretraining"]["updates"] == 150
    wer = summary["results"]["fine-tuned"]["wer"]
    # Two of 13 words are wrong after pre-training; from random weights all but one are, one of them left out.
    assert wer["after pre-training"]["rate"] == pytest.approx(2 / 13)
    assert wer["difference"]["rate"] == pytest.approx(
        wer["after pre-training"]["rate"] - wer["from random weights"]["rate"]
    )
    low, high = wer["difference"]["interval"]
    assert low < wer["difference"]["rate"] < high < 0
    assert list(summary["results"]) == ["fine-tuned"]  # neither a probe nor a language model here
    rows = [line for line in printed.splitlines() if line.startswith(("CER, fine-tuned", "WER, fine-tuned"))]
    assert len(rows) == 2
    assert "15.4%" in rows[1]
    assert printed.index("from random weights") < printed.index("after pre-training")
    picture = (tmp_path / "seed1" / "summary.svg").read_text()
    for text in ("from random weights", "after pre-training", "fine-tuned", "% (lower is better)"):
        assert f">{text}<" in picture
    # The heights of the four bars, and the whole picture again at a second call.
    rates = [summary["results"]["fine-tuned"][rate] for rate in ("cer", "wer")]
    for name in ("from random weights", "after pre-training"):
        assert all(f">{100 * rate[name]['rate']:.0f}<" in picture for rate in rates)
    assert run_tool("summarize", run=tmp_path / "seed1", negatives=100) in (0, None)
    assert (tmp_path / "seed1" / "summary.svg").read_text() == picture


def test_a_run_without_statistics_is_one_line(tmp_path, capsys):
    write_run(tmp_path / "seed1")
    (tmp_path / "seed1" / "pretrain" / "train.log").write_text("nothing\n")
    assert run_tool("summarize", run=tmp_path / "seed1", negatives=100) == 2
    assert "no line of training statistics" in one_line_error(capsys)
