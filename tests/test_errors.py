"""What a tool's user sees when it ends early."""

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ccc_w2v.cli.main import main
from ccc_w2v.errors import INTERRUPTED

ROOT = Path(__file__).parents[1]

TOOL = """
import sys
from ccc_w2v.errors import InputError, exit_on_input_error

@exit_on_input_error
def main():
    {body}

sys.exit(main())
"""


def run(body: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", TOOL.format(body=body)], stderr=subprocess.PIPE, text=True, check=False, **options
    )


def test_an_input_error_is_one_line_and_exit_code_2():
    done = run("raise InputError('a.tsv:3: two\\nlines')")
    assert done.returncode == 2
    assert done.stderr == "error: a.tsv:3: two lines\n"


def test_a_defect_keeps_its_traceback():
    done = run("return [][1]")
    assert done.returncode == 1
    assert "IndexError" in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error():
    for lines in (1, 100_000):  # less than the buffer, which is written at the end, and more
        with subprocess.Popen(["true"], stdin=subprocess.PIPE) as reader:
            reader.wait()
            done = run(f"print('line\\n' * {lines})", stdout=reader.stdin)
        assert done.stderr == ""
        assert done.returncode == 141


def test_ctrl_c_is_heard_where_fairseq_swallows_it(tmp_path):
    """fairseq/tasks/simultaneous_translation.py imports under "except BaseException"."""
    package = tmp_path / "fairseq" / "tasks"
    package.mkdir(parents=True)
    interrupted = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
    (tmp_path / "optional.py").write_text(interrupted)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package / "simultaneous_translation.py").write_text("try:\n    import optional\nexcept BaseException:\n    pass\n")
    code = (
        "import signal, sys\nfrom ccc_w2v.errors import exit_on_input_error\n"
        # A shell's background jobs inherit that Ctrl-C is ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def main():\n    import fairseq.tasks.simultaneous_translation\n    print('went on')\n"
        "sys.exit(exit_on_input_error(main)())"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (ended.returncode, ended.stdout) == (130, "")
    assert "interrupted; the same command continues" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_interrupted_import_that_says_something_else_is_an_interrupt():
    body = "import os, signal, time\n    try:\n        os.kill(os.getpid(), signal.SIGINT); time.sleep(60)\n"
    body += "    except BaseException:\n        raise ImportError('numpy: initialization failed')"
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n    "
    ended = subprocess.run(
        [sys.executable, "-c", TOOL.replace("@exit_on", heard.strip() + "\n@exit_on").format(body=body)],
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stderr.strip()) == (130, INTERRUPTED)


def test_an_interrupt_while_a_command_is_imported_is_one_line(monkeypatch, capsys):
    def import_module(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", import_module)
    assert main(["score"]) == 130
    assert capsys.readouterr().err.strip() == INTERRUPTED


@pytest.mark.parametrize(
    "raised",
    [
        "MemoryError()",
        "RuntimeError('CUDA out of memory. Tried to allocate 2.00 GiB')",
        'RuntimeError("[enforce fail] DefaultCPUAllocator: can\'t allocate memory: you tried to allocate")',
    ],
)
def test_a_machine_without_enough_memory_is_one_line(raised):
    done = run(f"raise {raised}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: out of memory (")
    assert done.stderr.count("\n") == 1


HYDRA_TRAIN = """
import os, signal, time
def interrupted():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
if os.environ["WHERE"] == "import":
    try:
        interrupted()
    except BaseException:
        print("went on")
def cli_main():
    interrupted()
"""


@pytest.mark.parametrize("where", ["import", "start"])
def test_ctrl_c_before_a_training_begins_is_one_line(tmp_path, where):
    """A module of fairseq takes a Ctrl-C at its import for a missing dependency."""
    (tmp_path / "fairseq_cli").mkdir()
    (tmp_path / "fairseq_cli" / "__init__.py").touch()
    (tmp_path / "fairseq_cli" / "hydra_train.py").write_text(HYDRA_TRAIN)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "WHERE": where}
    command = [sys.executable, "-m", "ccc_w2v.training.command"]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, preexec_fn=hear_ctrl_c)
    assert (ended.returncode, ended.stdout) == (130, "")
    assert ended.stderr.strip() == "interrupted before the training began"


def hear_ctrl_c():
    # A shell's background jobs inherit that Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)


TRAINING = """
import os, signal, sys, time
interrupts = []
signal.signal(signal.SIGINT, lambda *_: interrupts.append(1))
print("ready", flush=True)
while not interrupts:
    time.sleep(0.02)
for line in range(30):
    print(f"saving {line}", flush=True)
time.sleep(0.5)  # another interrupt would be here by now
open(sys.argv[1], "w").write(str(len(interrupts)))
print("told to stop: saved after update 3; the same command resumes")
sys.exit(130)
"""


@pytest.mark.parametrize("whole_job", [False, True], ids=["kill", "terminal"])
def test_ctrl_c_reaches_the_training_once_and_is_waited_for(tmp_path, whole_job):
    log, saved = tmp_path / "log", tmp_path / "saved"
    command = [sys.executable, ROOT / "tools" / "follow.py", "--log", log, "--", sys.executable, "-c", TRAINING, saved]
    with subprocess.Popen(
        list(map(str, command)), stderr=subprocess.PIPE, text=True, preexec_fn=hear_ctrl_c, start_new_session=True
    ) as follow:
        while not log.exists() or "ready" not in log.read_text():
            assert follow.poll() is None
            time.sleep(0.02)
        (os.killpg if whole_job else os.kill)(follow.pid, signal.SIGINT)
        said = follow.communicate()[1]
    assert follow.returncode == 130
    assert saved.read_text() == "1"
    assert "told to stop: saved after update 3; the same command resumes\n" in said
    assert "saving" not in said
    assert "Traceback" not in said


def test_follow_names_a_command_that_is_not_there(tmp_path):
    command = [sys.executable, ROOT / "tools" / "follow.py", "--log", tmp_path / "new" / "log", "--", "no-such-program"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: no-such-program: no such command")
    assert not (tmp_path / "new").exists()
