"""What a tool's user sees when it ends early."""

import os
import subprocess
import sys
from pathlib import Path

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


def test_follow_names_a_command_that_is_not_there(tmp_path):
    command = [sys.executable, ROOT / "tools" / "follow.py", "--log", tmp_path / "new" / "log", "--", "no-such-program"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: no-such-program: no such command")
    assert not (tmp_path / "new").exists()
