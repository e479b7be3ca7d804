"""ccc-w2v gpu-report on a CPU: every section runs, is kept, and is written once; times are not asserted on."""

import json
import sys

import pytest

from ccc_w2v.cli.main import main
from ccc_w2v.gpu_report import others, report
from ccc_w2v.gpu_report.section import ReportSection, ReportSettings

LEFT_OUT = ["tests", "steps_bf16_compiled", "steps_fp16", "steps_fp16_compiled", "steps_fp32_compiled"]
TINY = ["gpu-report", "--device", "cpu", "--size", "tiny"]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A whole report, but for what takes minutes on a CPU: the tests themselves, torch.compile and fp16."""
    folder = tmp_path_factory.mktemp("report") / "out"
    measured = [name for name in report.SECTIONS if name not in LEFT_OUT]
    assert main([*TINY, "--out", str(folder), "--sections", *measured]) == 1  # some are missing
    return folder


def test_every_section_has_a_result(out):
    content = json.loads((out / "report.json").read_text())
    assert content["missing"] == LEFT_OUT
    for name, result in content["sections"].items():
        assert not result["failed"], (name, result["remarks"])
        assert result["rows"], name


def test_steps_have_all_that_is_asked_for(out):
    sections = json.loads((out / "report.json").read_text())["sections"]
    for precision in ("fp32", "bf16"):
        rows = {row["step"]: row for row in sections[f"steps_{precision}"]["rows"]}
        assert rows.keys() == {"fairseq wav2vec 2.0", "ours, one context", "ours, two views", "un-fused, two views"}
        for row in rows.values():
            assert row["seconds"] > 0
            assert row["peak memory [GiB]"] > 0
            assert row["hours of audio per device hour"] > 0
            assert row["of the matmul rate"] > 0
    assert rows["ours, one context"]["peak memory [GiB]"] < rows["ours, two views"]["peak memory [GiB]"]
    assert [row["gradients repeat bit for bit"] for row in sections["determinism"]["rows"]] == [True, True]
    assert {row["kernel"] for row in sections["attention"]["rows"]} <= {"flash", "math", "memory-efficient", "cuDNN"}
    started = {row["step"]: row["kernels"] for row in sections["kernels"]["rows"]}
    assert 0 < started["ours, one context"] < started["ours, two views"] * 1.05 < started["un-fused, two views"] * 1.05
    assert {row["processes"] for row in sections["processes"]["rows"]} == {1, 2}


def test_published_hours_are_those_of_their_updates(out):
    rows = json.loads((out / "report.json").read_text())["sections"]["published"]["rows"]
    # 400,000 updates of 64 x 1.4 million samples in 48.1 h on 8 GPUs.
    assert [row["hours of audio per device hour, at most"] for row in rows[:2]] == [1198, 1617]


def test_the_markdown_has_the_numbers_of_the_json(out):
    content, text = json.loads((out / "report.json").read_text()), (out / "report.md").read_text()
    for name, (title, _) in report.SECTIONS.items():
        assert f"## {title}\n" in text
        for row in content["sections"].get(name, {"rows": []})["rows"]:
            assert all(str(value).replace("|", "/") in text for value in row.values())
    assert text.count("Not measured yet.") == len(content["missing"])


def test_what_was_measured_is_kept_and_the_rest_goes_on(out, monkeypatch, capsys):
    for name, (title, _) in report.SECTIONS.items():
        done = (out / "sections" / f"{name}.json").is_file()
        stub = (
            (lambda settings: pytest.fail("measured twice")) if done else (lambda settings: ReportSection([{"a": 1}]))
        )
        monkeypatch.setitem(report.SECTIONS, name, (title, stub))
    assert main([*TINY, "--out", str(out), "--minutes", "0"]) == 1
    assert "not begun, the 0 minutes are over" in capsys.readouterr().out
    assert main([*TINY, "--out", str(out)]) == 0
    assert json.loads((out / "report.json").read_text())["missing"] == []


def test_a_section_that_fails_is_told_and_costs_no_other(tmp_path, monkeypatch):
    def broken(settings):
        raise RuntimeError("out of luck\nand more")

    monkeypatch.setattr(
        report, "SECTIONS", {"bad": ("Bad", broken), "good": ("Good", lambda _: ReportSection([{"a": 1}]))}
    )
    assert main([*TINY, "--out", str(tmp_path / "out")]) == 1
    text = (tmp_path / "out" / "report.md").read_text()
    assert "**Something is wrong here.**" in text
    assert "failed: RuntimeError: out of luck" in text
    assert "| a |\n| --- |\n| 1 |" in text


def test_mistakes_are_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["gpu-report", "--out", str(tmp_path / "out")]) == 2
    assert "no GPU that torch can use; --device cpu --size tiny" in capsys.readouterr().err
    assert main([*TINY, "--out", str(tmp_path / "out"), "--sections", "stepps"]) == 2
    assert "no section 'stepps'; there are machine, tests" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_other_settings_do_not_replace_a_report(out, capsys):
    assert main([*TINY, "--out", str(out), "--rounds", "2"]) == 2
    assert "made with other settings (rounds)" in capsys.readouterr().err


def test_without_a_search_greedy_decoding_is_measured_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "flashlight.lib.text.decoder.kenlm", None)
    section = others.decoding(ReportSettings("cpu", "tiny", 32_000, 2, 1))
    assert not section.failed
    assert {"greedy_real_time_factor"} <= {row["measured"] for row in section.rows}
    assert "Beam search was not measured" in section.remarks[0]
