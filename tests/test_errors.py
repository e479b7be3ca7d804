"""What a tool's user sees when it ends early."""

import subprocess
import sys

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
    assert done.returncode == 2 and done.stderr == "error: a.tsv:3: two lines\n"


def test_a_defect_keeps_its_traceback():
    done = run("return [][1]")
    assert done.returncode == 1 and "IndexError" in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error():
    for lines in (1, 100_000):  # less than the buffer, which is written at the end, and more
        with subprocess.Popen(["true"], stdin=subprocess.PIPE) as reader:
            reader.wait()
            done = run(f"print('line\\n' * {lines})", stdout=reader.stdin)
        assert done.stderr == "" and done.returncode == 141
