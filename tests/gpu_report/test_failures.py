"""What the report keeps of a test or a section that fails: the cause, not the warnings before it."""

import json

import pytest

from ccc_w2v.cli.main import main
from ccc_w2v.gpu_report import others, report
from ccc_w2v.gpu_report.failures import in_short, last_lines, reason_of
from ccc_w2v.gpu_report.section import ReportSection, ReportSettings

TINY = ["gpu-report", "--device", "cpu", "--size", "tiny"]
SETTINGS = ReportSettings("cpu", "tiny", 32_000, 2, 1)
# What the first run on a GPU lost, as pytest has it.
TRAINING = """AssertionError: fairseq/models/wav2vec/wav2vec2_asr.py:553: SyntaxWarning: invalid escape sequence '\\d'
    r = re.compile("encoder.layers.\\d.")
  UserWarning: the version_base parameter is not specified.
  error: Could not override 'task.deterministic'. To append to your config use +task.deterministic=true

assert 2 == 0
 +  where 2 = CompletedProcess(args=['fairseq-hydra-train'], returncode=2, stderr='error: Could not').returncode"""


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (TRAINING, "error: Could not override 'task.deterministic'. To append to your config use +task.determ"),
        (
            "AssertionError: Tensor-likes are not close!\n\nMismatched elements: 1 / 9\nGreatest absolute: 1",
            "AssertionError: Tensor-likes are not close!; Mismatched elements: 1 / 9; Greatest absolute: 1",
        ),
        (
            "\n-- Process 0 terminated with the following error:\nTraceback (most recent call last):\n  File x\n"
            "torch.distributed.DistBackendError: NCCL error: duplicate GPU",
            "torch.distributed.DistBackendError: NCCL error: duplicate GPU",
        ),
        ("", ""),
    ],
)
def test_a_message_is_shortened_to_its_cause(message, expected):
    assert in_short(message).startswith(expected)
    assert len(in_short(message * 50)) <= 300


def test_an_error_has_its_kind_and_its_cause():
    assert reason_of(RuntimeError("out of luck\nand more")) == "RuntimeError: out of luck; and more"
    assert reason_of(TimeoutError()) == "TimeoutError: no message"


def test_the_last_lines_are_bounded():
    kept = last_lines("\n".join(["x" * 1000] * 200 + ["the end"]))
    assert kept[-1] == "the end"
    assert (len(kept), max(map(len, kept))) == (80, 400)


def test_a_failing_test_keeps_its_cause_in_both_files(tmp_path, monkeypatch):
    tests = tmp_path / "tests" / "cuda"
    tests.mkdir(parents=True)
    (tests / "test_it.py").write_text(
        "import pytest\n@pytest.mark.cuda\ndef test_it():\n    code = 2\n"
        f"    assert code == 0, {TRAINING.partition(': ')[2]!r}\n"
        "@pytest.mark.cuda\ndef test_well():\n    pass\n"
    )
    monkeypatch.setattr(others, "TESTS", tmp_path / "tests")
    section = others.marked_tests(SETTINGS)
    assert section.failed
    failed, passed = section.rows
    assert (failed["outcome"], passed["outcome"]) == ("failed", "passed")
    assert failed["message"].startswith("error: Could not override 'task.deterministic'")
    assert any("error: Could not override" in line for line in failed["details"])
    assert failed["details"][-1].startswith("tests/cuda/test_it.py:5")
    table = report.markdown(
        {"settings": vars(SETTINGS), "sections": {"tests": vars(section) | {"seconds": 1.0}}, "missing": []}
    )
    assert "| failed | error: Could not override 'task.deterministic'" in table
    assert "details" not in table


def test_a_report_that_is_killed_holds_what_was_measured(tmp_path, monkeypatch):
    def killed(settings):
        raise KeyboardInterrupt

    sections = {"good": ("Good", lambda _: ReportSection([{"a": 7}])), "killed": ("Killed", killed)}
    monkeypatch.setattr(report, "SECTIONS", sections)
    assert main([*TINY, "--out", str(tmp_path / "out")]) == 130
    content = json.loads((tmp_path / "out/report.json").read_text())
    assert content["sections"]["good"]["rows"] == [{"a": 7}]
    assert content["missing"] == ["killed"]
    assert "| a |\n| --- |\n| 7 |" in (tmp_path / "out/report.md").read_text()


def test_a_section_that_fails_keeps_its_traceback(tmp_path, monkeypatch):
    def broken(settings):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(report, "SECTIONS", {"bad": ("Bad", broken)})
    assert main([*TINY, "--out", str(tmp_path / "out")]) == 1
    details = json.loads((tmp_path / "out/report.json").read_text())["sections"]["bad"]["details"]
    assert details[-1] == "RuntimeError: out of luck"
    assert any("in broken" in line for line in details)
